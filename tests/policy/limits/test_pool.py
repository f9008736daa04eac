"""Who is served next: first come, first served, by priority, and no caller waits forever."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from agentkit import errors as e
from agentkit.policy.classification import classify
from agentkit.policy.limits import AGING, Lease, Member, Need, Pool, RateLimits
from agentkit.types import Quota, Usage
from tests.interruptions import Interruption
from tests.policy.limits.pools import ONE, Waiter, keys, served, settle


@pytest.mark.promise("S2-07")
def test_first_come_first_served() -> None:
    pool = Pool(keys(1, slots=1))
    leases = [pool.request(ONE, 0.0) for _ in range(6)]
    for now in range(1, 6):
        leases[now - 1].release(float(now))
        assert [each.granted for each in leases] == [True] * (now + 1) + [False] * (5 - now)


def test_a_large_request_is_not_overtaken_by_small_ones() -> None:
    pool = Pool(keys(1, tokens_per_minute=100))
    pool.request(Need(60, 0), 0.0)
    large = Waiter(pool, Need(90, 0), 1.0)
    small = [Waiter(pool, Need(5, 0), 2.0) for _ in range(8)]
    assert pool.waiting == 9, "forty tokens are free, and eight small ones would fit"
    settle([large, *small], 60.0)
    assert large.lease.granted
    assert [each.lease.granted for each in small] == [True, True] + [False] * 6


@pytest.mark.promise("S4-49")
def test_a_higher_priority_goes_first_and_equals_keep_their_order() -> None:
    pool = Pool(keys(1, slots=1))
    holder = pool.request(ONE, 0.0)
    leases = {name: pool.request(ONE, 1.0, prio) for name, prio in [("a", 0), ("b", 2), ("c", 2)]}
    order = []
    while leases:
        holder.release(2.0)
        [name] = [name for name, lease in leases.items() if lease.granted]
        holder = leases.pop(name)
        order.append(name)
    assert order == ["b", "c", "a"]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("late", "first"), [(-0.5, "urgent"), (0.5, "plain")])
def test_a_step_of_priority_is_worth_ten_seconds(steps: int, late: float, first: str) -> None:
    pool = Pool(keys(1, slots=1))
    holder = pool.request(ONE, 0.0)
    plain = pool.request(ONE, 1.0)
    urgent = pool.request(ONE, 1.0 + steps * AGING + late, steps)
    holder.release(50.0)
    assert {"plain": plain, "urgent": urgent}[first].granted
    assert plain.granted is not urgent.granted


@pytest.mark.promise("S4-49")
def test_no_caller_starves_under_an_endless_stream_of_higher_priority() -> None:
    pool = Pool(keys(1, slots=1))
    holder = pool.request(ONE, 0.0)
    plain = pool.request(ONE, 0.0)
    queue: list[Lease] = []
    for second in range(1, 200):
        queue += [pool.request(ONE, float(second), 5) for _ in range(2)]
        holder.release(float(second))
        if plain.granted:
            break
        [holder] = [each for each in queue if each.granted]
        queue.remove(holder)
    # Two came each second and one was served, until those of 50 seconds were all ahead of it.
    assert second == pytest.approx(2 * 5 * AGING, abs=2)


def test_a_caller_of_higher_priority_overtakes_the_first_of_the_queue() -> None:
    pool = Pool(keys(1, requests_per_minute=1))
    pool.request(ONE, 0.0)
    plain = Waiter(pool, ONE, 1.0)
    urgent = Waiter(pool, ONE, 2.0, priority=3)
    settle([plain, urgent], 60.0)
    assert (plain.lease.granted, urgent.lease.granted) == (False, True)
    assert plain.until == 120.0, "woken as the new head, it knows its time"
    settle([plain], 120.0)
    assert plain.lease.granted


def test_a_waiter_that_leaves_lets_the_next_one_in() -> None:
    pool = Pool(keys(1, tokens_per_minute=100))
    pool.request(Need(60, 0), 0.0)
    large = Waiter(pool, Need(90, 0), 1.0)
    small = Waiter(pool, Need(5, 0), 2.0)
    large.lease.release(3.0, sent=False)
    assert small.lease.granted
    assert small.news
    assert pool.waiting == 0


def test_a_waiter_behind_others_may_leave_too() -> None:
    pool = Pool(keys(1, slots=1))
    holder = pool.request(ONE, 0.0)
    first, second, third = (pool.request(ONE, 1.0) for _ in range(3))
    second.release(2.0, sent=False)
    holder.release(3.0)
    first.release(4.0)
    assert third.granted
    assert not second.granted


def test_a_second_release_does_nothing() -> None:
    pool = Pool(keys(1, slots=1))
    lease = pool.request(ONE, 0.0)
    lease.release(1.0)
    lease.release(1.0)
    assert pool.in_use == 0
    held = pool.request(ONE, 2.0)
    assert held.granted
    assert not pool.request(ONE, 2.0).granted


def test_a_lease_that_is_dropped_gives_its_place_to_the_next() -> None:
    pool = Pool(keys(1, slots=1))
    dropped = [pool.request(ONE, 0.0)]
    never_read, waiting = pool.request(ONE, 0.0), pool.request(ONE, 0.0)
    del never_read
    dropped.clear()
    assert waiting.wait(0.0) == 0.0
    assert (pool.in_use, pool.waiting) == (1, 0)


def test_news_that_came_before_anybody_listened_is_not_lost() -> None:
    pool = Pool(keys(1, slots=1))
    holder = pool.request(ONE, 0.0)
    lease = pool.request(ONE, 0.0)
    assert lease.wait(0.0) == math.inf
    holder.release(1.0)
    rung: list[bool] = []
    lease.subscribe(lambda: rung.append(True))
    assert rung == [True]


def test_the_head_learns_when_time_alone_frees_quota() -> None:
    pool = Pool(keys(1, slots=2, requests_per_minute=2))
    holders = [pool.request(ONE, 10.0), pool.request(ONE, 20.0)]
    waiter = Waiter(pool, ONE, 21.0)
    assert waiter.until == math.inf, "no slot: only a release can tell"
    holders[0].release(22.0)
    assert waiter.news
    settle([waiter], 22.0)
    assert waiter.until == 70.0
    settle([waiter], 70.0)
    assert waiter.lease.granted


def test_a_correction_wakes_the_head_early() -> None:
    pool = Pool(keys(1, tokens_per_minute=100))
    holder = pool.request(Need(100, 0), 0.0)
    waiter = Waiter(pool, Need(50, 0), 1.0)
    assert waiter.until == 60.0
    holder.release(2.0, Usage(10, 0))
    assert waiter.lease.granted
    assert waiter.news


def test_what_was_not_sent_comes_back_completely() -> None:
    pool = Pool(keys(1, requests_per_minute=1))
    pool.request(ONE, 0.0).release(1.0, sent=False)
    assert pool.request(ONE, 1.0).granted


class Collected(Need):
    """A need that drops a call when it is read, as the garbage collector may at any moment."""

    def drops(self, pool: Pool) -> Collected:
        self.pool, self.lease = pool, pool.request(ONE, 0.0)
        self.in_use: list[int] = []
        return self

    def __iter__(self) -> Iterator[Any]:
        if not self.in_use:
            self.lease.release(1.0)
            self.in_use.append(self.pool.in_use)
        return super().__iter__()


def test_a_release_in_the_middle_of_another_step_is_done_after_it() -> None:
    """The very thread that holds the pool's lock may release a call."""
    pool = Pool(keys(1, slots=1))
    need = Collected().drops(pool)
    lease = pool.request(need, 2.0)
    assert need.in_use == [1], "it was read under the lock"
    assert lease.granted
    assert pool.in_use == 1
    refused = Pool(keys(1, slots=1, tokens_per_minute=10))
    need = Collected(99, 0).drops(refused)
    with pytest.raises(e.PoolExhaustedError):
        refused.request(need, 2.0)
    assert need.in_use == [1]
    assert refused.in_use == 0


