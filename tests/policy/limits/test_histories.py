"""Any history of a pool keeps every limit and serves everybody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentkit.policy.limits import WINDOW, Member, Need, Pool, RateLimits, Strategy
from agentkit.types import Usage
from tests.policy.limits.pools import Waiter, served, settle, soonest

STEP = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 60), st.integers(0, 3)),
    st.tuples(st.just("ask"), st.integers(0, 60), st.just(0)),
    st.tuples(st.just("pass"), st.integers(1, 200), st.just(0)),
    st.tuples(st.just("release"), st.integers(0, 9), st.integers(0, 100)),
    st.tuples(st.just("unsent"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("leave"), st.integers(0, 9), st.just(0)),
)


class World:
    """A pool with limits, those who ask it, and what its keys' provider sees of them."""

    def __init__(self, limits: list[tuple[int, int]], strategy: Strategy, most: int | None) -> None:
        self.limits, self.most = limits, most
        self.pool = Pool(
            [
                Member(name=str(n), max_concurrency=2, limits=RateLimits(rpm, None, None, tpm))
                for n, (rpm, tpm) in enumerate(limits)
            ],
            strategy=strategy,
            max_in_use=most,
        )
        self.now = 0.0
        self.waiting: list[Waiter] = []
        self.out: list[tuple[Waiter, list[float]]] = []
        self.sent: list[list[list[float]]] = [[] for _ in limits]

    def step(self, kind: str, first: int, second: int) -> None:
        if kind == "ask":
            self.waiting.append(Waiter(self.pool, Need(first, 0), self.now, second))
        elif kind == "pass":
            self.now += first * 0.125
        elif kind == "leave" and self.waiting:
            left = self.waiting.pop(first % len(self.waiting))
            left.lease.release(self.now, sent=False)
        elif kind in {"release", "unsent"} and self.out:
            self.give_back(first, second if kind == "release" else None)
        self.collect()

    def give_back(self, index: int, share: int | None) -> None:
        waiter, row = self.out.pop(index % len(self.out))
        if share is None:
            row[1] = row[2] = 0
            waiter.lease.release(self.now, sent=False)
        else:
            row[2] = waiter.lease.need.input_tokens * share // 100
            waiter.lease.release(self.now, Usage(int(row[2]), 0))

    def collect(self) -> None:
        settle(self.waiting, self.now)
        for waiter in [each for each in self.waiting if each.lease.granted]:
            self.waiting.remove(waiter)
            row = [self.now, 1, waiter.lease.need.input_tokens]
            self.sent[int(served(waiter.lease))].append(row)
            self.out.append((waiter, row))
        self.check()

    def check(self) -> None:
        pool = self.pool
        for member, sent, (rpm, tpm) in zip(pool.members, self.sent, self.limits, strict=True):
            recent = [row for row in sent if row[0] > self.now - WINDOW]
            assert member.in_use <= 2
            assert sum(row[1] for row in recent) <= rpm
            assert sum(row[2] for row in recent) <= tpm
        assert self.most is None or pool.in_use <= self.most
        assert (pool.in_use, pool.waiting) == (len(self.out), len(self.waiting))
        if self.waiting:
            head = min(self.waiting, key=lambda each: each.lease.rank)
            assert soonest(pool, head.lease.need, self.now) > 0, "who could be served is served"
            assert head.until == self.now + soonest(pool, head.lease.need, self.now)


@given(
    st.lists(STEP, max_size=60),
    st.lists(st.tuples(st.integers(1, 4), st.integers(60, 120)), min_size=1, max_size=3),
    st.sampled_from(["round_robin", "least_loaded"]),
    st.none() | st.integers(1, 3),
)
def test_any_history_keeps_every_limit_and_serves_everybody(
    steps: list[tuple[str, int, int]],
    limits: list[tuple[int, int]],
    strategy: Strategy,
    most: int | None,
) -> None:
    world = World(limits, strategy, most)
    for step in steps:
        world.step(*step)
    for _ in range(len(world.waiting) + 1):  # and then, in time, everybody
        while world.out:
            world.step("release", 0, 100)
        world.step("pass", 480, 0)
    assert not world.waiting
