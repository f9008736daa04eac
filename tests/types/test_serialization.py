"""Messages and responses as JSON: nothing is lost, and what cannot be read is refused."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Message, ProviderState, Quota, Response, ToolCall, Usage
from agentkit.types.ledger import Entry, Ledger

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(st.text() | st.sampled_from(["$bytes", "$dict"]), json_values, max_size=3)
calls = st.builds(ToolCall, st.text(), st.text(), objects)
states = st.builds(ProviderState, st.text(), st.lists(objects, max_size=3).map(tuple))
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "bedrock"])},
    optional={"data": st.binary(), "text": st.text(), "block": objects},
)
messages = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    content=st.text() | st.lists(parts, max_size=3),
    metadata=objects,
    tool_calls=st.lists(calls, max_size=2).map(tuple),
    tool_call_id=st.none() | st.text(),
    state=st.none() | states,
)
tokens = st.integers(0, 10**9)
entries = st.sampled_from(
    [
        Entry("gpt", "openai", "skipped", reason="breaker_open", breaker="open"),
        Entry("gpt", "openai", "failure", 1, error="ServerError", status=503, delay=0.25),
        Entry("claude", "anthropic", "success", 2, input_tokens=7, omitted=("images", "top_k")),
    ]
)
responses: st.SearchStrategy[Response[Any]] = st.builds(
    Response,
    text=st.text(),
    usage=st.builds(Usage, tokens, tokens, tokens, tokens, tokens),
    model=st.text(),
    provider=st.text(),
    finish_reason=st.none() | st.text(),
    tool_calls=st.lists(calls, max_size=2).map(tuple),
    cached=st.booleans(),
    response_id=st.none() | st.text(),
    ledger=st.lists(entries, max_size=3).map(Ledger),
    reasoning=st.text(),
    quota=st.none() | st.builds(Quota, st.none() | tokens),
    omitted=st.lists(st.text(), max_size=2).map(tuple),
    state=st.none() | states,
    model_id=st.none() | st.text(),
)


def through_json(data: dict[str, Any]) -> Any:
    return json.loads(json.dumps(data))


@given(messages)
def test_a_message_is_restored_completely(message: Message) -> None:
    assert Message.from_dict(through_json(message.to_dict())) == message


@given(responses)
def test_a_response_is_restored_with_its_ledger(response: Response[Any]) -> None:
    restored = Response.from_dict(through_json(response.to_dict()))
    assert restored == response
    assert (restored.ledger, restored.quota) == (response.ledger, response.quota)


def test_no_field_of_a_response_is_forgotten() -> None:
    kept = Response("hi").to_dict().keys() - {"version"}
    assert {each.name for each in fields(Response)} - kept == {"parsed", "details", "raw"}
    full = Message("user", "hi", {"a": 1}, (ToolCall("1", "f"),), "1", ProviderState("", ()))
    assert full.to_dict().keys() == {"version", *(each.name for each in fields(Message))}


def test_the_totals_of_a_ledger_are_restored() -> None:
    ledger = Ledger([Entry("gpt", "openai", "success", 1)])
    ledger.answered_by, ledger.cache, ledger.slept, ledger.duration = "gpt", "hit", 0.5, 1.5
    restored = Ledger.from_dict(through_json(ledger.to_dict()))
    assert restored.explain() == ledger.explain()


def test_a_response_is_the_next_message_of_its_conversation() -> None:
    state = ProviderState("anthropic:claude", ({"block": {"signature": "abc"}},))
    called = Response("Wait.", tool_calls=(ToolCall("1", "clock"),), state=state)
    assert called.message == Message(
        "assistant", "Wait.", tool_calls=(ToolCall("1", "clock"),), state=state
    )


@pytest.mark.parametrize("kind", [Message, Response])
@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        None,
        "text",
        {"version": 2, "role": "user", "content": "hi"},
        {"version": "1"},
        {"role": "robot", "content": "hi"},
        {"role": "user"},
        {"role": "user", "content": {"$bytes": "x"}},
        {"role": "user", "content": "", "state": 3},
        {"role": "user", "content": "", "tool_calls": [{}]},
        {"text": "hi", "usage": None},
    ],
)  # fmt: skip - one case a line takes a page
def test_a_dict_of_another_form_is_refused(kind: Any, data: Any) -> None:
    with pytest.raises(ValueError, match="form"):
        kind.from_dict(data)


def test_a_newer_format_is_named() -> None:
    newer = {**Message("user", "hi").to_dict(), "version": 2}
    with pytest.raises(ValueError, match="format 2, which needs a newer version of agentkit"):
        Message.from_dict(newer)


@pytest.mark.parametrize("arguments", [{"when": object()}, {"keys": {1: "one"}}])
def test_what_has_no_json_form_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="no JSON form"):
        Message("assistant", "", tool_calls=(ToolCall("1", "clock", arguments),)).to_dict()
