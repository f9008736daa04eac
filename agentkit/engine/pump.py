"""One target asked for a stream: attempts up to the first content, then every event to the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeGuard

from agentkit.engine.attempt import Attempt, Failure, begin, owned
from agentkit.engine.call import Call
from agentkit.engine.effects import (
    Close,
    Emit,
    Flow,
    Open,
    Pull,
    Source,
    TimedOut,
)
from agentkit.engine.flow import attempts
from agentkit.engine.middleware import Around
from agentkit.errors import (
    InvalidResponseError,
    LLMError,
    ProviderTimeoutError,
    StreamInterruptedError,
)
from agentkit.policy.route import Target
from agentkit.types import (
    End,
    RawEvent,
    ReasoningDelta,
    Response,
    StreamEvent,
    TextDelta,
    Usage,
)


class Opened:
    """A stream that has shown its first content (or its end) and is still to be settled."""

    __slots__ = ("around", "attempt", "first", "head", "source")

    def __init__(
        self,
        attempt: Attempt,
        around: Around,
        source: Source,
        head: list[StreamEvent],
        first: StreamEvent | None,
    ) -> None:
        self.attempt, self.around, self.source = attempt, around, source
        self.head, self.first = head, first


def emit(call: Call, event: StreamEvent) -> Flow[None]:
    """Hand `event` over; the deadline stands still while the consumer holds it."""
    since = call.rules.clock()
    yield from Emit(event)
    call.deadline.extend(call.rules.clock() - since)


def pump(call: Call, target: Target) -> Flow[Response[Any]]:
    """Attempts up to the first content, then every event until the end mark.

    Raises:
        StreamInterruptedError: it broke after the first content, or ended without its end mark.
    """
    opened = yield from attempts(call, target, open_once)
    attempt, event = opened.attempt, opened.first
    events: list[StreamEvent] = []
    try:
        for early in opened.head:
            yield from emit(call, early)
        while event is not None and type(event) is not End:
            events.append(event)
            yield from emit(call, event)
            event = yield from pull(call, target, opened.source, target.timeout)
        end = ended(target, event)
        response = answer_of(call, target, events, end)
    except Exception as exc:
        trouble = left(attempt, opened.around, exc)
        error = trouble or broken(call, attempt, exc)
        yield from Close(opened.source)
        raise StreamInterruptedError(
            f"the stream of {target.name} broke after {len(text_of(events))} characters",
            provider=target.provider,
            model=target.name,
            status=getattr(error, "status", None),
            partial=text_of(events),
            hint="use on_interrupt='restart' to start again at the next model",
        ) from error
    except BaseException:
        attempt.abandon("closed_early")
        opened.around.close()
        raise
    try:
        response = owned(call, opened.around.succeed(response))
    except Exception:
        attempt.abandon("middleware")
        yield from Close(opened.source)
        raise
    attempt.succeed(response)
    yield from Close(opened.source)
    yield from emit(call, end)
    return response


def broken(call: Call, attempt: Attempt, exc: Exception) -> LLMError:
    """Settle a stream that failed after its first content.

    Raises:
        DeadlineExceededError: it was the request's deadline that cut it.
    """
    target = attempt.target
    if not isinstance(exc, TimedOut):
        return attempt.fail(exc).error
    if call.left() <= 0:
        attempt.abandon("deadline")
        raise call.overrun(f"the stream of {target.name} was still going")
    stalled = ProviderTimeoutError(
        f"the stream of {target.name} stalled for {target.timeout:g} s",
        provider=target.provider,
        model=target.name,
    )
    return attempt.fail(stalled).error


def open_once(call: Call, target: Target, delay: float) -> Flow[Opened | Failure]:
    """One attempt, up to the first content (or the end of an empty answer)."""
    limit = target.first_token_timeout
    attempt = yield from begin(call, target, delay, target.timeout if limit is None else limit)
    around = Around(call.rules.attempt_middleware)
    try:
        request = around.enter(call.request)
    except Exception:
        attempt.abandon("middleware")
        raise
    source: Source | None = None
    head: list[StreamEvent] = []
    try:
        source = yield from Open(
            target, attempt.endpoint, attempt.addressed(request), attempt.limit is not None,
            attempt.watch.scope,
        )  # fmt: skip
        until = call.rules.clock() + attempt.allotted
        event = yield from pull(call, target, source, until - call.rules.clock())
        while _is_prelude(event):
            head.append(event)
            event = yield from pull(call, target, source, until - call.rules.clock())
        if event is None or type(event) is End:
            event = ended(target, event)
    except Exception as exc:
        outcome = left(attempt, around, exc) or attempt.fail(exc)
        if source is not None:
            yield from Close(source)
        if isinstance(outcome, Exception):
            raise outcome from outcome.__cause__
        return outcome
    except BaseException:
        attempt.abandon("cancelled")
        around.close()
        raise
    attempt.reached_content()
    return Opened(attempt, around, source, head, event)


def left(attempt: Attempt, around: Around, exc: Exception) -> Exception | None:
    """Tell the layers of `exc`; what they raised of their own, which abandons the attempt."""
    shown = attempt.shown(exc)
    told = around.fail(shown)
    if told is shown:
        return None
    attempt.abandon("middleware")
    return told


def _is_prelude(event: StreamEvent | None) -> TypeGuard[TextDelta | RawEvent]:
    return type(event) is RawEvent or (type(event) is TextDelta and not event.text)


def pull(
    call: Call, target: Target, source: Source, limit: float | None
) -> Flow[StreamEvent | None]:
    """The next event within `limit` seconds and the deadline; text becomes a `TextDelta`."""
    left = call.left()
    if left <= 0:  # a stream read in the caller's own thread keeps no time limit itself
        raise TimedOut
    event = yield from Pull(source, left if limit is None else min(limit, left))
    if isinstance(event, str):
        return TextDelta(event)
    if event is None or isinstance(event, TextDelta | ReasoningDelta | RawEvent | End):
        return event
    raise InvalidResponseError(
        f"{target.name} streamed {type(event).__name__}",
        provider=target.provider,
        model=target.name,
        hint="yield str or agentkit stream events",
    )


def ended(target: Target, event: StreamEvent | None) -> End:
    """The end of a stream; one that owes an end mark and has none was cut."""
    if isinstance(event, End):
        return event
    if target.endpoint.end_mark:
        raise InvalidResponseError(
            f"the stream of {target.name} stopped without its end mark",
            provider=target.provider,
            model=target.name,
        )
    return End()


def answer_of(call: Call, target: Target, events: Iterable[StreamEvent], end: End) -> Response[Any]:
    """The finished response of a stream."""
    whole: Response[Any] = Response(
        text_of(events),
        end.usage or Usage(),
        target.name,
        target.provider,
        end.finish_reason,
        end.tool_calls,
        response_id=end.response_id,
        reasoning="".join(each.text for each in events if isinstance(each, ReasoningDelta)),
        quota=end.quota,
        omitted=end.omitted,
        details=end.details,
    )
    return owned(call, whole)


def text_of(events: Iterable[StreamEvent]) -> str:
    """The texts of `events`, joined."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))