def test_a_request_larger_than_every_limit_is_refused_immediately() -> None:
    pool = Pool([*keys(1, tokens_per_minute=100), *keys(1, tokens_per_minute=50)], name="gpt")
    with pytest.raises(e.PoolExhaustedError) as caught:
        pool.request(Need(80, 40), 0.0)
    assert "gpt" in str(caught.value)
    assert "120 of 100 tokens_per_minute" in str(caught.value)
    assert (pool.waiting, pool.in_use) == (0, 0)
    assert served(pool.request(Need(60, 40), 0.0)) == "#1", "one key is large enough"


def test_a_waiter_that_a_learned_limit_makes_hopeless_is_refused() -> None:
    pool = Pool(keys(1, slots=1, tokens_per_minute=100))
    holder = pool.request(ONE, 0.0)
    large, small = Waiter(pool, Need(90, 0), 1.0), Waiter(pool, Need(5, 0), 1.0)
    holder.learn(Quota(tokens_per_minute=50), 1.0)
    assert large.news
    with pytest.raises(e.PoolExhaustedError, match="90 of 50"):
        large.look(2.0)
    holder.release(3.0)
    assert small.lease.granted


def test_who_stood_behind_a_hopeless_waiter_looks_when_its_own_time_comes() -> None:
    pool = Pool(keys(1, tokens_per_minute=100))
    holder = pool.request(Need(50, 0), 0.0)
    large, small = Waiter(pool, Need(90, 0), 1.0), Waiter(pool, Need(40, 0), 1.0)
    assert small.until == math.inf, "not its turn"
    holder.learn(Quota(tokens_per_minute=60), 1.0)
    with pytest.raises(e.PoolExhaustedError):
        large.look(2.0)
    settle([small], 2.0)
    assert small.until == 60.0


