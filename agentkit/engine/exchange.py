"""Exchanges: how one attempt is made, as a complete response or as a stream of events.

The path of a request (`agentkit.engine.request`) is the same for both, and takes an exchange.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, Protocol

from agentkit.engine.attempt import Attempt
from agentkit.engine.call import Call
from agentkit.engine.effects import (
    Close,
    Effect,
    Emit,
    Flow,
    Open,
    Pull,
    Send,
    Sleep,
    Source,
    TimedOut,
)
from agentkit.engine.shared_call import LIVENESS_CHECK, Room, SharedCall
from agentkit.errors import (
    ConfigurationError,
    ContentFilterError,
    InvalidResponseError,
    LLMError,
    StreamInterruptedError,
)
from agentkit.policy.classification import Fallback, classify
from agentkit.policy.target import Target
from agentkit.types import (
    End,
    Message,
    MessageRole,
    OnInterrupt,
    RawEvent,
    ReasoningDelta,
    Request,
    Response,
    ResponseBuilder,
    Restart,
    StreamEvent,
    TextDelta,
)
from agentkit.types.provider import NOT_WITH_PREFILL


class Exchange(Protocol):
    """A way to send a request to a target. An instance is used for one request."""

    prefix: str
    """Prefix of the keys of shared calls, which are separate for each kind of exchange."""
    streamed: bool
    """Whether events are handed over as they come; then a shared call runs at its own pace."""

    def time_limit(self, target: Target) -> float | None:
        """The target's own time limit for an attempt, in seconds."""
        ...

    def begin(self, call: Call, target: Target) -> Flow[None]:
        """Prepare for `target`, before the cache is looked up and attempts are made."""
        ...

    def send(self, attempt: Attempt, request: Request) -> Flow[Response[Any]]:
        """Send `request` and return the response. Every exception is raised unchanged."""
        ...

    def accept(self, attempt: Attempt, response: Response[Any]) -> Response[Any]:
        """Check the response of an attempt. Raises `StructuredOutputError`."""
        ...

    def interruption(self, attempt: Attempt, cause: Exception) -> StreamInterruptedError | None:
        """The error of an attempt that showed content before `cause`; None if it showed none."""
        ...

    def end(self, call: Call, response: Response[Any] | None) -> Iterable[Effect[Any]]:
        """Release what a settled attempt has opened, and pass on the end of its response, if any.

        Returns the effects, for ``yield from``.
        """
        ...

    def deliver(self, call: Call, response: Response[Any]) -> Flow[None]:
        """Pass on a response for which this call sent nothing."""
        ...

    def emit(self, call: Call, events: Sequence[StreamEvent]) -> Flow[None]:
        """Pass on events of a shared call, at least one."""
        ...

    def into(self, shared: SharedCall) -> Exchange:
        """The exchange for the leader of `shared`."""
        ...

    def conclude(self, call: Call, target: Target, response: Response[Any]) -> Response[Any]:
        """The response of the request. Raises `DeadlineExceededError` if it was too late."""
        ...

    def leave_or_raise(self, call: Call, target: Target, error: LLMError) -> None:
        """Leave `target` because of `error`; raises it when it ends the request."""
        ...


def sending(attempt: Attempt, request: Request) -> Send:
    """The effect that sends `request` and waits for the complete response."""
    return Send(  # positional: by keyword, each call takes 0.2 µs longer
        attempt.target,
        attempt.endpoint,
        attempt.addressed(request, attempt.allotted),
        attempt.allotted,
        attempt.target.timeout is not None,
        attempt.watch.scope,
        attempt,
    )


class CompleteExchange:
    """Send a request and wait for the complete response."""

    prefix = ""
    streamed = False

    def time_limit(self, target: Target) -> float | None:
        """The timeout of the target."""
        return target.timeout

    def begin(self, call: Call, target: Target) -> Flow[None]:
        """Prepare nothing."""
        yield from ()

    def send(self, attempt: Attempt, request: Request) -> Flow[Response[Any]]:
        """Call the model."""
        raw = yield sending(attempt, request)
        return attempt.endpoint.accept(raw, attempt.call.ledger)

    def accept(self, attempt: Attempt, response: Response[Any]) -> Response[Any]:
        """Check each attempt, so that a rejected response can be retried."""
        call = attempt.call
        return response if call.check is None else call.owned(call.checked(response))

    def interruption(self, attempt: Attempt, cause: Exception) -> StreamInterruptedError | None:
        """None: a complete response is shown only at its end."""
        return None

    def end(self, call: Call, response: Response[Any] | None) -> Iterable[Effect[Any]]:
        """Do nothing."""
        return ()

    def deliver(self, call: Call, response: Response[Any]) -> Flow[None]:
        """Pass on nothing but the response."""
        yield from ()

    def emit(self, call: Call, events: Sequence[StreamEvent]) -> Flow[None]:
        """A complete response has no events."""
        raise TypeError(f"a complete response emitted {events!r}")

    def into(self, shared: SharedCall) -> CompleteExchange:
        """The same exchange: only the response is shared."""
        return self

    def conclude(self, call: Call, target: Target, response: Response[Any]) -> Response[Any]:
        """The response, if it arrived before the deadline."""
        if call.deadline.at < call.rules.now():
            raise call.deadline_error(f"{target.name} answered too late")
        return response

    def leave_or_raise(self, call: Call, target: Target, error: LLMError) -> None:
        """Leave `target`, or raise `error` if its classification says so."""
        call.leave_or_raise(target, error)


