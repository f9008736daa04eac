"""Targets with several keys, for the tests of flows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agentkit.engine import effects as fx
from agentkit.policy.limits.pool import Lease, Member, Pool
from agentkit.policy.limits.window import Need, RateLimits
from agentkit.policy.target import Target
from tests.engine.stage import Asked, Stage


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
        Member(
            replace(target.endpoint, fingerprint=f"#{number}"),
            name=f"#{number}",
            max_concurrency=slots,
            limits=limits,
        )
        for number in range(1, count + 1)
    ]
    target.pool = Pool(members, name=name, acquire_timeout=acquire_timeout)
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
