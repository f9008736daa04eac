"""What a caller asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentkit.types.message import Message, MessageRole, ToolSpec


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller asked for, provider-neutral.

    Either `prompt` (a plain text) or `messages` is set. `params` are the model's own options
    (temperature, max_tokens, …) and are handed on untouched. `stream` says that the caller
    wants events as they come. `timeout` is the seconds this attempt has, for a provider that can
    bound its own sockets (None: not said). `response_format` is
    ``{"type": "json_schema", "name": str, "schema": dict}`` or ``{"type": "json_object"}``: the
    answer's text must be that JSON. `priority` orders those who wait for quota: higher goes first.
    """

    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[ToolSpec, ...] = ()
    response_format: Mapping[str, Any] | None = None
    stream: bool = False
    use_cache: bool = True
    timeout: float | None = None
    priority: int = 0

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The messages; a plain prompt is one user message."""
        if self.prompt is not None:
            return (Message(MessageRole.USER, self.prompt),)
        return self.messages

    @property
    def text(self) -> str:
        """The request as one text: the documented rendering that a plain callable receives.

        A single user message is its text. A conversation is one ``role: text`` line a message.
        """
        if self.prompt is not None:
            return self.prompt
        if len(self.messages) == 1 and self.messages[0].role is MessageRole.USER:
            return self.messages[0].text
        return "\n".join(f"{MessageRole(m.role).value}: {m.text}" for m in self.messages)
