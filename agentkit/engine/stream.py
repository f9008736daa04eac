"""A streamed request: the same walk, but each target is asked until its first content.

Up to the first content, retry and fallback are free. After it `on_interrupt` decides. A flow
yields `Emit` for every event; the consumer's classes are in `agentkit.engine.drivers.streams`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agentkit.engine.call import Call
from agentkit.engine.effects import (
    Emit,
    Flow,
    Launch,
    Load,
    Sleep,
    Store,
)
from agentkit.engine.flow import FLIGHT_CHECK, Walk, lead, look_up, take_off
from agentkit.engine.pump import emit, pump, text_of
from agentkit.engine.shared_call import Flight
from agentkit.errors import (
    LLMError,
    StreamInterruptedError,
)
from agentkit.policy.route import Target
from agentkit.types import (
    End,
    Message,
    MessageRole,
    OnInterrupt,
    Response,
    Restart,
    TextDelta,
)


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
        partial=text_of(flight.events[:seen]),
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
