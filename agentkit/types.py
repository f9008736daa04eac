"""The values that travel through agentkit, and the protocols that others implement.

Everything here is immutable once built, except `Ledger` (see `agentkit.ledger`), which a call
writes while it runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from agentkit.errors import InvalidRequestError

if TYPE_CHECKING:
    from agentkit.ledger import Ledger

T_co = TypeVar("T_co", covariant=True)


class MessageRole(StrEnum):
    """Who speaks in a `Message`."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to run a tool: the provider's `id`, the tool's `name`, parsed `arguments`."""

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a provider is told of it.

    `parameters` is the JSON schema of its arguments, an object. `fn` runs it and never leaves the
    process.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    fn: Callable[..., Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `content` is text, or a sequence of provider-neutral content parts, which are dicts:

    - ``{"type": "text", "text": str}``
    - ``{"type": "image", "data": bytes, "media_type": "image/png"}``, or ``"url": str`` for data
    - ``{"type": "document", "data": bytes, "media_type": "application/pdf", "name": str}``

    An assistant's `tool_calls` are answered by messages of role ``tool`` with the call's id as
    `tool_call_id`. `metadata` never leaves the process.
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

    @property
    def text(self) -> str:
        """The text of the message; the text parts joined where the content has parts."""
        if isinstance(self.content, str):
            return self.content
        return "".join(str(part["text"]) for part in self.content if "text" in part)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens billed for one answer, in tokens. `input_tokens` includes cached ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input plus output, in tokens."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Quota:
    """A provider's own word on its limits a minute; None where it says nothing.

    From response headers: ``x-ratelimit-limit-requests``, ``x-ratelimit-limit-tokens`` (OpenAI's
    tokens count input and output together), ``anthropic-ratelimit-input-tokens-limit``, …
    """

    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    tokens_per_minute: int | None = None


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


def _empty_ledger() -> Ledger:
    from agentkit.ledger import Ledger

    return Ledger()


@dataclass(frozen=True, slots=True)
class Response(Generic[T_co]):
    """One complete answer and how it came about.

    `model` is the registered name that answered and `provider` its provider. `parsed` is the
    validated instance when a `response_model` was asked for. `cached` is true when the response
    cache answered. `reasoning` is what the model thought aloud, where its provider shows it.
    `quota` is what the provider said of its rate limits (see `Quota`). `omitted` names what a
    provider left out of the request, with the caller's leave. `ledger` tells every attempt and
    skip.
    """

    text: str
    usage: Usage = Usage()
    model: str = ""
    provider: str = ""
    finish_reason: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    parsed: T_co | None = None
    cached: bool = False
    response_id: str | None = None
    ledger: Ledger = field(default_factory=_empty_ledger, compare=False, repr=False)
    reasoning: str = ""
    quota: Quota | None = field(default=None, compare=False, repr=False)
    omitted: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """The same as `text`."""
        return self.text

    def __str__(self) -> str:
        return self.text


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


class Provider(Protocol):
    """What a model offers to the engine. Implement what you have; the engine crosses colours.

    An object needs at least one of the four methods below; the others may be left out. Streams
    yield `str` or `StreamEvent`; a provider whose `end_mark` is true must finish each stream with
    an `End`, and a stream that stops without one counts as cut.

    Optional attributes: `provider` (its name in telemetry, default ``"custom"``), `model` (the
    provider's own name of the model), `end_mark` (default true), `capabilities` (any of
    ``"messages"``, ``"tools"``, ``"prefill"``, ``"vision"``, ``"json_schema"``, ``"json_object"``:
    without the last two the wish for JSON is put into words), `translate(exc)` (an `LLMError` for
    one of its exceptions, or None for the general rules), `with_key(key)` (itself with another
    API key, for a pool), `close()` and `aclose()`.
    """

    def send(self, request: Request) -> Response[Any] | str:
        """Answer, blocking."""
        ...

    async def asend(self, request: Request) -> Response[Any] | str:
        """Answer, async."""
        ...

    def stream(self, request: Request) -> Iterator[str | StreamEvent]:
        """Stream, blocking."""
        ...

    def astream(self, request: Request) -> AsyncIterator[str | StreamEvent]:
        """Stream, async."""
        ...


class Store(Protocol):
    """Where the response cache keeps its bytes. Both methods may raise: a fault is a miss."""

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`, or None when absent or expired."""
        ...

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep `value` under `key` for `ttl` seconds."""
        ...


class Signal(Protocol):
    """Something that can end a wait early: a breaker that opens, a slot that comes free."""

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` once it happens, at once when it already has. `wake` must not block."""
        ...

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Forget `wake`."""
        ...


class Clock(Protocol):
    """The engine's time. `time.monotonic` is one; a test clock also has `sleep`."""

    def __call__(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        ...