COMPLETE = CompleteExchange()

_HINTS: dict[OnInterrupt, str] = {
    "raise": "use on_interrupt='restart' to start again at the next model",
    "restart": "add a fallback, or allow more attempts with retry=RetryPolicy(max_attempts=...)",
    "continue": "add a fallback that supports prefill, or use on_interrupt='restart'",
}


_AFTER_REFUSAL = (
    "set fallback_on_content_filter=True and on_interrupt='restart' to ask the next model"
)


class StreamExchange:
    """Open a stream and emit its events.

    Up to the first content, a failure is retried as usual. Later, `on_interrupt` decides.
    """

    prefix = "stream:"
    streamed = True

    def __init__(self, on_interrupt: OnInterrupt, shared: SharedCall | None = None) -> None:
        self._on_interrupt = on_interrupt
        self._shared = shared
        self._interrupted: StreamInterruptedError | None = None
        self._original: Request | None = None
        """The request before a prefill was added."""
        self._shown = ""
        """The text of interrupted streams that the next target restarts or continues."""
        self._seam = ""
        """White space at the end of `_shown` that is not in the prefill, and may be repeated."""
        self._received = ResponseBuilder()
        self._source: Source | None = None
        self._end: End | None = None

    def time_limit(self, target: Target) -> float | None:
        """The time limit for the first content."""
        limit = target.first_token_timeout
        return target.timeout if limit is None else limit

    def begin(self, call: Call, target: Target) -> Flow[None]:
        """Emit a `Restart` if text of another target was shown."""
        if self._shown and self._on_interrupt == "restart":
            reason = type(next(reversed(call.causes.values()))).__name__
            yield from self.emit(call, (Restart(target.name, self._shown, reason),))
            self._shown = ""

    def emit(self, call: Call, events: Sequence[StreamEvent]) -> Flow[None]:
        """Pass on `events`, at least one.

        The deadline is extended by the time for which the consumer holds them.
        """
        if self._shared is not None:
            self._shared.put(events)
            if self._shared.is_full():
                yield from _wait_for_room(call, self._shared)
            return
        since = call.rules.now()
        yield Emit(events)
        call.deadline.extend(call.rules.now() - since)

    def send(self, attempt: Attempt, request: Request) -> Flow[Response[Any]]:
        """Emit every event except the end, and return the complete response."""
        call, target = attempt.call, attempt.target
        if attempt.first_token is not None:
            raise _already_shown("send a stream again")
        self._received, self._end = ResponseBuilder(), None
        attempt.received = self._received
        yield from self._release()
        self._source = source = yield from Open(
            target=target,
            endpoint=attempt.endpoint,
            request=attempt.addressed(request, self._longest_silence(attempt)),
            cuttable=attempt.limit is not None,
            scope=attempt.watch.scope,
            turn=attempt,
        )
        spent = call.rules.now() - attempt.started  # by middleware, before it sends, or sends again
        prelude: list[StreamEvent] = []
        pulled = yield _pull(call, source, attempt.time_left() + spent)
        events = _events_of(target, pulled)
        while events and all(map(_is_prelude, events)):
            prelude += events
            pulled = yield _pull(call, source, attempt.time_left() + spent)
            events = _events_of(target, pulled)
        first = next((each for each in events if not _is_prelude(each)), None)
        if first is None or type(first) is End:
            _checked_end(target, first)
        attempt.reached_content()
        events = [*prelude, *events] if prelude else events
        end: StreamEvent | None = None
        while events and end is None:
            end, events = _split_end(events)
            if self._seam:
                events = [self._without_seam(each) for each in events]
            for each in events:
                self._received.add(each)
            if events and self._shared is None:  # as `emit` does, without a generator
                since = call.rules.now()
                yield Emit(events)
                call.deadline.extend(call.rules.now() - since)
            elif events:
                yield from self.emit(call, events)
            if end is None:
                pulled = yield _pull(call, source, target.timeout)
                events = _events_of(target, pulled)
        self._end = _checked_end(target, end)
        self._received.add(self._end)
        return attempt.endpoint.accept(self._received.response(), call.ledger)

    def accept(self, attempt: Attempt, response: Response[Any]) -> Response[Any]:
        """Do not check, as the text is already shown. `conclude` checks the complete response."""
        if attempt.first_token is not None and self._end is None:
            raise _already_shown("replace a stream")
        return response

    def interruption(self, attempt: Attempt, cause: Exception) -> StreamInterruptedError | None:
        """The interruption of a stream by an error after the first content."""
        foreign_at_end = self._end is not None and not isinstance(cause, LLMError)
        if attempt.first_token is None or foreign_at_end:
            return None
        partial = self._received.text
        reason = f": {cause.message}" if isinstance(cause, LLMError) else ""
        error = StreamInterruptedError(
            f"the stream of {attempt.target.name} broke after {len(partial)} characters{reason}",
            provider=attempt.target.provider,
            model=attempt.target.name,
            status=getattr(cause, "status", None),
            partial=partial,
            hint=self._hint(cause),
        )
        error.__cause__ = cause
        error.usage = getattr(cause, "usage", None)
        return error

    def _hint(self, cause: Exception) -> str | None:
        if isinstance(cause, ContentFilterError):
            return _AFTER_REFUSAL
        if isinstance(cause, InvalidResponseError) and cause.at_token_limit:
            return cause.hint
        return _HINTS[self._on_interrupt]

    def end(self, call: Call, response: Response[Any] | None) -> Flow[None]:
        """Close the source, then emit the end.

        A response that middleware returned itself is emitted as one chunk before it.
        """
        yield from self._release()
        if response is None:
            return
        if self._end is not None:
            yield from self.emit(call, (self._end,))
        else:
            yield from self.deliver(call, response)

    def _release(self) -> Flow[None]:
        source, self._source = self._source, None
        if source is not None:
            yield from Close(source)

    def deliver(self, call: Call, response: Response[Any]) -> Flow[None]:
        """Emit a complete response as one chunk and the end."""
        if response.text:
            yield from self.emit(call, (TextDelta(response.text),))
        end = End(response.finish_reason, response.usage, response.tool_calls, state=response.state)
        yield from self.emit(call, (end,))

    def into(self, shared: SharedCall) -> StreamExchange:
        """An exchange that puts its events into `shared`."""
        return StreamExchange(self._on_interrupt, shared)

    def conclude(self, call: Call, target: Target, response: Response[Any]) -> Response[Any]:
        """The response with the text that other targets showed before, after the check."""
        if self._shown:
            response = replace(response, text=self._shown + response.text)
        return call.checked(response)

    def leave_or_raise(self, call: Call, target: Target, error: LLMError) -> None:
        """Restart or continue an interrupted stream, at the next target if there is one.

        Raises `error` if it ends the request. If no target can continue the shown text, the
        interruption is raised, whose `partial` is that text.
        """
        if isinstance(error, StreamInterruptedError):
            error.partial = self._shown + error.partial
            if not self._move_on(call, target, error):
                self._raise(call, error)
            self._interrupted, self._shown = error, error.partial
            if self._on_interrupt == "continue":
                call.request = call.asked = self._prefilled(call.request)
        elif self._interrupted is None or self._on_interrupt != "continue":
            call.leave_or_raise(target, error)
        else:
            call.leave(target, error, "non_retryable")
            if not self._may_continue(call):
                self._raise(call, self._interrupted)

    def _move_on(self, call: Call, target: Target, error: StreamInterruptedError) -> bool:
        """Leave `target`, or return to it if it is the last. False: raise the error."""
        if self._on_interrupt == "raise":
            return False
        cause = error.__cause__ if isinstance(error.__cause__, LLMError) else error
        classification = classify(cause, target.retry_on)
        fallback = classification.fallback_under(
            on_invalid=call.rules.fallback_on_invalid,
            on_content_filter=call.rules.fallback_on_content_filter,
        )
        if fallback is Fallback.NEVER:
            return False
        if self._on_interrupt == "continue":
            call.leave(target, error, "non_retryable", fallback)
            return self._may_continue(call)
        if call.walk.count_ahead() and call.time_left() > 0:
            call.leave(target, error, "non_retryable", fallback)
            return True
        number = call.walk.tried.get(call.walk.position, 1)
        delay = call.retry_delay(target, number, cause, classification)
        if delay is None:
            return False
        call.walk.return_at(call.rules.now() + delay)
        call.leave(target, error, "non_retryable")
        return True

    def _may_continue(self, call: Call) -> bool:
        """Whether a target is left that can continue the shown text from a prefill.

        A prefill cannot be combined with tools, JSON output or reasoning.
        """
        request = call.request
        if (
            request.tools
            or request.response_format is not None
            or NOT_WITH_PREFILL & request.params.keys()
        ):
            return False
        call.walk.drop_where(
            lambda each: (
                "prefill" not in each.endpoint.capabilities
                or bool(NOT_WITH_PREFILL & each.params.keys())
            )
        )
        return call.walk.count_ahead() > 0 and call.time_left() > 0

    def _raise(self, call: Call, error: StreamInterruptedError) -> NoReturn:
        call.ledger.answered_by = None
        raise error

    def _prefilled(self, request: Request) -> Request:
        """`request` with the shown text as a prefill.

        White space at its end is left out, as some providers reject it and others drop it.
        """
        if self._original is None:
            self._original = request
        text = self._shown.rstrip()
        self._seam = self._shown[len(text) :]
        messages = self._original.conversation
        if text:
            messages = (*messages, Message(MessageRole.ASSISTANT, text))
        return replace(self._original, prompt=None, messages=messages, use_cache=False)

    def _without_seam(self, event: StreamEvent) -> StreamEvent:
        """`event` without white space that was already shown."""
        if not isinstance(event, TextDelta):
            return event
        text, seam = event.text, self._seam
        common = next((i for i, (a, b) in enumerate(zip(text, seam, strict=False)) if a != b), None)
        common = min(len(text), len(seam)) if common is None else common
        self._seam = seam[common:] if common == len(text) else ""
        return replace(event, text=text[common:]) if common else event

    def _longest_silence(self, attempt: Attempt) -> float:
        """The longest time limit of an event, as those after the first have another limit."""
        target = attempt.target
        if target.first_token_timeout is None:
            return attempt.allotted
        later = attempt.call.time_left() if target.timeout is None else target.timeout
        return max(attempt.allotted, later)


