"""Tool calls of a run: those to make, their results, and those that wait for approval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

from agentkit.types import Message, MessageRole, ToolCall
from agentkit.types.json_values import UNREADABLE, known_fields, malformed, pack, unpack


class TextWithMedia(str):
    """The text that a tool returns, with images or documents beside it.

    `media` are content parts as in `Message`.
    """

    __slots__ = ("media",)
    media: tuple[Mapping[str, Any], ...]

    def __new__(cls, text: str, media: Sequence[Mapping[str, Any]]) -> Self:
        """A result of `text` and `media`."""
        made = super().__new__(cls, text)
        made.media = tuple(media)
        return made


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of one tool call.

    Attributes:
        call: the tool call; with the arguments that were used, if the approver changed them.
        content: the text that is sent to the model.
        error: the class of the error, ``"Denied"``, ``"InDoubt"``, or None.
        seconds: how long it took.
        in_doubt: whether the call was started and may or may not have taken effect.
        media: images and documents that are sent with the text, as parts of a `Message`.
    """

    call: ToolCall
    content: str
    error: str | None = None
    seconds: float = 0.0
    in_doubt: bool = False
    media: tuple[Mapping[str, Any], ...] = ()

    @property
    def message(self) -> Message:
        """The message that answers the call."""
        content: Any = self.content
        if self.media:
            content = [{"type": "text", "text": self.content}, *self.media]
        return Message(MessageRole.TOOL, content, tool_call_id=self.call.id)

    def to_dict(self) -> dict[str, Any]:
        """The result as a JSON value. Raises `TypeError` if its arguments have none."""
        return {**asdict(self), "call": self.call.to_dict(), "media": pack(self.media)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises `ValueError`."""
        try:
            call, media = ToolCall.from_dict(data["call"]), tuple(unpack(data.get("media", [])))
            return cls(**{**known_fields(cls, data), "call": call, "media": media})
        except UNREADABLE as error:
            raise malformed("tool result") from error


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A tool call that waits for approval.

    Attributes:
        call: the tool call. Its id is the key in `approve`, `deny` and `edit` of `Agent.resume`.
        in_doubt: whether the call was approved and started before, and may or may not have taken
            effect. To approve it then means to make it again.
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
