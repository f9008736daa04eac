"""Token estimates: the stated band on a corpus with reference counts, and what they cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.policy.limits import DEFAULT_OUTPUT, estimate_need, estimate_tokens
from agentkit.types import Message, MessageRole, Request, ToolCall, ToolSpec

FIXTURES = Path(__file__).parent / "fixtures"
COUNTS: dict[str, dict[str, int]] = json.loads((FIXTURES / "counts.json").read_text())["tokens"]
CLOSE = {"english", "question", "python", "javascript"}


def text_of(name: str) -> str:
    return (FIXTURES / f"{name}.txt").read_text(encoding="utf-8")


def test_every_text_of_the_corpus_has_its_counts() -> None:
    assert {path.stem for path in FIXTURES.glob("*.txt")} == set(COUNTS)


@pytest.mark.promise("S4-34")
@pytest.mark.parametrize("name", COUNTS)
def test_each_text_is_within_its_stated_band(name: str) -> None:
    off = estimate_tokens(text_of(name)) / COUNTS[name]["o200k_base"] - 1
    assert abs(off) <= (0.10 if name in CLOSE else 0.15)


def test_the_corpus_as_a_whole_is_within_five_percent() -> None:
    estimated = sum(estimate_tokens(text_of(name)) for name in COUNTS)
    assert estimated == pytest.approx(sum(c["o200k_base"] for c in COUNTS.values()), rel=0.05)


def test_the_other_vocabulary_is_as_far_off_as_the_docstring_says() -> None:
    more = {name: count["cl100k_base"] / count["o200k_base"] for name, count in COUNTS.items()}
    assert max(more, key=more.__getitem__) == "chinese"
    assert 1.5 < more["chinese"] < 1.6
    assert 1.25 < more["german"] < 1.3


def test_a_flat_count_of_bytes_would_miss_the_band() -> None:
    """The corpus can tell a bad estimate from a good one."""
    flat = {name: len(text_of(name).encode()) / 4 for name in COUNTS}
    outside = {n for n, each in flat.items() if abs(each / COUNTS[n]["o200k_base"] - 1) > 0.15}
    assert {"json", "numbers", "emoji"} <= outside


@given(st.text())
def test_any_text_has_an_estimate_between_nothing_and_its_bytes(text: str) -> None:
    tokens = estimate_tokens(text)
    assert bool(tokens) == bool(text.replace("  ", ""))
    assert 0 <= tokens <= 2 * len(text.encode("utf-8", "replace"))


@given(st.text(), st.text())
def test_two_texts_take_about_what_they_take_together(one: str, other: str) -> None:
    assert abs(estimate_tokens(one) + estimate_tokens(other) - estimate_tokens(one + other)) <= 3


def test_text_that_is_not_unicode_is_estimated() -> None:
    assert estimate_tokens("\ud800") == 1


def test_messages_pictures_and_the_answer_are_counted() -> None:
    picture = {"type": "image", "data": b"", "media_type": "image/png"}
    request = Request(
        messages=(
            Message(MessageRole.SYSTEM, "Be brief."),
            Message(MessageRole.USER, [{"type": "text", "text": "What is this?"}, picture]),
        ),
        params={"max_tokens": 77},
    )
    need = estimate_need(request)
    assert (
        need.input_tokens
        == estimate_tokens("Be brief.") + estimate_tokens("What is this?") + 8 + 1000
    )
    assert need.output_tokens == 77


def of_message(*parts: Any, **rest: Any) -> int:
    return estimate_need(Request(messages=(Message("user", parts, **rest),))).input_tokens - 4


def test_a_tool_counts_with_its_name_description_and_schema() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = ToolSpec("weather", "Tell the weather of a city.", schema)
    bare, one, two = (
        estimate_need(Request(prompt="Hi", tools=tools)).input_tokens
        for tools in ((), (tool,), (tool, tool))
    )
    texts = estimate_tokens("weather") + estimate_tokens("Tell the weather of a city.")
    assert one - bare == texts + estimate_tokens(json.dumps(schema)) + 8
    assert two - one == one - bare


def test_the_schema_of_an_answer_counts() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    schema_format = {"type": "json_schema", "name": "City", "schema": schema}
    plain = estimate_need(Request(prompt="Hi")).input_tokens
    asked = estimate_need(Request(prompt="Hi", response_format=schema_format)).input_tokens
    assert asked - plain == estimate_tokens(json.dumps(schema)) + 8


def test_tool_calls_and_their_results_count() -> None:
    arguments = {"text": "größer " * 50}
    called = of_message(tool_calls=(ToolCall("call_1", "look", arguments),))
    assert (
        called
        == estimate_tokens("look") + estimate_tokens(json.dumps(arguments, ensure_ascii=False)) + 8
    )
    result = of_message({"type": "text", "text": "Found."}, tool_call_id="call_1")
    assert result == estimate_tokens("Found.") + 8


@pytest.mark.parametrize("value", [float("nan"), object(), {("no", "text"): 1}])
def test_arguments_that_no_adapter_could_send_are_estimated_all_the_same(value: Any) -> None:
    assert of_message(tool_calls=(ToolCall("1", "look", {"x": value}),)) >= 8


def test_arguments_that_contain_themselves_are_estimated() -> None:
    circle: dict[str, Any] = {}
    circle["again"] = circle
    assert of_message(tool_calls=(ToolCall("1", "look", circle),)) == estimate_tokens("look") + 8


PDF = (
    b"%PDF-1.7 /Type /Pages /Count 3 " + b"<< /Type /Page >> " * 2 + b"<</Type/Page/Parent 1 0 R>>"
)
PACKED = b"%PDF-1.7" + b"x" * 120_000


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"data": PDF, "media_type": "application/pdf"}, 6000),
        ({"data": PACKED, "media_type": "application/pdf"}, 6000),
        ({"data": b"%PDF", "media_type": "application/pdf"}, 2000),
        ({"url": "https://example.com/a.pdf"}, 2000),
        ({"data": "Größe".encode(), "media_type": "text/plain"}, estimate_tokens("Größe")),
        (
            {"source": {"type": "text", "media_type": "text/plain", "data": "Hi"}},
            estimate_tokens("Hi"),
        ),
        ({"source": {"type": "base64", "data": "A" * 160_000}}, 6000),
        ({"file": {"file_data": "data:application/pdf;base64," + "A" * 160_000}}, 6000),
        ({"data": b"", "media_type": "application/pdf"}, 2000),
        ({"source": 7}, 2000),
    ],
    ids=["pages", "packed", "tiny", "url", "text", "text of Anthropic", "base64", "file of OpenAI",
         "empty", "nonsense"],
)  # fmt: skip
def test_a_document_counts_by_its_pages_or_its_text(part: Any, tokens: int) -> None:
    assert of_message({"type": "document", **part}) == tokens


@pytest.mark.parametrize("part", [{"type": "image_url", "image_url": {"url": "x"}}, {"image": {}}])
def test_an_image_of_another_dialect_counts_as_an_image(part: Any) -> None:
    assert of_message(part) == 1000


def test_an_invalid_part_counts_nothing() -> None:
    assert of_message("text", 7) == 0


@pytest.mark.parametrize("limit", [None, 0, -1, "many"])
def test_without_a_usable_maximum_the_usual_answer_is_reserved(limit: Any) -> None:
    assert estimate_need(Request(prompt="Hi", params={"max_tokens": limit})).output_tokens == (
        DEFAULT_OUTPUT
    )


def calls_of(work: Callable[[], object]) -> int:
    """How many functions `work` calls, those written in C included."""
    events: list[str] = []
    sys.setprofile(lambda _, event, __: events.append(event))
    try:
        work()
    finally:
        sys.setprofile(None)
    return sum(event in ("call", "c_call") for event in events)


def test_no_python_runs_for_each_character() -> None:
    text = text_of("python")
    calls = calls_of(lambda: estimate_tokens(text))
    assert calls < 50
    assert calls_of(lambda: estimate_tokens(text * 200)) == calls
