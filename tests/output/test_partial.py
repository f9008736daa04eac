"""`stream(response_model=…).partials()`: instances that grow, and the validated one at the end."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, NotRequired

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, model_validator
from typing_extensions import TypedDict

from agentkit import (
    ConfigurationError,
    LLMManager,
    Request,
    Response,
    Restart,
    StructuredOutputError,
    TextDelta,
)
from agentkit.output.partial import PartialInstances
from agentkit.output.validation import check_for
from agentkit.testing import ScriptedModel, faults
from tests.output.shapes import Circle, Node, Square, instances


class Step(BaseModel):
    title: str
    minutes: int = Field(gt=0)


class Plan(BaseModel):
    goal: str
    steps: list[Step]
    budget: float | None = None


PLAN = Plan(
    goal="tea", steps=[Step(title="boil", minutes=12), Step(title="pour", minutes=1)], budget=3.5
)
TEXT = PLAN.model_dump_json()


def letters(text: str) -> list[str]:
    return list(text)


def streaming(
    *steps: Any, chunks: Callable[[str], Sequence[str]] = letters, **options: Any
) -> tuple[LLMManager, ScriptedModel]:
    options.setdefault("enable_caching", False)
    llm = LLMManager(**options)
    model = ScriptedModel(*steps, chunks=chunks)
    llm.register_model("m", model.as_stream())
    return llm, model


def blocking(llm: LLMManager, kind: Any, **options: Any) -> tuple[list[Any], Response[Any]]:
    with llm.stream("x", response_model=kind, **options) as stream:
        return list(stream.partials()), stream.response


def looping(llm: LLMManager, kind: Any, **options: Any) -> tuple[list[Any], Response[Any]]:
    async def read() -> tuple[list[Any], Response[Any]]:
        async with llm.astream("x", response_model=kind, **options) as stream:
            return [each async for each in stream.partials()], stream.response

    return asyncio.run(read())


sync_and_async = pytest.mark.parametrize("read", [blocking, looping])


@sync_and_async
def test_fields_are_shown_once_they_are_complete(read: Any) -> None:
    shown, response = read(streaming(TEXT)[0], Plan)
    assert all(isinstance(each, Plan) for each in shown)
    texts = [
        (each.goal, [(step.title, step.minutes) for step in each.steps or ()]) for each in shown
    ]
    assert list(dict.fromkeys(map(str, texts))) == [
        "('tea', [])",
        "('tea', [(None, None)])",
        "('tea', [('boil', None)])",
        "('tea', [('boil', 12)])",
        "('tea', [('boil', 12), (None, None)])",
        "('tea', [('boil', 12), ('pour', None)])",
        "('tea', [('boil', 12), ('pour', 1)])",
    ], "no 'te' and no 1 on the way to 12"
    assert shown[-1] == response.parsed == PLAN
    assert shown[-1].budget == 3.5
    assert response.text == TEXT


def test_an_instance_says_what_has_arrived() -> None:
    shown, _ = blocking(streaming(TEXT)[0], Plan)
    assert [sorted(each.model_fields_set) for each in (shown[0], shown[1], shown[-1])] == [
        ["goal"],
        ["goal", "steps"],
        ["budget", "goal", "steps"],
    ]


def test_the_text_can_be_read_as_before() -> None:
    llm, _ = streaming(TEXT)
    with llm.stream("x", response_model=Plan) as stream:
        assert "".join(stream) == TEXT
    assert stream.response.parsed == PLAN


@sync_and_async
def test_an_answer_that_is_invalid_at_its_end_is_an_error_with_the_text(read: Any) -> None:
    bad = '{"goal": "tea", "steps": [{"title": "boil", "minutes": 0}]}'
    llm, model = streaming(bad)
    with pytest.raises(StructuredOutputError) as caught:
        read(llm, Plan)
    assert caught.value.raw == bad
    assert caught.value.violations == ["$.steps[0].minutes: Input should be greater than 0"]
    assert caught.value.ledger is not None
    assert caught.value.ledger.answered_by == "m"
    assert len(model.calls) == 1, "what was shown is not asked again"
    assert llm.get_model_info("m")["circuit_breaker_state"] == "closed"


@sync_and_async
def test_what_is_invalid_is_never_shown_within(read: Any) -> None:
    bad = '{"steps": [{"title": "boil", "minutes": 0}], "goal": "tea", "budget": "none"}'
    shown: list[Any] = []
    llm, _ = streaming(bad)
    stream = llm.stream("x", response_model=Plan)
    with pytest.raises(StructuredOutputError):
        shown.extend(stream.partials())
    check, _ = check_for(Plan, Request(prompt="x"))
    partial_builder = check.partial_builder()
    for letter in bad:
        shown.extend(partial_builder.add(TextDelta(letter)))
    assert all(step.minutes is None for each in shown for step in each.steps or ())
    assert all(each.budget is None for each in shown)
    assert shown[-1].goal == "tea"


def test_a_stream_without_a_type_has_no_partial_instances() -> None:
    llm, _ = streaming("text", "text")
    with pytest.raises(ConfigurationError, match="response_model"):
        llm.stream("x").partials()
    with pytest.raises(ConfigurationError, match="response_model"):
        llm.astream("x").partials()


def test_a_type_without_a_schema_is_refused_before_anything_is_read() -> None:
    llm, model = streaming("text")
    with pytest.raises(ConfigurationError, match="JSON schema"):
        llm.stream("x", response_model=type(threading.Lock()))
    assert model.calls == ()


@sync_and_async
def test_a_restart_begins_anew(read: Any) -> None:
    cut = ScriptedModel(faults.cut_stream(40, reply=TEXT), chunks=letters).as_stream()
    llm, _ = streaming()
    llm.register_model("a", cut)
    other = TEXT.replace("tea", "soup")
    llm.register_model("b", ScriptedModel(other, chunks=letters).as_stream())
    shown, response = read(llm, Plan, model=["a", "b"], on_interrupt="restart")
    assert response.parsed.goal == "soup"
    assert shown[-1] == response.parsed
    goals = [each.goal for each in shown]
    assert goals == sorted(goals, reverse=True), "tea until the restart, then soup"
    assert not shown[goals.index("soup")].steps, "the second text starts from nothing"


def test_the_response_cache_neither_answers_nor_keeps_such_a_stream() -> None:
    llm, model = streaming("no JSON", TEXT, cache="memory", enable_caching=True)
    with pytest.raises(StructuredOutputError):
        blocking(llm, Plan)
    assert blocking(llm, Plan)[1].parsed == PLAN
    assert len(model.calls) == 2


def test_a_response_with_tool_calls_gives_no_instance() -> None:
    from agentkit import End, ToolCall

    def search(q: str) -> str:
        return q

    end = End("tool_calls", tool_calls=(ToolCall("c", "search", {"q": "tea"}),))
    llm = LLMManager(enable_caching=False)
    llm.register_model("m", ScriptedModel([end]).as_stream("tools"))
    shown, response = blocking(llm, Plan, tools=[search])
    assert shown == []
    assert response.tool_calls == end.tool_calls


@given(made=instances(), data=st.data())
@settings(deadline=None)
def test_the_last_instance_is_equal_however_the_text_is_split(
    made: tuple[Any, Any, Any], data: st.DataObject
) -> None:
    kind, value, document = made
    check, request = check_for(kind, Request(prompt="x"))
    assert request.response_format is not None
    if request.response_format["schema"].get("title") == "Answer":
        document = {"value": document}
    text = data.draw(st.sampled_from(["", "See [this] {so}:\n```json\n"])) + json.dumps(
        document, ensure_ascii=data.draw(st.booleans())
    )
    at = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=len(text))))
    pieces = [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]
    llm, _ = streaming("".join(pieces), chunks=lambda _: pieces)
    shown, response = blocking(llm, kind)
    assert response.parsed == value
    assert shown[-1] == value
    partial_builder = check.partial_builder()
    assert [each for piece in pieces for each in partial_builder.add(TextDelta(piece))] == shown[
        :-1
    ]


def test_the_work_for_a_long_answer_is_in_proportion_to_its_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pydantic_core

    parse, parsed = pydantic_core.from_json, 0

    def counting(text: str, **options: Any) -> Any:
        nonlocal parsed
        parsed += len(text)
        return parse(text, **options)

    monkeypatch.setattr(pydantic_core, "from_json", counting)
    steps = [Step(title=f"step {number}", minutes=1) for number in range(3000)]
    text = Plan(goal="tea", steps=steps).model_dump_json()
    builder = PartialInstances(Plan, wrapped=False)
    sizes = [
        len(each.steps)
        for start in range(0, len(text), 4)
        for each in builder.add(TextDelta(text[start : start + 4]))
        if each.steps
    ]
    assert parsed < 80 * len(text)
    assert sizes == sorted(sizes)
    gaps = [after / before for before, after in itertools.pairwise(sizes) if before > 90]
    assert max(gaps) < 1.05, "an instance each time the text has grown a little"
    assert sizes[-1] > 0.98 * len(steps)


@given(made=instances())
@settings(deadline=None)
def test_what_has_arrived_only_grows(made: tuple[Any, Any, Any]) -> None:
    kind, _, document = made
    check, _ = check_for(kind, Request(prompt="x"))
    partial_builder = check.partial_builder()
    before: Any = None
    for letter in json.dumps(document):
        for each in partial_builder.add(TextDelta(letter)):
            after = arrived(each)
            assert before is None or within(before, after), (before, after)
            before = after


def arrived(value: Any) -> Any:
    """What of a partial instance is not a default."""
    if isinstance(value, BaseModel):
        return {name: arrived(getattr(value, name)) for name in value.model_fields_set}
    if isinstance(value, dict):
        return {key: arrived(item) for key, item in value.items()}
    return [arrived(item) for item in value] if isinstance(value, list) else value


def within(before: Any, after: Any) -> bool:
    if isinstance(before, dict) and isinstance(after, dict):
        return all(key in after and within(item, after[key]) for key, item in before.items())
    if isinstance(before, list) and isinstance(after, list):
        return len(before) <= len(after) and all(map(within, before, after))
    return bool(before == after)


def grown(kind: Any, *pieces: str, wrapped: bool = False) -> Any:
    """The last partial instance after `pieces`."""
    partial_builder = PartialInstances(kind, wrapped=wrapped)
    return [each for piece in pieces for each in partial_builder.add(TextDelta(piece))][-1]


@dataclasses.dataclass
class Point:
    x: int
    y: int = 7
    tags: list[str] = dataclasses.field(default_factory=list)


class TestKinds:
    def test_a_union_is_shown_once_one_member_fits_best(self) -> None:
        partial_builder = PartialInstances(list[Circle | Square], wrapped=False)
        shown = [
            partial_builder.add(TextDelta(piece)) for piece in ('[{"kind": ', '"square", "side": 3')
        ]
        assert shown[0] == ([],)
        assert [type(each) for each in shown[1][0]] == [Square]

    def test_lists_dicts_sets_and_tuples_of_what_is_complete(self) -> None:
        assert grown(list[int], "[1, 22, 3") == [1, 22]
        assert grown(set[int], "[1, 1, 2,") == {1, 2}
        assert grown(tuple[int, str], '[1, "x", ') == (1, "x")
        assert grown(tuple[int, ...], "[1, 2, ") == (1, 2)
        assert grown(dict[str, list[int]], '{"a": [1], "b": [2, 3') == {"a": [1], "b": [2]}
        assert grown(dict[int, Step], '{"1": {"title": "x", "min')[1].title == "x"

    def test_a_dataclass(self) -> None:
        assert grown(Point, '{"x": 1, "tags": ["a", ') == Point(1, 7, ["a"])
        assert grown(Point, '{"tags": [').x is None

    def test_a_typed_dict_has_what_has_arrived(self) -> None:
        class Row(TypedDict):
            a: int
            b: NotRequired[list[int]]

        assert grown(Row, '{"b": [1, 2], "a"') == {"b": [1, 2]}

    def test_a_recursive_model_and_a_root_model(self) -> None:
        node = grown(Node, '{"name": "a", "kids": [{"name": "b", "kids": [{"na')
        assert (node.name, node.kids[0].name, node.kids[0].kids[0].name) == ("a", "b", None)
        assert grown(RootModel[list[int]], "[1, 2,").root == [1, 2]

    def test_a_wrapped_value(self) -> None:
        assert grown(list[int], '{"value": [1, 2,', wrapped=True) == [1, 2]
        assert grown(list[int], "[1, 2,", wrapped=True) == [1, 2]

    def test_rules_of_the_whole_wait_for_the_whole(self) -> None:
        class Span(BaseModel):
            low: int
            high: int

            @model_validator(mode="after")
            def ordered(self) -> Span:
                assert self.low <= self.high
                return self

        assert grown(Span, '{"low": 3,').low == 3
        assert grown(list[Span], '[{"low": 3, "high": 1}, {"low": 1, "high": 2},') == [
            Span(low=1, high=2)
        ]

    def test_an_alias_is_the_name_in_the_answer(self) -> None:
        class Named(BaseModel):
            the_name: str = Field(alias="theName")
            kind: Literal["a"] = "a"

        assert grown(Named, '{"theName": "x",').the_name == "x"

    @pytest.mark.parametrize(
        "text", ["{" * 300, "[" * 100_000, "[see] {[that] ", '"\ud800', '["\ud800", ', "}]", ""]
    )
    def test_text_without_json_gives_nothing_and_no_error(self, text: str) -> None:
        partial_builder = PartialInstances(Plan, wrapped=False)
        assert [
            each for letter in text[:500] for each in partial_builder.add(TextDelta(letter))
        ] == []
        assert partial_builder.add(TextDelta(text)) == ()

    def test_escapes_may_be_split_anywhere(self) -> None:
        text = json.dumps({"goal": 'a "quoted" \\ {x} [y], \\', "steps": []})
        for cut in range(len(text)):
            assert grown(Plan, text[:cut], text[cut:-1] + ",").goal == 'a "quoted" \\ {x} [y], \\'

    def test_a_restart_event_forgets_the_text(self) -> None:
        partial_builder = PartialInstances(Plan, wrapped=False)
        assert partial_builder.add(TextDelta('{"goal": "tea", "steps": [{'))[0].goal == "tea"
        assert partial_builder.add(Restart("b", "", "NetworkError")) == ()
        assert partial_builder.add(TextDelta('{"budget": 1, '))[0].goal is None
