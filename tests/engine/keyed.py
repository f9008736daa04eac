"""Targets with several keys, for the tests of flows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agentkit.engine import effects as fx
from agentkit.policy.limits import Lease, Member, Need, Pool, RateLimits
from agentkit.policy.target import Endpoint, Target
from tests.engine.stage import Asked, Stage


class Source:
    """Gives one endpoint, and counts the calls that use it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.calls = 0

    def take(self, now: float) -> Endpoint:
        self.calls += 1
        return self.endpoint

    def give_back(self, endpoint: Endpoint, now: float) -> None:
        assert endpoint is self.endpoint
        self.calls -= 1


def keyed(
    stage: Stage,
    count: int = 2,
    *,
    name: str = "a",
    slots: int = 5,
    limits: RateLimits | None = None,
    acquire_timeout: float | None = None,
    **how: Any,
) -> Target:
    """A target with `count` keys, #1, #2, …, each with an endpoint of its own."""
    target = stage.target(name, **how)
    members = [
        Member(name=f"#{number}", max_concurrency=slots, limits=limits)
        for number in range(1, count + 1)
    ]
    target.pool = Pool(members, name=name, acquire_timeout=acquire_timeout)
    target.clients = {
        member: Source(replace(target.endpoint, fingerprint=member.name)) for member in members
    }
    return target


def pool_of(target: Target) -> Pool:
    assert target.pool is not None
    return target.pool


def take(target: Target, count: int, now: float, need: Need | None = None) -> list[Lease]:
    leases = [pool_of(target).request(need or Need(), now) for _ in range(count)]
    assert all(lease.granted for lease in leases)
    return leases


def used(asked: Asked) -> list[str]:
    """The keys that were sent with, in order."""
    sent = (each for each in asked.played.effects if isinstance(each, fx.Send | fx.Open))
    return [each.endpoint.fingerprint for each in sent]


def assert_idle(target: Target) -> None:
    assert (pool_of(target).in_use, pool_of(target).waiting) == (0, 0)
    sources = [each for each in target.clients.values() if isinstance(each, Source)]
    assert [each.calls for each in sources] == [0] * len(sources)