def test_a_waiter_that_only_a_retired_key_could_take_is_refused() -> None:
    pool = Pool([*keys(1, slots=1, tokens_per_minute=100), Member(limits=RateLimits(None, 10))])
    holder = pool.request(ONE, 0.0)
    waiter = Waiter(pool, Need(90, 0), 1.0)
    denied = e.AuthenticationError("no", status=401)
    holder.failed(denied, classify(denied), 2.0)
    assert waiter.news
    with pytest.raises(e.PoolExhaustedError):
        waiter.look(2.0)


def test_a_pool_that_learns_to_count_tokens_says_so() -> None:
    pool = Pool(keys(1))
    assert not pool.counts_tokens
    pool.request(ONE, 0.0).learn(Quota(input_tokens_per_minute=10), 0.0)
    assert pool.counts_tokens


@pytest.mark.parametrize(
    "build",
    [
        lambda: Pool([]),
        lambda: Pool(keys(1), strategy="random"),  # type: ignore[arg-type]
        lambda: Pool(keys(1), acquire_timeout=-1),
        lambda: Pool(keys(1), acquire_timeout=math.nan),
        lambda: Pool(keys(1), max_in_use=0),
        lambda: Member(max_concurrency=0),
        lambda: Member(max_concurrency=True),
    ],
)
def test_values_that_cannot_work_are_refused(build: Callable[[], Any]) -> None:
    with pytest.raises(e.ConfigurationError):
        build()


def test_a_lease_that_is_released_twice_frees_one_slot() -> None:
    pool = Pool([Member(max_concurrency=2)], name="m")
    first, second = (pool.request(Need(), 0.0) for _ in range(2))
    first.release(0.0)
    first.release(0.0)
    assert (second.granted, pool.in_use) == (True, 1)


def test_a_release_that_ctrl_c_interrupts_at_any_line_counts_once() -> None:
    def ctrl_c() -> None:
        raise KeyboardInterrupt

    for at in itertools.count(1):
        pool = Pool(keys(1, slots=2, tokens_per_minute=100))
        lease, other = (pool.request(Need(10, 0), 0.0) for _ in range(2))
        interruption = Interruption(at, ctrl_c)
        with suppress(KeyboardInterrupt):
            interruption.during(partial(lease.release, 1.0, sent=False))
        lease.release(1.0, sent=False)
        assert pool.in_use == 1, at
        other.release(1.0)
        assert pool.in_use == 0, at
        if not interruption.happened:
            break
    assert at > 10
