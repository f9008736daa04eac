"""`response_model`: what is read as the answer, what is asked again, and what never gets there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel

from agentkit import (
    AllModelsFailedError,
    Message,
    Request,
    Response,
    RetryPolicy,
    StructuredOutputError,
    ToolCall,
)
from agentkit.output.json_text import values_in
from agentkit.output.validation import check_for
from tests.helpers import Town, manager_of
from tests.output.shapes import Circle, Node, Shade, Square, instances


class Trip(BaseModel):
    days: int = Field(ge=1, le=10)
    stops: list[Town]
    note: str | None = None


PARIS = Town(name="Paris", population=2_000_000)
GOOD = PARIS.model_dump_json()
BAD = '{"name": "Paris", "population": 0}'


class Model:
    """Answers from a list and keeps the conversations it got; errors in the list are raised."""

    capabilities = ("messages", "tools", "json_schema")

    def __init__(self, *answers: str | Response[Any] | Exception, then: str | None = None) -> None:
        self.answers = list(answers)
        self.then = then
        self.asked: list[Request] = []

    def send(self, request: Request) -> str | Response[Any]:
        self.asked.append(request)
        answer = self.answers.pop(0) if self.answers else self.then
        assert answer is not None
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def prompts(self) -> list[tuple[Message, ...]]:
        return [request.conversation for request in self.asked]


def read(response_model: Any, answer: str | Response[Any], **request: Any) -> Any:
    check, _ = check_for(response_model, Request(prompt="x", **request))
    return check.accept(Response(answer) if isinstance(answer, str) else answer).parsed


def rejected(response_model: Any, answer: str | Response[Any]) -> StructuredOutputError:
    with pytest.raises(StructuredOutputError) as caught:
        read(response_model, answer)
    return caught.value


def called(arguments: dict[str, Any], name: str = "answer", text: str = "") -> Response[Any]:
    return Response(text, tool_calls=(ToolCall("c1", name, arguments),))


WAYS: dict[str, Callable[[str], str | Response[Any]]] = {
    "plain": lambda text: text,
    "spaced": lambda text: f"\n\n  {text}\t\n",
    "marked": lambda text: f"\ufeff{text}",
    "fenced": lambda text: f"```json\n{text}\n```",
    "fenced without a language": lambda text: f"```\n{text}\n```",
    "fenced in prose": lambda text: f"As [asked] {{so}}:\n```JSON\r\n{text}\n```\nAnything else?",
    "in prose": lambda text: f"Sure, see [the note]: {text} I hope it helps {{:-)}}.",
    "forced tool": lambda text: called(json.loads(text)),
    "forced tool with talk": lambda text: called(json.loads(text), text="Let me see."),
}


@pytest.mark.promise("S2-05")
@pytest.mark.parametrize("way", WAYS)
def test_an_answer_may_come_in_many_ways(way: str) -> None:
    assert read(Town, WAYS[way](GOOD)) == PARIS


@pytest.mark.promise("S2-28")
@given(made=instances(), way=st.sampled_from([*WAYS]), wrap=st.booleans())
@settings(deadline=None)
def test_every_instance_comes_back_equal_however_it_is_sent(
    made: tuple[Any, Any, Any], way: str, wrap: bool
) -> None:
    kind, value, document = made
    check, request = check_for(kind, Request(prompt="x"))
    document = {"value": document} if is_wrapped(request) else document
    model = Model(WAYS[way](json.dumps(document, ensure_ascii=wrap)))
    reply = manager_of(model).complete("x", response_model=kind)
    assert reply.parsed == value
    assert reply.tool_calls == ()
    assert check.accept(Response(reply.text)).parsed == value


@pytest.mark.promise("S2-28")
@given(made=instances(), data=st.data())
@settings(deadline=None)
def test_a_corrupted_instance_is_rejected_with_the_path_of_the_corruption(
    made: tuple[Any, Any, Any], data: st.DataObject
) -> None:
    kind, _, document = made
    _, request = check_for(kind, Request(prompt="x"))
    document = {"value": document} if is_wrapped(request) else document
    leaves = list(leaves_of(document))
    assume(leaves)
    *way, last = data.draw(st.sampled_from(leaves))
    place = document
    for step in way:
        place = place[step]
    place[last] = [[[[[[["nothing is like this"]]]]]]]
    error = rejected(kind, json.dumps(document))
    path = "$" + "".join(map(step_of, [*way, last]))
    assert any(each.startswith(path) for each in error.violations), (path, error.violations)
    assert json.loads(error.raw) == document


def is_wrapped(request: Request) -> bool:
    assert request.response_format is not None
    schema = request.response_format["schema"]
    assert schema["type"] == "object", "what every provider takes at the top"
    return bool(schema.get("title") == "Answer" and [*schema["properties"]] == ["value"])


def leaves_of(document: Any) -> Iterator[tuple[Any, ...]]:
    """Where the scalars are."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, item in entries:
        if isinstance(item, dict | list):
            yield from ((key, *rest) for rest in leaves_of(item))
        else:
            yield (key,)