def _wait_for_room(call: Call, shared: SharedCall) -> Flow[None]:
    """Let the consumers of a shared stream catch up; its deadline is extended by the wait."""
    since, before = call.rules.now(), call.deadline.at
    while shared.is_full():
        yield from Sleep(LIVENESS_CHECK, until=Room(shared))
    waited = call.rules.now() - since
    moved = call.deadline.at - before  # by the caller that leads, while it held an event
    if waited > moved:
        call.deadline.extend(waited - moved)


def stopped(target: Target, events: Iterable[StreamEvent]) -> StreamInterruptedError:
    """The error of a follower whose shared stream was stopped after `events`."""
    return StreamInterruptedError(
        f"the stream of {target.name} was stopped",
        provider=target.provider,
        model=target.name,
        partial=ResponseBuilder(events).text,
    )


def _already_shown(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"attempt middleware cannot {what} after text has been shown",
        hint="do it before the first content, or use middleware with level = 'request'",
    )


def _is_prelude(event: StreamEvent) -> bool:
    return type(event) is RawEvent or (type(event) is TextDelta and not event.text)


def _split_end(events: Sequence[StreamEvent]) -> tuple[End | None, Sequence[StreamEvent]]:
    """The end of a stream, if it is in `events`, and the events before it."""
    for index, event in enumerate(events):
        if type(event) is End:
            return event, events[:index]
    return None, events


