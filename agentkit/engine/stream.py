"""A streamed request: the same walk, but each target is asked until its first content.

Up to the first content, retry and fallback are free. After it `on_interrupt` decides. A flow
yields `Emit` for every event; the consumer's classes are in `agentkit.engine.drive.consume`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeGuard

from agentkit.engine.attempt import Attempt, Failure, begin, owned
from agentkit.engine.call import Call
from agentkit.engine.effects import (
    Close,
    Emit,
    Flow,
    Launch,
    Load,
    Open,
    Pull,
    Sleep,
    Source,
    Store,
    TimedOut,
)
from agentkit.engine.flight import Flight
from agentkit.engine.flow import FLIGHT_CHECK, Walk, attempts, lead, look_up, take_off
from agentkit.errors import (
    InvalidResponseError,
    LLMError,
    ProviderTimeoutError,
    StreamInterruptedError,
)
from agentkit.policy.routing import Target
from agentkit.types import (
    End,
    Message,
    MessageRole,
    OnInterrupt,
    RawEvent,
    ReasoningDelta,
    Response,
    Restart,
    StreamEvent,
    TextDelta,
    Usage,
)


class Opened:
    """A stream that has shown its first content (or its end) and is still to be settled."""

    __slots__ = ("attempt", "first", "head", "source")

    def __init__(
        self, attempt: Attempt, source: Source, head: list[StreamEvent], first: StreamEvent | None
    ) -> None:
        self.attempt, self.source, self.head, self.first = attempt, source, head, first


def narrate(on_interrupt: OnInterrupt) -> Walk:
    """The walk of a streamed request under `on_interrupt`."""

    def walk(call: Call) -> Flow[Response[Any]]:
        shown = ""
        while (target := call.advance()) is not None:
            try:
                if shown and on_interrupt == "restart":
                    yield from emit(call, Restart(target.name, shown, _why(call)))
                    shown = ""
                told = yield from tell(call, target)
            except StreamInterruptedError as error:
                error.partial = shown + error.partial
                if on_interrupt == "raise" or not may_go_on(call, on_interrupt):
                    call.ledger.answered_by = None
                    raise
                shown = error.partial
                call.causes[target.name] = error
                call.pass_by(target, "non_retryable")
                if on_interrupt == "continue":
                    call.request = call.asked = prefilled(call, shown)
                continue
            except Exception as error:
                call.move_on(target, error)
                continue
            return replace(told, text=shown + told.text) if shown else told
        raise call.failure()

    return walk


def may_go_on(call: Call, on_interrupt: OnInterrupt) -> bool:
    """Whether a broken stream has a target left; *continue* needs one that supports prefill."""
    rest = [each for each in call.itinerary.ahead() if call.left() > 0]
    if on_interrupt == "continue":
        call.itinerary.drop_if(lambda each: "prefill" not in each.endpoint.capabilities)
        return any("prefill" in each.endpoint.capabilities for each in rest)
    return bool(rest)


def prefilled(call: Call, shown: str) -> Any:
    """The request with what was shown as the beginning of the answer."""
    messages = (*call.request.conversation, Message(MessageRole.ASSISTANT, shown))
    return replace(call.request, prompt=None, messages=messages, use_cache=False)


def _why(call: Call) -> str:
    return type(next(reversed(call.causes.values()))).__name__ if call.causes else "interrupted"


def tell(call: Call, target: Target) -> Flow[Response[Any]]:
    """One target's answer as events: from the response cache, a shared flight, or directly."""
    key = call.key_for(target)
    if key is None:
        return (yield from pump(call, target))
    cached = yield from look_up(call, target, key)
    if cached is not None:
        yield from replay(call, cached)
        return cached
    while True:
        flights = call.rules.flights
        joined = flights.join(f"stream:{key}", thread=call.thread, blocking=call.blocking)
        if joined is None:
            return (yield from pump(call, target))
        flight, leads = joined
        told = yield from follow(call, target, key, flight, leads)
        if told is not None:
            return told


def replay(call: Call, response: Response[Any]) -> Flow[None]:
    """A finished answer as a stream: one chunk and the end."""
    if response.text:
        yield from emit(call, TextDelta(response.text))
    yield from emit(call, End(response.finish_reason, response.usage, response.tool_calls))


