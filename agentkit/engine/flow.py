"""A request from top to bottom: route, response cache, flight, attempts.

Each function is one step and reads like the diagram in the documentation: `answer` walks the
route, `visit` handles one target, `attempts` asks it until it answers or is done, `send_once` is
one attempt. `agentkit.engine.stream` replaces the last step for streams.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from agentkit.engine.attempt import Attempt, Failure, begin, complete, owned
from agentkit.engine.call import Call
from agentkit.engine.effects import Flow, Launch, Load, Send, Sleep, Store
from agentkit.engine.middleware import MiddlewareFn, through
from agentkit.engine.shared_call import Flight
from agentkit.errors import CircuitOpenError, LLMError, StructuredOutputError
from agentkit.policy.route import Target
from agentkit.types import Request, Response
from agentkit.types.ledger import CacheResult
from agentkit.types.observer import CallOutcome

R = TypeVar("R")

Once: TypeAlias = Callable[[Call, Target, float], "Flow[R | Failure]"]
Walk: TypeAlias = Callable[[Call], Flow[Response[Any]]]

FLIGHT_CHECK = 1.0
"""Seconds after which a waiting caller looks whether its flight's event loop still lives."""


def request_flow(
    call: Call, middleware: tuple[MiddlewareFn, ...], walk: Walk
) -> Flow[Response[Any]]:
    """The whole request inside its middleware; closes the ledger and tells the observer, once."""
    response: Response[Any] | None = None
    error: BaseException | None = None
    try:
        if middleware:

            def proceed(request: Request) -> Flow[Response[Any]]:
                if call.sent or call.causes:
                    call.start_over(request)
                call.asked = call.request = request
                return walk(call)

            response = owned(call, (yield from through(middleware, call.request, proceed)))
        else:
            response = yield from walk(call)
        return response
    except BaseException as exc:
        error = exc
        if isinstance(exc, LLMError):
            exc.ledger = call.ledger
        raise
    finally:
        call.ledger.duration = call.rules.clock() - call.began
        call.observer.end(_outcome(call, error), call.ledger, response, error)


def _outcome(call: Call, error: BaseException | None) -> CallOutcome:
    if error is not None:
        return "error" if isinstance(error, Exception) else "cancelled"
    if call.ledger.cache == "hit":
        return "cache_hit"
    first = call.itinerary.route.names[0] if call.itinerary.route.names else None
    return "success" if call.ledger.answered_by == first else "fallback_success"


def answer(call: Call) -> Flow[Response[Any]]:
    """Walk the route until a target answers.

    Raises:
        LLMError: the request ended without an answer; the type follows the route.
    """
    while (target := call.advance()) is not None:
        try:
            response = yield from visit(call, target)
        except Exception as error:
            call.move_on(target, error)
            continue
        if call.left() < 0:
            raise call.overrun(f"{target.name} answered after it had passed")
        return response
    raise call.failure()


def visit(call: Call, target: Target) -> Flow[Response[Any]]:
    """One target: the response cache first, then a shared flight, or attempts of our own."""
    key = call.key_for(target)
    if key is None:
        return (yield from attempts(call, target, send_once))
    cached = yield from look_up(call, target, key)
    if cached is not None:
        return cached
    joined = call.rules.flights.join(key, thread=call.thread, blocking=call.blocking)
    while joined is not None:
        flight, leads = joined
        response = yield from ride(call, target, key, flight, leads)
        if response is not None:
            return response
        joined = call.rules.flights.join(key, thread=call.thread, blocking=call.blocking)
    response = yield from attempts(call, target, send_once)
    yield from Store(key, response, target.endpoint.durable)
    return response


def look_up(call: Call, target: Target, key: str) -> Flow[Response[Any] | None]:
    """The response cache's answer for `target`, as this call's own; it must pass the check, too."""
    since = call.rules.clock()
    stored = yield from Load(key, target.endpoint.durable)
    found = None if stored is None else taken(call, stored, "hit")
    call.observer.response_cache(target.name, call.cache, call.rules.clock() - since)
    return found


def taken(call: Call, response: Response[Any], classification: CacheResult) -> Response[Any] | None:
    """An answer of another call as this call's own; None when it fails this call's own check.

    The key knows the schema, not every validator: what passed one type may not pass the next.
    """
    try:
        return owned(call, complete(call, call.adopt(response, classification)))
    except StructuredOutputError:
        call.cache = call.ledger.cache = "miss"
        call.ledger.answered_by = None
        return None


def ride(
    call: Call, target: Target, key: str, flight: Flight, leads: bool
) -> Flow[Response[Any] | None]:
    """Lead or share one upstream call.

    None when its leader gave up, or its answer is none for this call: somebody has to lead.
    """
    try:
        if leads:
            bring = fetch(call, target, key)
            yield from take_off(flight, Launch(lead(call, flight, bring), key))
        yield from landing(call, flight)
    finally:
        flight.leave()
    if flight.response is not None:
        own = flight.response.ledger is call.ledger
        return flight.response if own else taken(call, flight.response, "shared")
    if flight.error is not None:
        raise flight.error if leads else call.theirs(target, flight.error)
    if leads:
        raise call.overdue or LLMError(f"the call to {target.name} was stopped from outside")
    return None


