"""The path of a request, from top to bottom.

`run_request` runs the request inside its middleware, `run_route` tries one target after the other,
`try_target` uses the response cache and shared calls, `make_attempts` sends and retries, and
`make_attempt` is a single attempt, settled exactly once. An `Exchange` defines how an attempt is
made. It is the only difference between a complete response and a stream.

An error that concerns a single target is returned. An error that is raised ends the request.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from agentkit.engine.attempt import Attempt, Failure, admit, begin_attempt, first_attempt
from agentkit.engine.call import Call, Check, Outcome
from agentkit.engine.effects import Flow, Sleep
from agentkit.engine.exchange import Exchange, sending
from agentkit.engine.middleware import MiddlewareFn, run_middleware
from agentkit.engine.reuse import Upstream, look_up, share_call
from agentkit.errors import CircuitOpenError, LLMError, StructuredOutputError
from agentkit.policy.target import Target
from agentkit.types import Request, Response
from agentkit.types.observer import CallOutcome

_OUTCOMES = (Response, LLMError, Failure)


def run_request(
    call: Call,
    middleware: tuple[MiddlewareFn, ...],
    exchange: Exchange,
) -> Flow[Response[Any]]:
    """Run the request inside its middleware, and report its end exactly once."""
    response: Response[Any] | None = None
    error: BaseException | None = None
    try:
        if middleware:
            innermost = functools.partial(_proceed, call, exchange)
            result = yield from run_middleware(middleware, call.request, innermost)
            response = call.owned(result)
        else:
            response = yield from _run_route_or_checked(call, exchange)
        return response
    except BaseException as exc:
        error = exc
        if isinstance(exc, LLMError):
            exc.ledger = call.ledger
        raise
    finally:
        call.ledger.duration = call.rules.now() - call.began
        call.observer.end(_outcome_of(call, error), call.ledger, response, error)
        error = None  # its traceback has this frame: a cycle, which would keep the connection open


def _proceed(call: Call, exchange: Exchange, request: Request) -> Flow[Response[Any]]:
    """The innermost step of the request middleware."""
    call.restart(request)
    return _run_route_or_checked(call, exchange)


def _run_route_or_checked(call: Call, exchange: Exchange) -> Flow[Response[Any]]:
    check = call.check
    if check is not None and check.retries is not None:
        return run_checked(call, exchange, check, retries=check.retries)
    attempt = None if exchange.streamed else first_attempt(call)
    return run_route(call, exchange) if attempt is None else run_straight(call, exchange, attempt)


def run_straight(call: Call, exchange: Exchange, attempt: Attempt) -> Flow[Response[Any]]:
    """Make the first `attempt` here, which is all that most requests need.

    If it fails, the request continues in `run_route`, as after any other failed attempt.
    """
    response: Response[Any] | None = None
    failure: Failure | None = None
    try:
        raw = yield sending(attempt, call.request)
        response = attempt.succeed(attempt.endpoint.accept(raw, call.ledger))
    except Exception as exc:
        failure = attempt.fail(exc)
    except BaseException:
        attempt.abandon("cancelled")
        raise
    finally:
        if not attempt.freed:
            attempt.abandon("unsettled")
    if response is not None:
        return exchange.conclude(call, attempt.target, response)
    return (yield from run_route(call, exchange, attempt.target, failure))


def run_checked(
    call: Call, exchange: Exchange, check: Check, *, retries: int
) -> Flow[Response[Any]]:
    """Run the route, and again for each response that `check` rejects.

    Raises:
        StructuredOutputError: no response was accepted.
    """
    while True:
        response = yield from run_route(call, exchange)
        try:
            return call.owned(check.accept(response))
        except StructuredOutputError as error:
            if not retries:
                raise
            rejected = error
        retries -= 1
        if check.delay:
            yield from Sleep(min(check.delay, max(call.time_left(), 0.0)))
        call.restart(check.again(call.asked, rejected))


def run_route(
    call: Call, exchange: Exchange, target: Target | None = None, failure: Failure | None = None
) -> Flow[Response[Any]]:
    """Try the targets of the route until one answers.

    It starts with the first target, or at `target` after the `failure` of an attempt there.

    Raises:
        LLMError: no target answered.
    """
    if target is None:
        target = call.next_target()
    while target is not None:
        if call.causes:
            yield from exchange.begin(call, target)
        if call.rules.caching:
            outcome = yield from try_target(call, target, exchange)
        else:
            outcome = yield from make_attempts(call, target, exchange, failure)
            failure = None
        if isinstance(outcome, Response):
            return exchange.conclude(call, target, outcome)
        exchange.leave_or_raise(call, target, outcome)
        target = call.next_target()
    raise call.failure()


def try_target(call: Call, target: Target, exchange: Exchange) -> Flow[Outcome]:
    """Get the response from the cache, from a shared call, or by attempts of this call."""
    key = call.cache_key(target)
    if key is None:
        return (yield from make_attempts(call, target, exchange))
    cached = yield from look_up(call, target, key)
    if cached is not None:
        yield from exchange.deliver(call, cached)
        return cached
    return (yield from share_call(Upstream(call, target, key, exchange, make_attempts)))


def make_attempts(
    call: Call, target: Target, exchange: Exchange, failure: Failure | None = None
) -> Flow[Outcome]:
    """Send to `target`, and retry as its policies allow. Returns the last error if all fail.

    With `failure`, an attempt was made and ended with it.
    """
    result: Outcome | Failure
    if failure is None:
        delay = call.initial_delay(target)
        if isinstance(delay, LLMError):
            return delay
        if delay:
            yield from _back_off(call, target, delay)
        result = yield from make_attempt(call, target, delay, exchange)
    else:
        result = failure
    last: LLMError | None = None
    while isinstance(result, Failure):
        last = result.error
        wait = _next_delay(call, target, result)
        if wait is None or (wait and (yield from _back_off(call, target, wait))):
            return last
        result = yield from make_attempt(call, target, wait, exchange)
    return last or result if isinstance(result, CircuitOpenError) else result


def _next_delay(call: Call, target: Target, failure: Failure) -> float | None:
    """Seconds until `target` is tried again after `failure`. None: not now, or never."""
    error = failure.error
    delay = call.retry_delay(target, failure.number, error, failure.classification)
    if delay is None:
        return None
    if isinstance(error, StructuredOutputError) and call.check is not None:
        call.request = call.check.again(call.asked, error)
    return delay if call.walk.repeat_at(call.rules.now() + delay) else None


def make_attempt(
    call: Call, target: Target, delay: float, exchange: Exchange
) -> Flow[Outcome | Failure]:
    """Make one attempt. A `Failure` may be retried; any other error is final for the target."""
    limit = exchange.time_limit(target)
    if (
        target.prepared
        and target.pool is None
        and not call.budgets
        and (target.circuit is None or target.breaker_state == "closed")
    ):
        attempt = admit(call, target, delay, limit)
    else:
        attempt = yield from begin_attempt(call, target, delay, limit)
    if isinstance(attempt, LLMError):
        return attempt
    layers = call.rules.attempt_middleware
    result: Outcome | Failure | Exception
    try:
        if layers:
            innermost = functools.partial(_send, attempt, exchange)
            response = call.owned((yield from run_middleware(layers, call.request, innermost)))
            if not response.model:  # the response of a middleware
                response = replace(response, model=target.name, provider=target.provider)
        else:
            response = yield from exchange.send(attempt, call.request)
        try:
            result = attempt.succeed(exchange.accept(attempt, response))
        except StructuredOutputError as rejected:
            result = attempt.reject(rejected, response)
    except Exception as exc:
        result = _settle_error(attempt, exc, exchange)
    except BaseException:
        attempt.abandon("cancelled" if attempt.first_token is None else "closed_early")
        raise
    finally:
        if not attempt.freed:  # settling itself raised: nothing stays held
            attempt.abandon("unsettled")
    yield from exchange.end(call, result if isinstance(result, Response) else None)
    if isinstance(result, _OUTCOMES):
        return result
    raise result


def _settle_error(
    attempt: Attempt, exc: Exception, exchange: Exchange
) -> LLMError | Failure | Exception:
    """Settle with an exception. One of the middleware itself abandons the attempt."""
    if attempt.call.rules.attempt_middleware and exc is not attempt.presented:
        attempt.abandon("middleware")
        return exchange.interruption(attempt, exc) or exc
    failure = attempt.fail(attempt.raised or exc)
    return exchange.interruption(attempt, failure.error) or failure


def _send(attempt: Attempt, exchange: Exchange, request: Request) -> Flow[Response[Any]]:
    """Send, and raise only errors of agentkit for the attempt middleware to catch."""
    try:
        return (yield from exchange.send(attempt, request))
    except Exception as exc:
        attempt.raised = exc
        attempt.presented = attempt.present(exc)
        if attempt.presented is exc:
            raise
        raise attempt.presented from exc


def _back_off(call: Call, target: Target, delay: float) -> Flow[bool]:
    """Sleep. Returns True if the target's breaker opened meanwhile, and another target is left."""
    breaker = target.breaker
    another = breaker is not None and call.walk.another_left(call.rules.now())
    since = call.rules.now()
    woken = yield from Sleep(delay, until=breaker.opened if breaker and another else None)
    call.ledger.slept += call.rules.now() - since
    return woken


def _outcome_of(call: Call, error: BaseException | None) -> CallOutcome:
    if error is not None:
        return "error" if isinstance(error, Exception) else "cancelled"
    if call.ledger.cache == "hit":
        return "cache_hit"
    first = call.walk.route.first
    return "success" if call.ledger.answered_by == first else "fallback_success"
