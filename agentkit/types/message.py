"""Messages of a conversation, tools, and tool calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self, TypeAlias

from agentkit.errors import InvalidRequestError
from agentkit.types.initializer import fast_init
from agentkit.types.json_values import (
    FORMAT_VERSION,
    UNREADABLE,
    check_version,
    malformed,
    pack,
    unpack,
)

Effect: TypeAlias = Literal["none", "idempotent", "once"]
"""The effect of a second call of a tool; see `agentkit.tool`."""


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

    def to_dict(self) -> dict[str, Any]:
        """The call as a JSON value."""
        return {"id": self.id, "name": self.name, "arguments": pack(self.arguments)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises `ValueError` for a dict of another form."""
        try:
            return cls(data["id"], data["name"], unpack(data["arguments"]))
        except UNREADABLE as exc:
            raise malformed("tool call") from exc


@dataclass(frozen=True, slots=True)
class ProviderState:
    """Data that a model sent with an answer and needs to receive in the next request.

    For example signatures of its thinking, encrypted reasoning, or the order of thinking, text and
    tool calls. It is opaque: keep it in the answer's message, and do not change it. `origin` names
    the model, at its provider, that can read `items`; requests to any other model leave the state
    out. `items` are JSON values.
    """

    origin: str
    items: tuple[Mapping[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """The state as a JSON value."""
        return {"origin": self.origin, "items": pack(self.items)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Raises `ValueError` for a dict of another form."""
        try:
            return cls(data["origin"], tuple(unpack(data["items"])))
        except UNREADABLE as exc:
            raise malformed("provider's state") from exc


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """The definition of a tool.

    `parameters` is the JSON schema of its arguments, an object. The other fields are for an agent
    that runs the tool, and are never sent to a provider: `fn` is the function, `effect` says what
    a second call would do, `approve` which calls need approval, and `resolve` finds out whether a
    call in doubt has taken effect (see `agentkit.tool`).
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    fn: Callable[..., Any] | None = field(default=None, compare=False, repr=False)
    effect: Effect | None = field(default=None, compare=False, repr=False)
    approve: bool | Callable[[ToolCall], bool] = field(default=False, compare=False, repr=False)
    resolve: Callable[..., Any] | None = field(default=None, compare=False, repr=False)

    @property
    def repeatable(self) -> bool:
        """Whether a second call with the same arguments is known to do no harm."""
        return self.effect in ("none", "idempotent")


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
    id as `tool_call_id`. `metadata` is never sent to a provider.

    `state` is data that the model needs to receive again with its answer, such as signed thinking;
    see `ProviderState`. `Response.message` has it. `to_dict` and `from_dict` store a message as
    JSON and restore it, in another process too.

    The content of an assistant's message may be None, which becomes ``""``: some providers send
    None with tool calls.
    """

    role: MessageRole | str
    content: str | Sequence[Mapping[str, Any]]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    state: ProviderState | None = field(default=None, repr=False)

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

    def to_dict(self) -> dict[str, Any]:
        """The message as a JSON value; bytes become ``{"$bytes": base64}``.

        Raises:
            TypeError: content, arguments of a call or metadata have no JSON form.
        """
        data: dict[str, Any] = {
            "version": FORMAT_VERSION,
            "role": str(self.role),
            "content": pack(self.content),
        }
        if self.tool_calls:
            data["tool_calls"] = [each.to_dict() for each in self.tool_calls]
        if self.tool_call_id is not None:
            data["tool_call_id"] = self.tool_call_id
        if self.metadata:
            data["metadata"] = pack(self.metadata)
        if self.state is not None:
            data["state"] = self.state.to_dict()
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            ValueError: `data` has another form, or a newer version's format.
        """
        check_version("message", data)
        state = data.get("state")
        try:
            return cls(
                data["role"],
                unpack(data["content"]),
                metadata=unpack(data.get("metadata", {})),
                tool_calls=tuple(map(ToolCall.from_dict, data.get("tool_calls", ()))),
                tool_call_id=data.get("tool_call_id"),
                state=None if state is None else ProviderState.from_dict(state),
            )
        except (InvalidRequestError, *UNREADABLE) as exc:
            raise malformed("message") from exc
