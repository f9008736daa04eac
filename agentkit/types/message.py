"""Messages of a conversation, tools, and tool calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agentkit.errors import InvalidRequestError
from agentkit.types.initializer import fast_init


class MessageRole(StrEnum):
    """The role of the author of a `Message`."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@fast_init
@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of a model: the provider's `id`, the tool's `name`, the parsed `arguments`."""

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """The definition of a tool.

    `parameters` is the JSON schema of its arguments, an object. `fn` runs the tool and is never
    sent to a provider.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    fn: Callable[..., Any] | None = field(default=None, compare=False, repr=False)


@fast_init
@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `content` is text, or a sequence of provider-neutral content parts, which are dicts:

    - ``{"type": "text", "text": str}``
    - ``{"type": "image", "data": bytes, "media_type": "image/png"}``, or ``"url": str`` instead of
      ``"data"``
    - ``{"type": "document", "data": bytes, "media_type": "application/pdf", "name": str}``

    The result of each of an assistant's `tool_calls` is a message of role ``tool`` with the call's
    id as `tool_call_id`. `metadata` never leaves the process.

    The content of an assistant's message may be None, as some providers send it with tool calls; it
    becomes ``""``.
    """

    role: MessageRole | str
    content: str | Sequence[Mapping[str, Any]]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "role", MessageRole(self.role))
        except ValueError:
            roles = ", ".join(role.value for role in MessageRole)
            raise InvalidRequestError(
                f"unknown message role {self.role!r}", hint=f"use one of: {roles}"
            ) from None
        content: Any = self.content
        if content is None and self.role is MessageRole.ASSISTANT:
            object.__setattr__(self, "content", "")
        elif not isinstance(content, str | Sequence):
            raise InvalidRequestError(
                f"the content of a {self.role} message is {type(content).__name__}",
                hint="give a string, or a list of parts",
            )

    @property
    def text(self) -> str:
        """The text of the message. If the content has parts, the text parts are joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(str(part["text"]) for part in self.content if "text" in part)
