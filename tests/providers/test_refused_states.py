"""A request whose states the provider refuses is sent once more without them, in one attempt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from agentkit.errors import InvalidRequestError
from agentkit.testing import WireServer, faults
from agentkit.types import Message, ProviderState, ToolCall
from tests.providers.asking import asking, either_way, every_way
from tests.providers.contract import ADAPTERS, PROVIDERS

pytestmark = pytest.mark.wire

SECRET = "c2VjcmV0"
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": SECRET}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": SECRET}
CALL = ToolCall("call_1", "weather", {"city": "Rome"})


class Refusal(NamedTuple):
    """What a model sent with its tool call, and how its provider refuses to take it back."""

    items: tuple[dict[str, Any], ...]
    status: faults.Status


_BLOCK = "messages.1.content.0: Invalid `signature` in `thinking` block."
_MODIFIED = (
    "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant "
    "message cannot be modified."
)
_FOREIGN = "The encrypted content gAAA...k= could not be verified."
_LONE = "Item 'rs_1' of type 'reasoning' was provided without its required following item."
_SIGNED = ({"block": THINKING}, {"call": True})
_ENCRYPTED = ({"block": REASONING}, {"call": True, "id": "fc_1"})
REFUSALS = {
    "anthropic": Refusal(_SIGNED, faults.status(400, message=_BLOCK)),
    "anthropic, modified": Refusal(_SIGNED, faults.status(400, message=_MODIFIED)),
    "openai-responses": Refusal(_ENCRYPTED, faults.status(400, kind="invalid_encrypted_content")),
    "openai-responses, no code": Refusal(_ENCRYPTED, faults.status(400, message=_FOREIGN)),
    "openai-responses, lone": Refusal(_ENCRYPTED, faults.status(400, message=_LONE)),
    "google": Refusal(
        ({"call": True, "signature": SECRET},),
        faults.status(400, message="Thought signature is not valid."),
    ),
}
each_refusal = pytest.mark.parametrize("name", REFUSALS)
each_transport = pytest.mark.parametrize("transport", ["sdk", "native"])


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer(reply="Sunny.") as running:
        yield running


def adapter_for(name: str, transport: str, server: WireServer) -> Any:
    provider = name.partition(",")[0]
    return ADAPTERS[provider if transport == "sdk" else f"{provider}, native"].make(server)


def conversation(state: ProviderState | None) -> list[Message]:
    return [
        Message("user", "Rome?"),
        Message("assistant", "", tool_calls=(CALL,), state=state),
        Message("tool", "sunny", tool_call_id="call_1"),
    ]


@each_refusal
@each_transport
@every_way
def test_refused_states_are_left_out_within_the_attempt(
    name: str, transport: str, way: str, server: WireServer
) -> None:
    items, refusal = REFUSALS[name]
    server.script(refusal)
    adapter = adapter_for(name, transport, server)
    with asking(adapter) as asker:
        asked = conversation(ProviderState(adapter.states.origin, items))
        reply = asker.ask(way, asked)
    first, second = (json.dumps(each.body) for each in server.requests)
    assert SECRET in first
    assert SECRET not in second
    assert "sunny" in second
    assert (reply.text, reply.omitted) == ("Sunny.", ("reasoning_state",))
    (entry,) = reply.ledger.sent
    assert (entry.outcome, entry.omitted) == ("success", ("reasoning_state",))


@each_transport
@either_way
def test_a_state_that_is_only_remembered_is_left_out_too(
    transport: str, way: str, server: WireServer
) -> None:
    adapter = adapter_for("google", transport, server)
    server.script(REFUSALS["google"].status)
    adapter.states.remember([CALL], ProviderState(adapter.states.origin, REFUSALS["google"].items))
    with asking(adapter) as asker:
        assert asker.ask(way, conversation(None)).omitted == ("reasoning_state",)
    first, second = (json.dumps(each.body) for each in server.requests)
    assert SECRET in first
    assert SECRET not in second


@each_refusal
@either_way
def test_it_is_sent_again_only_once(name: str, way: str, server: WireServer) -> None:
    items, refusal = REFUSALS[name]
    server.script(refusal, refusal)
    adapter = adapter_for(name, "sdk", server)
    with asking(adapter) as asker, pytest.raises(InvalidRequestError):
        asker.ask(way, conversation(ProviderState(adapter.states.origin, items)))
    assert len(server.requests) == 2


@pytest.mark.parametrize("provider", PROVIDERS)
@either_way
def test_any_other_refusal_is_final(provider: str, way: str, server: WireServer) -> None:
    adapter = adapter_for(provider, "sdk", server)
    items = REFUSALS.get(provider, REFUSALS["google"]).items
    own = ProviderState(adapter.states.origin, items)
    foreign = ProviderState("another:model", items)
    for refusal, state in [
        (faults.status(400), own),
        (faults.status(400, message=_BLOCK), foreign),
        (faults.status(422, message=_BLOCK), own),
    ]:
        server.script(refusal)
        with asking(adapter) as asker, pytest.raises(InvalidRequestError):
            asker.ask(way, conversation(state))
    assert len(server.requests) == 3


BUDGET = {"type": "enabled", "budget_tokens": 2000}


def claude(server: WireServer, **settings: Any) -> Any:
    from agentkit.providers.anthropic.messages import AnthropicMessages

    url = server.anthropic_url
    return AnthropicMessages("claude-haiku-4-5", api_key="any", base_url=url, **settings)


@pytest.mark.parametrize("fixed", [False, True], ids=["caller's", "model's"])
@either_way
def test_claude_does_not_think_in_a_tool_loop_that_another_model_began(
    fixed: bool, way: str, server: WireServer
) -> None:
    adapter = claude(server)
    with asking(adapter) as asker:
        given: dict[str, Any] = {"thinking": BUDGET}
        if fixed:
            asker.llm.register_model("only", adapter, params=given, replace=True)
            given = {}
        own = ProviderState(adapter.states.origin, _SIGNED)
        kept = asker.ask(way, conversation(own), **given)
        left = asker.ask(way, conversation(ProviderState("openai:gpt-x", ())), **given)
    first, second = (each.body for each in server.requests)
    assert (first["thinking"], kept.omitted) == (BUDGET, ())
    assert ("thinking" in second, left.omitted) == (False, ("thinking",))


@every_way
def test_claude_does_not_think_without_the_states_that_were_refused(
    way: str, server: WireServer
) -> None:
    adapter = claude(server, thinking=BUDGET)
    server.script(REFUSALS["anthropic"].status)
    with asking(adapter) as asker:
        reply = asker.ask(way, conversation(ProviderState(adapter.states.origin, _SIGNED)))
    first, second = (each.body for each in server.requests)
    assert first["thinking"] == BUDGET
    assert "thinking" not in second
    assert reply.omitted == ("thinking", "reasoning_state")
