"""Waiting for a key, a slot and quota, within this target's part of the time."""

from __future__ import annotations

import math

from agentkit.engine.call import Call
from agentkit.engine.effects import Flow, Sleep
from agentkit.errors import LLMError, PoolExhaustedError
from agentkit.policy.deadline import DEFAULT_PATIENCE, share
from agentkit.policy.estimate import estimate
from agentkit.policy.pool import Lease, Pool
from agentkit.policy.quota import Need
from agentkit.policy.routing import Target

_REQUEST = Need()


def acquire(call: Call, target: Target, pool: Pool) -> Flow[Lease]:
    """A granted lease; the wait is in the ledger.

    Raises:
        PoolExhaustedError: none came free in time, or the request is larger than any limit.
        DeadlineExceededError: none comes free within the deadline, and no other target is left.
    """
    now = call.rules.clock()
    need = estimate(call.request) if pool.counts_tokens else _REQUEST
    try:
        lease = pool.request(need, now, call.request.priority)
    except LLMError as refusal:
        call.note(target.name, target.provider, "no_quota", refusal, target.breaker_state)
        raise
    if not lease.granted:
        try:
            yield from _queue(call, target, pool, lease)
        except BaseException:
            lease.release(call.rules.clock(), sent=False)
            raise
    return lease


def patience(call: Call, pool: Pool) -> float:
    """Seconds this call waits for `pool`: its own limit, or a part that leaves time to others."""
    left, ahead = max(call.left(), 0.0), call.itinerary.count_ahead()
    if pool.acquire_timeout is not None:
        return min(pool.acquire_timeout, left)
    return min(share(left, None, ahead + 1), DEFAULT_PATIENCE) if ahead else left


def _queue(call: Call, target: Target, pool: Pool, lease: Lease) -> Flow[None]:
    since = now = call.rules.clock()
    until = since + patience(call, pool)
    wait = 0.0
    while not lease.granted and now < until:
        wait = lease.wait(now)
        if now + wait > until and wait < math.inf:
            break
        if not lease.granted:
            yield from Sleep(min(wait, until - now), until=lease)
        now = call.rules.clock()
    waited = now - since
    call.ledger.waited += waited
    call.observer.waited(target.name, waited, lease.granted)
    if lease.granted:
        return
    if pool.acquire_timeout is None and not call.itinerary.count_ahead():
        raise call.overrun(f"no slot of {target.name} comes free in time")
    if call.left() <= 0:
        raise call.overrun(f"no slot of {target.name} came free")
    full = PoolExhaustedError(
        f"no slot of {target.name} came free within {until - since:.1f} s",
        hint="add keys, or raise the model's limits or acquire_timeout",
        retry_after=wait if 0 < wait < math.inf else None,
    )
    call.note(target.name, target.provider, "no_quota", full, target.breaker_state)
    raise full