def _pull(call: Call, source: Source, limit: float | None) -> Pull:
    """The effect that gets what comes next, within `limit` seconds and the deadline."""
    left = call.time_left()
    if left <= 0:  # the only time limit of a stream that is read in the caller's thread
        raise TimedOut
    return Pull(source, limit if limit is not None and limit < left else left)


def _events_of(target: Target, event: Any) -> Sequence[StreamEvent]:
    """The events that a source has returned; none at its end. A str becomes a `TextDelta`."""
    if type(event) is list:
        return event
    if event is None:
        return ()
    if isinstance(event, str):
        return (TextDelta(event),)
    if isinstance(event, TextDelta | ReasoningDelta | RawEvent | End):
        return (event,)
    raise InvalidResponseError(
        f"{target.name} streamed {type(event).__name__}",
        provider=target.provider,
        model=target.name,
        hint="yield str or agentkit stream events",
    )


def _checked_end(target: Target, event: StreamEvent | None) -> End:
    """The end of a stream. Raises `InvalidResponseError` if a required end mark is missing."""
    if isinstance(event, End):
        return event
    if target.endpoint.end_mark:
        raise InvalidResponseError(
            f"the stream of {target.name} stopped without an end mark",
            provider=target.provider,
            model=target.name,
        )
    return End()
