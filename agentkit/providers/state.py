"""The states of providers: what a model needs back with its answers, and its place in them.

The items of a `ProviderState` are in the order in which the model sent its answer. Each stands for
one of three things, and may have more keys with what the model sent beside it:

- ``{"text": n}``: the next `n` characters of the message's text
- ``{"call": true}``: the next of its tool calls
- ``{"block": {...}}``: something opaque, such as a thinking block
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias

from agentkit._fork import fork_safe_lock
from agentkit.types import Message, ProviderState, Request, ToolCall

Item: TypeAlias = Mapping[str, Any]

OMITTED: Final = "reasoning_state"
"""What `Response.omitted` calls the states that a provider refused."""

_MAX_ANSWERS: Final = 4096
_NO_STATE: Final = ProviderState("", ())
"""Of no model, so that none is looked up by the message's tool calls either."""
_REFUSED: Final = re.compile(
    r"invalid_encrypted_content|encrypted content .{1,300}could not be"
    r"|`?signature`? in `?thinking`? block|`thinking` or `redacted_thinking`"
    r"|thought[ _]signature"
    r"|'reasoning' was provided without its required|without its required 'reasoning' item",
    re.IGNORECASE | re.DOTALL,
)
"""How providers refuse a state, as of 2026-11. OpenAI alone has a code for it."""


class StateMemory:
    """The states that came with the latest 4,096 answers of one model. Thread-safe.

    For messages that were made from the tool calls of a response, without its state.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin
        """The `ProviderState.origin` of the model."""
        self._lock = fork_safe_lock()
        self._by_call: OrderedDict[str, ProviderState] = OrderedDict()

    def remember(self, calls: Sequence[ToolCall], state: ProviderState | None) -> None:
        """Keep the state of the answer with these tool calls."""
        if not calls or state is None:
            return
        with self._lock:
            self._by_call[calls[0].id] = state
            if len(self._by_call) > _MAX_ANSWERS:
                self._by_call.popitem(last=False)

    def items_for(self, message: Message) -> tuple[Item, ...]:
        """The state of a message that the model may get back; empty if it made no such message."""
        state = message.state
        if state is None and message.tool_calls:
            state = self._by_call.get(message.tool_calls[0].id)
        return state.items if state is not None and state.origin == self.origin else ()

    def has_latest_thinking(self, request: Request) -> bool:
        """Whether the thinking before the latest tool calls of `request` can be sent back.

        It cannot if another model made these calls, or if the thinking was refused.
        """
        latest = next((each for each in reversed(request.messages) if each.tool_calls), None)
        return latest is None or bool(blocks_in(self.items_for(latest)))

    def without_states(self, request: Request, refusal: str) -> Request | None:
        """`request` without the states of its messages, if that is what `refusal` blames.

        States are bound to the account, and some to all that came before them: a provider refuses
        them once the conversation was shortened. None if the request has no state, or `refusal`
        has another reason.
        """
        if not refusal or not _REFUSED.search(refusal):
            return None
        if not any(map(self.items_for, request.messages)):
            return None
        messages = (
            replace(each, state=_NO_STATE) if each.state or each.tool_calls else each
            for each in request.messages
        )
        return replace(request, messages=tuple(messages))


class Piece(NamedTuple):
    """A part of an answer, in order: some text, a tool call or an opaque block.

    `item` is what the state has about it.
    """

    item: Item
    text: str | None = None
    call: ToolCall | None = None


def state_of(origin: str, items: Iterable[Item]) -> ProviderState | None:
    """The state of an answer; None if the model sent nothing beside text and tool calls."""
    kept = tuple(items)
    plain = all(item.keys() <= {"text", "call"} for item in kept)
    return None if plain else ProviderState(origin, kept)


def pieces_of(message: Message, items: Sequence[Item]) -> list[Piece] | None:
    """The message in the order of its answer; None if it was changed, or the items are empty."""
    text = message.content
    if not items or not isinstance(text, str):
        return None
    length = sum(item.get("text", 0) for item in items)
    if length != len(text) or len(message.tool_calls) != sum("call" in item for item in items):
        return None
    pieces: list[Piece] = []
    calls = iter(message.tool_calls)
    for item in items:
        if "text" in item:
            pieces.append(Piece(item, text=text[: item["text"]]))
            text = text[item["text"] :]
        else:
            pieces.append(Piece(item, call=next(calls) if "call" in item else None))
    return pieces


def blocks_in(items: Iterable[Item]) -> list[dict[str, Any]]:
    """The opaque blocks of a state."""
    return [dict(item["block"]) for item in items if "block" in item]
