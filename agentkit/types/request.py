"""The request of a caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentkit.types.initializer import fast_init
from agentkit.types.message import Message, MessageRole, ToolSpec


@fast_init
@dataclass(frozen=True, slots=True)
class Request:
    """A provider-neutral request.

    Either `prompt` (a string) or `messages` is set. `params` are the model's own options
    (temperature, max_tokens, …), passed on unchanged. With `stream` the caller receives events as
    they arrive. `timeout` is the time limit of this attempt in seconds, for a provider that can
    limit the time of its own sockets; None if it is unknown. `response_format` is
    ``{"type": "json_schema", "name": str, "schema": dict}`` or ``{"type": "json_object"}`` and
    requires the text of the response to be such JSON. Requests with a higher `priority` get quota
    first. `fixed_params` names those of `params` that were set for this model itself, by
    ``register_model(..., params=...)``; a provider always sends them.
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
    fixed_params: frozenset[str] = frozenset()

    @property
    def conversation(self) -> tuple[Message, ...]:
        """The messages. A prompt is a single user message."""
        if self.prompt is not None:
            return (Message(MessageRole.USER, self.prompt),)
        return self.messages

    @property
    def text(self) -> str:
        """The request as one string, which is what a plain callable receives.

        A prompt or a single user message is its text. A conversation has one line ``role: text``
        for each message.
        """
        if self.prompt is not None:
            return self.prompt
        if len(self.messages) == 1 and self.messages[0].role is MessageRole.USER:
            return self.messages[0].text
        return "\n".join(f"{MessageRole(m.role).value}: {m.text}" for m in self.messages)
