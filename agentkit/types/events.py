"""The events of a stream, and the response that they build."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from agentkit.errors import InvalidResponseError
from agentkit.types.initializer import fast_init
from agentkit.types.message import ProviderState, ToolCall
from agentkit.types.response import Quota, Response
from agentkit.types.usage import Usage


@fast_init
@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of text. `raw` is the provider's own event, if there is one."""

    text: str
    raw: Any = field(default=None, compare=False, repr=False)


@fast_init
@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next piece of the model's reasoning, which is not part of the text."""

    text: str


@fast_init
@dataclass(frozen=True, slots=True)
class RawEvent:
    """A provider's own event that carries no text. Only `.events()` yields it.

    `details` is additional information about the attempt, if it arrives with this event.
    """

    raw: Any
    details: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)


@fast_init
@dataclass(frozen=True, slots=True)
class Restart:
    """The stream broke and starts again with `model`: discard the text so far (`discarded`)."""

    model: str
    discarded: str
    reason: str


@fast_init
@dataclass(frozen=True, slots=True)
class End:
    """The end of a stream: the provider has sent everything."""

    finish_reason: str | None = None
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    response_id: str | None = None
    quota: Quota | None = field(default=None, compare=False, repr=False)
    omitted: tuple[str, ...] = ()
    details: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """See `Response.details`."""
    state: ProviderState | None = field(default=None, repr=False)
    """See `Response.state`."""
    model_id: str | None = None
    """See `Response.model_id`."""


StreamEvent: TypeAlias = TextDelta | ReasoningDelta | RawEvent | Restart | End
OnInterrupt: TypeAlias = Literal["raise", "restart", "continue"]


class ResponseBuilder:
    """Builds one complete `Response` from the events of a stream.

    A `Restart` discards the text and the reasoning before it; raw events add nothing::

        builder = ResponseBuilder([TextDelta("Par"), TextDelta("is."), End("stop")])
        builder.response(model="capital").text  # "Paris."
    """

    __slots__ = ("_reasoning", "_text", "end")

    def __init__(self, events: Iterable[str | StreamEvent] = ()) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self.end: End | None = None
        for event in events:
            self.add(event)

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._text)

    def add(self, event: str | StreamEvent) -> None:
        """Add the next event; a plain string counts as a `TextDelta`.

        Raises:
            InvalidResponseError: `event` is neither a string nor a stream event.
        """
        if isinstance(event, TextDelta):
            self._text.append(event.text)
        elif isinstance(event, str):
            self._text.append(event)
        elif isinstance(event, ReasoningDelta):
            self._reasoning.append(event.text)
        elif isinstance(event, End):
            self.end = event
        elif isinstance(event, Restart):
            self._text.clear()
            self._reasoning.clear()
        elif not isinstance(event, RawEvent):
            raise InvalidResponseError(
                f"the stream yielded {type(event).__name__}",
                hint="yield str or agentkit stream events",
            )

    def response(self, *, model: str = "", provider: str = "") -> Response[Any]:
        """The response so far; complete once `end` is set."""
        end = self.end or End()
        return Response(
            self.text,
            usage=end.usage or Usage(),
            model=model,
            provider=provider,
            finish_reason=end.finish_reason,
            tool_calls=end.tool_calls,
            response_id=end.response_id,
            reasoning="".join(self._reasoning),
            quota=end.quota,
            omitted=end.omitted,
            details=end.details,
            state=end.state,
            model_id=end.model_id,
        )