def step_of(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    return f".{key}" if key.replace("-", "_").isidentifier() else f"[{json.dumps(key)}]"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (list[int], [1, 2]),
        (int, 42),
        (str, "text"),
        (bool, False),
        (int | None, None),
        (Literal["a", "b"], "b"),
        (Shade, Shade.DEEP_BLUE),
        (Circle | Square, Square(side=3)),
        (RootModel[list[int]], RootModel[list[int]]([3])),
        (tuple[int, str], (1, "x")),
    ],
    ids=str,
)
def test_a_type_that_is_not_an_object_is_requested_as_one(kind: Any, value: Any) -> None:
    from pydantic import TypeAdapter

    _, request = check_for(kind, Request(prompt="x"))
    assert is_wrapped(request)
    text = TypeAdapter(kind).dump_json(value).decode()
    assert read(kind, f'{{"value": {text}}}') == value
    assert read(kind, text) == value


class Options(BaseModel):
    """Ignores unknown names, and has a default for each of its own."""

    shade: str = "red"
    size: int = 1


class Holder(BaseModel):
    value: int = 0


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Options | None, '{"value": {"shade": 5}}'),
        (Options | None, '{"value": "nothing is like this"}'),
        (Options | None, '{"value": [], "note": "see above"}'),
        (Options | None, '{"color": "blue"}'),
        (Options | None, "{}"),
        (Options | list[Options], '{"value": 3}'),
        (list[Options] | Holder, '{"value": "nothing"}'),
        (Literal["a", 1] | Options, '{"value": "b"}'),
        (int, '{"value": "nothing"}'),
    ],
)
def test_an_invalid_answer_is_never_an_instance_of_defaults(kind: Any, answer: str) -> None:
    assert json.loads(rejected(kind, answer).raw) == json.loads(answer)


@pytest.mark.parametrize(
    ("kind", "answer", "value"),
    [
        (Options | None, '{"size": 2, "note": "large"}', Options(size=2)),
        (Holder | None, '{"value": 3}', Holder(value=3)),
        (Holder | None, '{"value": {"value": 3}}', Holder(value=3)),
        (dict[str, int] | None, '{"a": 1}', {"a": 1}),
        (dict[str, int] | None, "{}", {}),
        (Node | None, '{"name": "x"}', Node(name="x")),
    ],
)
def test_an_object_without_the_one_around_it_has_a_name_that_the_type_knows(
    kind: Any, answer: str, value: Any
) -> None:
    assert read(kind, answer) == value


def test_a_recursive_type_is_an_object_at_the_top_of_its_schema() -> None:
    _, request = check_for(Node, Request(prompt="x"))
    assert request.response_format is not None
    schema = request.response_format["schema"]
    assert (schema["type"], [*schema["properties"]]) == ("object", ["name", "kids"])
    assert "Node" in schema["$defs"]


def test_the_schema_of_one_request_is_not_that_of_the_next() -> None:
    for _ in range(2):
        _, request = check_for(Town, Request(prompt="x"))
        assert request.response_format is not None
        schema = request.response_format["schema"]
        assert [*schema["properties"]] == ["name", "population"]
        schema["properties"].clear()


@pytest.mark.parametrize("kind", [list[int], dict[str, RootModel[int]], RootModel[list[int]]])
def test_every_provider_takes_the_name_of_the_schema(kind: Any) -> None:
    _, request = check_for(kind, Request(prompt="x"))
    assert request.response_format is not None
    name = request.response_format["name"]
    assert name.replace("_", "").replace("-", "").isalnum()
    assert len(name) <= 64


def test_of_duplicate_keys_the_last_counts() -> None:
    assert read(Town, '{"name": "Rome", "population": 0, "population": 5, "name": "Oslo"}') == Town(
        name="Oslo", population=5
    )


def test_the_first_value_that_matches_is_the_answer() -> None:
    assert read(Town, f"As [1] and {BAD} show: {GOOD}, or {GOOD.replace('Paris', 'Rome')}") == PARIS


def test_a_part_of_a_truncated_answer_is_not_the_answer() -> None:
    cut = '{"days": 2, "stops": [{"name": "Paris", "population": 3}'
    assert list(values_in(f"Here: {cut}")) == []
    error = rejected(Town, f"Here: {cut}")
    assert "EOF" in error.violations[0]
    reply = rejected(Trip, Response(cut, finish_reason="length"))
    assert "max_tokens" in str(reply)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        "[{" * 50_000,
        "[1,",
        "{" * 9 + "}" * 9,
        '"\ud800"',
        "\x00",
        "",
    ],
    ids=lambda text: f"{text[:5]!r}x{len(text)}",
)
def test_hostile_text_is_rejected_in_time(text: str) -> None:
    error = rejected(Town, text)
    assert error.raw == text
    assert error.violations


