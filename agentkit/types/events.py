"""The events of a stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from agentkit.types.message import ToolCall
from agentkit.types.response import Quota, Usage


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of text of a stream; `raw` is the provider's own event, where it has one."""

    text: str
    raw: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next piece of what the model thinks aloud; no part of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class RawEvent:
    """A provider's own event that carries no text, for those who read `.events()`."""

    raw: Any


@dataclass(frozen=True, slots=True)
class Restart:
    """The stream broke and starts again at `model`: drop what was shown (`discarded`)."""

    model: str
    discarded: str
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """The provider's own end mark: nothing is missing."""

    finish_reason: str | None = None
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    response_id: str | None = None
    quota: Quota | None = field(default=None, compare=False, repr=False)
    omitted: tuple[str, ...] = ()


StreamEvent: TypeAlias = TextDelta | ReasoningDelta | RawEvent | Restart | End
OnInterrupt: TypeAlias = Literal["raise", "restart", "continue"]
