"""Captured content has the form that the GenAI conventions demand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # no stubs are installed

from agentkit.testing import ScriptedModel
from agentkit.types import Message, Response, ToolCall
from tests.telemetry.conventions import SCHEMAS
from tests.telemetry.observing import Observed, attributes

LOOK = {
    "name": "look",
    "description": "Looks around.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
}
CALL = ToolCall("1", "look", {"at": "the door"})
CONVERSATION = [
    Message("system", "Be brief."),
    Message("user", [{"type": "text", "text": "What is there?"}, {"type": "image", "data": b""}]),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "a lion", tool_call_id="1"),
]
ANSWERS = {
    "text": "A lion.",
    "everything": Response("A lion.", tool_calls=(CALL,), reasoning="Hm.", finish_reason="stop"),
    "a tool call": Response("", tool_calls=(CALL,), finish_reason="tool_calls"),
}


class Capable:
    """Takes conversations and tools."""

    capabilities = frozenset({"tools", "messages", "vision"})

    def __init__(self, answer: Any) -> None:
        self.send = lambda request: answer


def content(span: Any) -> dict[str, Any]:
    found = attributes(span)
    return {name: json.loads(found[name]) for name in SCHEMAS if name in found}


def complain(written: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {error.json_path}: {error.message}"
        for name, value in written.items()
        for error in Draft7Validator(SCHEMAS[name]).iter_errors(value)
    ]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=list(ANSWERS))
@pytest.mark.parametrize("limit", [8192, 20, 1])
@pytest.mark.parametrize("redactor", [None, lambda text: "[gone]", lambda text: ""])
def test_content_matches_the_schemas(
    observing: Callable[..., Observed], answer: Any, limit: int, redactor: Any
) -> None:
    seen = observing(content="span", max_content_chars=limit, redactor=redactor)
    seen.manager(("a", Capable(answer))).complete(CONVERSATION, tools=[LOOK])
    (span,) = seen.attempts
    written = content(span)
    assert set(written) == set(SCHEMAS)
    assert complain(written) == []


def test_values_are_json_and_not_text_with_json_in_it(observing: Callable[..., Observed]) -> None:
    seen = observing(content="span")
    seen.manager(("a", Capable(ANSWERS["everything"]))).complete(CONVERSATION, tools=[LOOK])
    written = content(seen.attempts[0])
    assert written["gen_ai.tool.definitions"] == [{"type": "function", **LOOK}]
    asked, answered = written["gen_ai.input.messages"], written["gen_ai.output.messages"]
    called = {"type": "tool_call", "id": "1", "name": "look", "arguments": {"at": "the door"}}
    assert asked[2]["parts"] == [{"type": "text", "content": ""}, called]
    assert asked[3]["parts"] == [{"type": "tool_call_response", "id": "1", "response": "a lion"}]
    assert answered[0]["parts"] == [
        {"type": "reasoning", "content": "Hm."},
        {"type": "text", "content": "A lion."},
        called,
    ]


def test_finish_reasons_have_the_conventions_names(observing: Callable[..., Observed]) -> None:
    seen = observing(content="span")
    for answer in ANSWERS.values():
        seen.manager(("a", Capable(answer))).complete("hi", tools=[LOOK])
    reasons = [
        content(each)["gen_ai.output.messages"][0]["finish_reason"] for each in seen.attempts
    ]
    assert reasons == ["unknown", "stop", "tool_call"]


def test_the_schemas_find_a_flaw() -> None:
    """A schema that accepts everything would prove nothing."""
    flawed = {
        "gen_ai.input.messages": [{"role": "tool", "parts": [{"type": "tool_call_response"}]}],
        "gen_ai.output.messages": [{"role": "assistant", "parts": []}],
        "gen_ai.tool.definitions": [{"name": "look"}],
    }
    assert len(complain(flawed)) == 3


def test_lists_of_a_viewer_show_a_request_and_its_answer(
    observing: Callable[..., Observed],
) -> None:
    for wanted in (True, False):
        seen = observing(content="span", openinference=wanted)
        seen.manager(("a", ScriptedModel("fine"))).generate("hi")
        recorded = attributes(seen.wrapper)
        assert (recorded.get("input.value") == "hi") is wanted
        assert (recorded.get("output.value") == "fine") is wanted
        kinds = {attributes(each).get("output.mime_type") for each in seen.spans}
        assert kinds == ({"text/plain"} if wanted else {None})


def test_lists_of_a_viewer_show_the_tool_calls_of_an_answer_without_text(
    observing: Callable[..., Observed],
) -> None:
    seen = observing(content="span", openinference=True)
    for name in ("a tool call", "everything"):
        seen.manager(("a", Capable(ANSWERS[name]))).complete("hi", tools=[LOOK])
    outputs = [attributes(each)["output.value"] for each in seen.attempts]
    assert outputs == ['look {"at": "the door"}', "A lion."]
