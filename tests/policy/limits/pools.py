"""Pools, keys, and those who wait for them, for the tests of pools."""

from __future__ import annotations

import math

from agentkit.policy.limits import Lease, Member, Need, Pool, RateLimits

ONE = Need()


def keys(count: int, *, slots: int | None = None, **limits: int) -> list[Member]:
    quota = RateLimits(**limits) if limits else None
    return [Member(name=f"#{n}", max_concurrency=slots, limits=quota) for n in range(1, count + 1)]


def served(lease: Lease) -> str:
    assert lease.member is not None
    return lease.member.name


def soonest(pool: Pool, need: Need, now: float) -> float:
    """Seconds until a member could serve `need` if no other call came."""
    if pool.max_in_use is not None and pool.in_use >= pool.max_in_use:
        return math.inf
    return min(member.wait(need, now) for member in pool.members)


class Waiter:
    """A waiting caller: sleeps until the time it was given, or until it is woken."""

    def __init__(self, pool: Pool, need: Need, now: float, priority: int = 0) -> None:
        self.lease = pool.request(need, now, priority)
        self.came = now
        self.until = math.inf
        self.news = False
        self.look(now)

    def look(self, now: float) -> None:
        if not self.lease.granted:
            self.lease.unsubscribe(self.ring)
            self.until = now + self.lease.wait(now)
            self.news = False
            self.lease.subscribe(self.ring)

    def ring(self) -> None:
        self.news = True

    def due(self, now: float) -> bool:
        return not self.lease.granted and (self.news or self.until <= now)


def settle(waiters: list[Waiter], now: float) -> None:
    """What drivers do: whoever was woken, or whose time has come, looks again."""
    while any(waiter.due(now) for waiter in waiters):
        for waiter in waiters:
            if waiter.due(now):
                waiter.look(now)