def take_off(flight: Flight, launch: Launch) -> Flow[None]:
    """Start what the flight's leader does; if it cannot start, nobody waits for it."""
    try:
        flight.running = yield from launch
    except Exception as error:
        flight.land(None, error)
        raise
    except BaseException:
        flight.land(None, None)
        raise


def landing(call: Call, flight: Flight) -> Flow[None]:
    """Wait until `flight` is over, within this call's own deadline."""
    while not flight.landed and not flight.lost():
        left = call.left()
        if left <= 0:
            raise call.overrun("an identical call in flight has not answered yet")
        yield from Sleep(min(left, FLIGHT_CHECK), until=flight.beyond(len(flight.events)))


def lead(call: Call, flight: Flight, bring: Flow[Response[Any]]) -> Flow[None]:
    """What the leader of a flight does for all: `bring` the answer, and land it or its error."""
    try:
        response = yield from bring
    except Exception as error:
        flight.land(None, None if error is call.overdue else error)
    except BaseException:
        flight.land(None, None)
        raise
    else:
        flight.land(response, None)


def fetch(call: Call, target: Target, key: str) -> Flow[Response[Any]]:
    """The answer for a flight; one may have been stored since this call looked."""
    durable = target.endpoint.durable
    stored = yield from Load(key, durable)
    found = None if stored is None else taken(call, stored, "hit")
    if found is not None:
        return found
    response = yield from attempts(call, target, send_once)
    yield from Store(key, response, durable)
    return response


def attempts(call: Call, target: Target, once: Once[R]) -> Flow[R]:
    """Ask `target` until it answers or is done; raises its last real error."""
    delay = call.hold(target)
    last: LLMError | None = None
    while True:
        if delay and (yield from back_off(call, target, delay)) and last is not None:
            raise last
        try:
            result = yield from once(call, target, delay)
        except CircuitOpenError as refusal:
            state = target.breaker_state
            call.note(target.name, target.provider, "circuit_open", refusal, state)
            raise last or refusal from None
        if not isinstance(result, Failure):
            return result
        last = result.error
        wait = call.pause(target, result.number, last, result.classification)
        if wait is None:
            raise last
        if isinstance(last, StructuredOutputError) and call.check is not None:
            call.request = call.check.again(call.asked, last)
        if call.itinerary.route.order == "rounds":
            call.due[target.name] = call.rules.clock() + wait
            raise last
        delay = wait


def back_off(call: Call, target: Target, delay: float) -> Flow[bool]:
    """Sleep; True when the target's breaker opened meanwhile and another target is left."""
    breaker = target.breaker
    another = breaker is not None and call.itinerary.another_left(call.rules.clock())
    since = call.rules.clock()
    woken = yield from Sleep(delay, until=breaker.opened if breaker and another else None)
    call.ledger.slept += call.rules.clock() - since
    return woken


class Inside:
    """The innermost step of an attempt, and what went wrong there: not in the middleware."""

    __slots__ = ("attempt", "raised", "shown")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.raised: Exception | None = None
        self.shown: Exception | None = None

    def send(self, request: Request) -> Flow[Response[Any]]:
        """The model's own answer. Middleware around it sees an error of our tree."""
        attempt = self.attempt
        call, target, endpoint = attempt.call, attempt.target, attempt.endpoint
        try:
            raw = yield from Send(
                target, endpoint, attempt.addressed(request), attempt.allotted,
                target.timeout is not None, attempt.watch.scope,
            )  # fmt: skip
            return endpoint.accept(raw, call.ledger)
        except Exception as exc:
            self.raised = self.shown = exc
            if call.rules.attempt_middleware:
                self.shown = attempt.shown(exc)
            if self.shown is exc:
                raise
            raise self.shown from exc


def send_once(call: Call, target: Target, delay: float) -> Flow[Response[Any] | Failure]:
    """One attempt that waits for the whole answer."""
    attempt = yield from begin(call, target, delay, target.timeout)
    layers, inside = call.rules.attempt_middleware, Inside(attempt)
    try:
        asking = through(layers, call.request, inside.send) if layers else inside.send(call.request)
        response = yield from asking
        if not response.model:
            response = replace(response, model=target.name, provider=target.provider)
        try:
            response = owned(call, complete(call, response))
        except StructuredOutputError as rejected:
            return attempt.reject(rejected, response)
    except Exception as exc:
        if exc is inside.shown and inside.raised is not None:
            return attempt.fail(inside.raised)
        if not layers:
            return attempt.fail(exc)
        attempt.abandon("middleware")
        raise
    except BaseException:
        attempt.abandon("cancelled")
        raise
    return attempt.succeed(response)
