"""Tool calls of a run: what is to be done, what came of it, and what waits for approval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

from agentkit.types import Message, MessageRole, ToolCall
from agentkit.types.json_values import UNREADABLE, known_fields, malformed


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of one tool call.

    Attributes:
        call: the tool call; with the arguments that were used, if the approver changed them.
        content: the text that is sent to the model.
        error: the class of the error, ``"Denied"``, ``"InDoubt"``, or None.
        seconds: how long it took.
        in_doubt: the call was started, and it is unknown whether it took effect.
    """

    call: ToolCall
    content: str
    error: str | None = None
    seconds: float = 0.0
    in_doubt: bool = False

    @property
    def message(self) -> Message:
        """The message that answers the call."""
        return Message(MessageRole.TOOL, self.content, tool_call_id=self.call.id)

    def to_dict(self) -> dict[str, Any]:
        """The result as a JSON value. Raises `TypeError` if its arguments have none."""
        return {**asdict(self), "call": self.call.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises `ValueError`."""
        try:
            return cls(**{**known_fields(cls, data), "call": ToolCall.from_dict(data["call"])})
        except UNREADABLE as error:
            raise malformed("tool result") from error


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A tool call that waits for approval.

    Attributes:
        call: the tool call. Its id is the key in `approve`, `deny` and `edit` of `Agent.resume`.
        in_doubt: it was approved and started before, and it is unknown whether it took effect;
            to approve it means to carry it out again.
    """

    call: ToolCall
    in_doubt: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The call as a JSON value. Raises `TypeError` if its arguments have none."""
        return {"call": self.call.to_dict(), "in_doubt": self.in_doubt}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises `ValueError`."""
        try:
            return cls(ToolCall.from_dict(data["call"]), data["in_doubt"])
        except UNREADABLE as error:
            raise malformed("pending call") from error


class CallTools(NamedTuple):
    """Run these tool calls, none of them past `until`, a reading of the run's clock."""

    calls: tuple[ToolCall, ...]
    step: int
    messages: tuple[Message, ...]
    until: float