def emit(call: Call, event: StreamEvent) -> Flow[None]:
    """Hand `event` over; the deadline stands still while the consumer holds it."""
    since = call.rules.clock()
    yield from Emit(event)
    call.deadline.extend(call.rules.clock() - since)


def follow(
    call: Call, target: Target, key: str, flight: Flight, leads: bool
) -> Flow[Response[Any] | None]:
    """Show a flight's events from its beginning; None when it ended before any content."""
    try:
        if leads:
            flow = lead(call, flight, fetch_stream(call, target, key, flight))
            yield from take_off(flight, Launch(flow, flight.key, apart=True))
        seen = yield from show(call, flight)
    finally:
        flight.leave()
    if flight.response is not None:
        return flight.response if leads else call.adopt(flight.response, "shared")
    if flight.error is not None:
        raise flight.error if leads else call.theirs(target, flight.error)
    if leads:
        raise call.overdue or LLMError(f"the stream of {target.name} was stopped from outside")
    if not seen:
        return None
    raise StreamInterruptedError(
        f"the stream of {target.name} was stopped",
        provider=target.provider,
        model=target.name,
        partial=_text(flight.events[:seen]),
    )


def show(call: Call, flight: Flight) -> Flow[int]:
    """Hand over a flight's events until it is over; how many they were."""
    seen = 0
    while True:
        while seen < len(flight.events):
            event = flight.events[seen]
            seen += 1
            yield from emit(call, event)
        if flight.landed or flight.lost():
            return seen
        left = call.left()
        if left <= 0:
            raise call.overrun("the shared stream stalled")
        yield from Sleep(min(left, FLIGHT_CHECK), until=flight.beyond(seen))


def fetch_stream(call: Call, target: Target, key: str, flight: Flight) -> Flow[Response[Any]]:
    """Pump the upstream into the flight, at its own pace, and store the whole answer."""
    durable = target.endpoint.durable
    response = yield from Load(key, durable)
    if response is not None:
        response = call.adopt(response, "hit")
        yield from into(flight, replay(call, response))
        return response
    told: Response[Any] = yield from into(flight, pump(call, target))
    yield from Store(key, told, durable)
    return told


def into(flight: Flight, flow: Flow[Any]) -> Flow[Any]:
    """Carry `flow` out, putting what it emits into `flight`."""
    try:
        effect = next(flow)
        while True:
            if type(effect) is Emit:
                flight.put(effect.event)
                effect = flow.send(None)
                continue
            try:
                result = yield effect
            except Exception as error:
                effect = flow.throw(error)
            except BaseException as stop:
                flow.throw(stop)
                raise
            else:
                effect = flow.send(result)
    except StopIteration as stop:
        return stop.value
    finally:
        flow.close()


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
        error = broken(call, attempt, exc)
        yield from Close(opened.source)
        raise StreamInterruptedError(
            f"the stream of {target.name} broke after {len(_text(events))} characters",
            provider=target.provider,
            model=target.name,
            status=getattr(error, "status", None),
            partial=_text(events),
            hint="use on_interrupt='restart' to start again at the next model",
        ) from error
    except BaseException:
        attempt.abandon("closed_early")
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
    source: Source | None = None
    head: list[StreamEvent] = []
    try:
        source = yield from Open(
            target, attempt.endpoint, attempt.addressed(call.request), attempt.limit is not None,
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
        failure = attempt.fail(exc)
        if source is not None:
            yield from Close(source)
        return failure
    except BaseException:
        attempt.abandon("cancelled")
        raise
    attempt.reached_content()
    return Opened(attempt, source, head, event)


def _is_prelude(event: StreamEvent | None) -> TypeGuard[TextDelta | RawEvent]:
    return type(event) is RawEvent or (type(event) is TextDelta and not event.text)


def pull(
    call: Call, target: Target, source: Source, limit: float | None
) -> Flow[StreamEvent | None]:
    """The next event within `limit` seconds and the deadline; text becomes a `TextDelta`."""
    left = call.left()
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
        _text(events),
        end.usage or Usage(),
        target.name,
        target.provider,
        end.finish_reason,
        end.tool_calls,
        response_id=end.response_id,
        reasoning="".join(each.text for each in events if isinstance(each, ReasoningDelta)),
        quota=end.quota,
    )
    return owned(call, whole)


def _text(events: Iterable[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))