class TestToolCalls:
    def offered(self, *names: str) -> dict[str, Any]:
        from agentkit.types import ToolSpec

        return {"tools": tuple(ToolSpec(name) for name in names)}

    def accept(self, response: Response[Any], *tools: str) -> Response[Any]:
        check, _ = check_for(Town, Request(prompt="x", **self.offered(*tools)))
        return check.accept(response)

    def test_a_call_of_an_offered_tool_is_not_checked(self) -> None:
        response = called({"q": "Paris"}, "search")
        assert self.accept(response, "search") is response

    def test_a_call_of_an_unknown_tool_is_not_checked_either(self) -> None:
        response = called({"q": "Paris"}, "unknown")
        assert self.accept(response, "search") is response

    def test_a_call_named_like_the_schema_is_the_answer(self) -> None:
        reply = self.accept(called({"name": "Paris", "population": 2_000_000}, "Town"), "search")
        assert reply.parsed == PARIS
        assert (json.loads(reply.text), reply.tool_calls) == (json.loads(GOOD), ())

    def test_a_tool_of_the_schemas_name_stays_a_tool(self) -> None:
        response = called({"name": "Paris", "population": 1}, "Town")
        assert self.accept(response, "Town") is response

    @pytest.mark.promise("S2-06")
    def test_without_tools_there_is_always_an_instance_or_an_error(self) -> None:
        error = rejected(Town, called({"city": "Paris"}, "whatever"))
        assert [each.split(":")[0] for each in error.violations] == ["$.name", "$.population"]
        assert json.loads(error.raw) == {"city": "Paris"}


class TestAskingAgain:
    @pytest.mark.promise("S2-26")
    def test_two_bad_answers_then_a_good_one_are_three_calls_with_the_violations(self) -> None:
        model = Model("no JSON at all", BAD, GOOD)
        reply = manager_of(model).complete("a city", response_model=Town)
        assert reply.parsed == PARIS
        assert [len(prompt) for prompt in model.prompts] == [1, 3, 3], "only the last answer"
        second, third = model.prompts[1:]
        assert second[1].text == "no JSON at all"
        assert "$: Invalid JSON" in second[2].text
        assert third[1].text == BAD
        assert "$.population: Input should be greater than 0" in third[2].text
        assert [entry.outcome for entry in reply.ledger.sent][-1] == "success"

    def test_a_huge_answer_goes_back_only_in_part(self) -> None:
        model = Model("[" + "9," * 500_000, GOOD)
        manager_of(model).complete("a city", response_model=Town)
        assert len(model.prompts[1][1].text) == 20_000

    @pytest.mark.parametrize("mode", ["blocking", "async"])
    def test_a_model_that_never_learns_is_asked_as_often_as_its_attempts_say(
        self, mode: str
    ) -> None:
        first, second = Model(then="no"), Model(then=BAD)
        llm = manager_of(first, second, retry=RetryPolicy(max_attempts=4))
        ask: Callable[[], Any] = lambda: llm.complete("a city", response_model=Town)  # noqa: E731
        if mode == "async":
            ask = lambda: asyncio.run(llm.acomplete("a city", response_model=Town))  # noqa: E731
        with pytest.raises(AllModelsFailedError) as caught:
            ask()
        assert (len(first.asked), len(second.asked)) == (4, 4)
        causes: list[Any] = [*caught.value.exceptions]
        assert [type(cause) for cause in causes] == [StructuredOutputError] * 2
        assert [cause.raw for cause in causes] == ["no", BAD]

    @given(
        steps=st.lists(
            st.sampled_from(
                [
                    ConnectionResetError("MARK reset"),
                    TimeoutError("MARK slow"),
                    ValueError("MARK odd"),
                    OSError(5, "MARK"),
                    "no JSON",
                    BAD,
                    "[]",
                ]
            ),
            max_size=7,
        )
    )
    @settings(deadline=None)
    def test_no_transport_error_ever_enters_a_prompt(self, steps: list[Any]) -> None:
        first, second = Model(*steps, then=GOOD), Model(then=GOOD)
        llm = manager_of(first, second, breaker=False, retry=RetryPolicy(max_attempts=8))
        assert llm.complete("a city", response_model=Town).parsed == PARIS
        refused = [step for step in steps if isinstance(step, str)]
        for prompt in (*first.prompts, *second.prompts):
            document = "\n".join(message.text for message in prompt)
            assert "MARK" not in document
            assert not any(name in document for name in ("Error", "reset", "timeout", "Timeout"))
            assert len(prompt) in (1, 3)
            assert len(prompt) == 1 or prompt[1].text in refused


@pytest.mark.promise("S2-05")
def test_a_client_returns_the_instance_itself() -> None:
    client = manager_of(Model(GOOD)).get_client()
    assert asyncio.run(client.complete("a city", response_model=Town)) == PARIS


@pytest.mark.promise("S2-06")
def test_it_needs_no_other_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "instructor", None)
    assert manager_of(Model(GOOD)).complete("a city", response_model=Town).parsed == PARIS
