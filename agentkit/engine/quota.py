"""Quota: the wait for a key, a slot and tokens, within the target's share of the time."""

from __future__ import annotations

import math

from agentkit.engine.call import Call
from agentkit.engine.effects import Flow, Sleep
from agentkit.errors import CircuitOpenError, LLMError, PoolExhaustedError
from agentkit.policy.deadline import DEFAULT_PATIENCE, share
from agentkit.policy.limits import (
    DEFAULT_OUTPUT,
    Lease,
    Need,
    Pool,
    RateWindow,
    estimate_need,
    output_limit,
)
from agentkit.policy.target import Target
from agentkit.types import Request

LOOK_AGAIN = 5.0
"""Seconds after which a waiting call looks again: the call before it may be gone."""

UNDECIDED = 0.25
"""Seconds after which a call that waits for the reply of other processes looks again."""

_REQUEST = Need()


def acquire_lease(call: Call, target: Target, pool: Pool) -> Flow[Lease | LLMError]:
    """Get a lease, after a wait that is recorded in the ledger.

    Returns an error instead if no lease became free in time, if the request exceeds every limit, or
    if it would have to wait while the target's breaker is open.

    Raises:
        DeadlineExceededError: no lease becomes free within the deadline, and no target is left.
    """
    now = call.rules.now()
    request = target.adapt(call.request)
    need = _need(request, pool, now) if pool.counts_tokens else _REQUEST
    try:
        lease = pool.request(need, now, call.request.priority)
    except PoolExhaustedError as refusal:
        return _no_quota(call, target, refusal)
    if lease.granted:
        return lease
    refused: LLMError | None = None
    try:
        refused = yield from _queue(call, target, pool, lease)
    except BaseException:
        lease.release(call.rules.now(), sent=False)
        raise
    if refused is None:
        return lease
    lease.release(call.rules.now(), sent=False)
    return refused


def _need(request: Request, pool: Pool, now: float) -> Need:
    """The estimated tokens. Without ``max_tokens`` the output is reduced to fit into some limit."""
    need = estimate_need(request)
    windows = [member.window for member in pool.members if not member.retired]
    if output_limit(request) is None and all(each.too_large(need, now) for each in windows):
        room = max((_room(each, need.input_tokens) for each in windows), default=0)
        need = need._replace(output_tokens=max(1, room))
    return need


def _room(window: RateWindow, input_tokens: int) -> int:
    """The most output tokens that fit into a minute of `window` beside `input_tokens`."""
    limits = window.limits()
    output, both = limits["output_tokens_per_minute"], limits["tokens_per_minute"]
    rooms = (output, None if both is None else both - input_tokens, DEFAULT_OUTPUT)
    return min(room for room in rooms if room is not None)


def patience(call: Call, pool: Pool) -> float:
    """Seconds to wait for `pool`: its own limit, or a share that leaves time for other targets."""
    left, ahead = max(call.time_left(), 0.0), call.walk.count_ahead()
    if pool.acquire_timeout is not None:
        return min(pool.acquire_timeout, left)
    return min(share(left, None, ahead + 1), DEFAULT_PATIENCE) if ahead else left


def _queue(call: Call, target: Target, pool: Pool, lease: Lease) -> Flow[LLMError | None]:
    """Wait until `lease` is granted. Returns the error if it is not."""
    if target.breaker is not None and not target.breaker.would_admit():
        return circuit_open(call, target)
    since = call.rules.now()
    until = since + patience(call, pool)
    now = since
    try:
        while (wait := lease.wait(now)) > 0.0:
            ends = until
            if lease.is_undecided(now):  # what other processes say belongs to no wait
                ends = max(until, now + UNDECIDED)
            elif now >= until or until <= now + wait < math.inf:
                break
            yield from Sleep(min(LOOK_AGAIN if wait == math.inf else wait, ends - now), lease)
            now = call.rules.now()
    except PoolExhaustedError as refusal:
        return _no_quota(call, target, refusal)
    finally:
        waited = call.rules.now() - since
        call.ledger.waited += waited
        call.observer.waited(target.name, waited, lease.granted)
    if lease.granted:
        return None
    if call.time_left() <= 0 or (pool.acquire_timeout is None and not call.walk.count_ahead()):
        raise call.deadline_error(
            f"no slot of {target.name} (max_concurrency, limits) becomes free in time"
        )
    full = PoolExhaustedError(
        f"no slot of {target.name} became free within {until - since:.1f} s",
        hint="add keys, or raise the model's max_concurrency, limits or acquire_timeout",
        retry_after=wait if 0 < wait < math.inf else None,
    )
    return _no_quota(call, target, full)


def _no_quota(call: Call, target: Target, refusal: PoolExhaustedError) -> PoolExhaustedError:
    state = target.breaker_state
    call.record_skip(target.name, target.provider, "no_quota", refusal, breaker=state)
    return refusal


def circuit_open(call: Call, target: Target) -> CircuitOpenError:
    """The error of a target whose breaker does not admit a call. It is recorded as a skip."""
    wait = target.breaker.retry_after if target.breaker is not None else None
    fleet = None if target.circuit is None else target.circuit.explain()
    error = CircuitOpenError(
        f"the circuit breaker of {target.name} is open"
        + (f"; the next probe is possible in {wait:.1f} s" if wait else "; a probe is under way")
        + ("" if fleet is None else f"; {fleet}"),
        hint="add a fallback, wait, or call reset_circuit_breaker()",
        retry_after=wait,
    )
    state = target.breaker_state
    details = None if fleet is None else {"fleet": fleet}
    call.record_skip(
        target.name, target.provider, "circuit_open", error, breaker=state, details=details
    )
    return error
