"""Who is served next and by which key; what a fault means for a key; when a client is renewed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import errors as e
from agentkit.policy.lease import Lease
from agentkit.policy.pool import AGING, COOLDOWN, Member, Pool, Strategy
from agentkit.policy.quota import WINDOW, Need, RateLimits
from agentkit.policy.routing import Endpoint
from agentkit.policy.verdict import Again, Blame, judge
from agentkit.providers.callable import endpoint_of
from agentkit.types import Quota, Usage

ONE = Need()


def keys(count: int, *, slots: int | None = None, **limits: int) -> list[Member]:
    quota = RateLimits(**limits) if limits else None
    return [Member(name=f"#{n}", max_concurrency=slots, limits=quota) for n in range(1, count + 1)]


def served(lease: Lease) -> str:
    assert lease.member is not None
    return lease.member.name


class Waiter:
    """Somebody who waits: sleeps until the time it was told, or until it is woken."""

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


# ------------------------------------------------------------------------------ the queue


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


def test_nobody_starves_under_an_endless_stream_of_higher_priority() -> None:
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


def test_a_newcomer_of_higher_priority_becomes_the_head_and_the_old_head_loses_nothing() -> None:
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
    pool.request(ONE, 2.0)
    assert not pool.request(ONE, 2.0).granted


def test_news_that_came_before_anybody_listened_is_not_lost() -> None:
    pool = Pool(keys(1, slots=1))
    holder = pool.request(ONE, 0.0)
    lease = pool.request(ONE, 0.0)
    assert lease.wait(0.0) == math.inf
    holder.release(1.0)
    rung: list[bool] = []
    lease.subscribe(lambda: rung.append(True))
    assert rung == [True]


def test_the_head_is_told_when_time_alone_frees_quota() -> None:
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


def test_what_was_not_sent_comes_back_whole() -> None:
    pool = Pool(keys(1, requests_per_minute=1))
    pool.request(ONE, 0.0).release(1.0, sent=False)
    assert pool.request(ONE, 1.0).granted


def test_a_release_in_the_middle_of_another_step_is_done_after_it() -> None:
    """The garbage collector may drop a call in the very thread that holds the pool's lock."""
    pool = Pool(keys(1, slots=1))
    dropped = pool.request(ONE, 0.0)
    with pool._lock:
        dropped.release(1.0)
        assert pool.in_use == 1
    lease = pool.request(ONE, 2.0)
    assert lease.granted
    assert pool.in_use == 1
    refused = Pool(keys(1, slots=1, tokens_per_minute=10))
    dropped = refused.request(ONE, 0.0)
    with refused._lock:
        dropped.release(1.0)
    with pytest.raises(e.PoolExhaustedError):
        refused.request(Need(99, 0), 2.0)
    assert refused.in_use == 0


def test_a_request_larger_than_every_limit_is_refused_at_once_and_takes_no_place() -> None:
    pool = Pool([*keys(1, tokens_per_minute=100), *keys(1, tokens_per_minute=50)], name="gpt")
    with pytest.raises(e.PoolExhaustedError) as caught:
        pool.request(Need(80, 40), 0.0)
    assert "gpt" in str(caught.value)
    assert "120 of 100 tokens_per_minute" in str(caught.value)
    assert (pool.waiting, pool.in_use) == (0, 0)
    assert served(pool.request(Need(60, 40), 0.0)) == "#1", "one key is large enough"


def test_a_waiter_that_a_learned_limit_makes_hopeless_is_refused_and_holds_nobody_up() -> None:
    pool = Pool(keys(1, slots=1, tokens_per_minute=100))
    holder = pool.request(ONE, 0.0)
    large, small = Waiter(pool, Need(90, 0), 1.0), Waiter(pool, Need(5, 0), 1.0)
    holder.learn(Quota(tokens_per_minute=50))
    assert large.news
    with pytest.raises(e.PoolExhaustedError, match="90 of 50"):
        large.look(2.0)
    holder.release(3.0)
    assert small.lease.granted


def test_a_waiter_that_only_a_retired_key_could_take_is_refused() -> None:
    pool = Pool([*keys(1, slots=1, tokens_per_minute=100), Member(limits=RateLimits(None, 10))])
    holder = pool.request(ONE, 0.0)
    waiter = Waiter(pool, Need(90, 0), 1.0)
    denied = e.AuthenticationError("no", status=401)
    holder.failed(denied, judge(denied), 2.0)
    assert waiter.news
    with pytest.raises(e.PoolExhaustedError):
        waiter.look(2.0)


def test_a_pool_that_learns_to_count_tokens_says_so() -> None:
    pool = Pool(keys(1))
    assert not pool.counts_tokens
    pool.request(ONE, 0.0).learn(Quota(input_tokens_per_minute=10))
    assert pool.counts_tokens


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
            assert pool.soonest(head.lease.need, self.now) > 0, "who could be served is served"
            assert head.until == self.now + pool.soonest(head.lease.need, self.now)


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


# ------------------------------------------------------------------------------ which key


def test_round_robin_is_an_exact_sequence() -> None:
    pool = Pool(keys(3))
    assert [served(pool.request(ONE, 0.0)) for _ in range(7)] == [
        "#1", "#2", "#3", "#1", "#2", "#3", "#1",
    ]  # fmt: skip


def test_round_robin_goes_on_after_a_key_that_cannot() -> None:
    members = keys(3)
    pool = Pool(members)
    members[1].resting_until = 5.0
    assert [served(pool.request(ONE, 0.0)) for _ in range(4)] == ["#1", "#3", "#1", "#3"]
    assert [served(pool.request(ONE, 5.0)) for _ in range(4)] == ["#1", "#2", "#3", "#1"]


def test_least_loaded_prefers_the_key_with_the_fewest_calls() -> None:
    pool = Pool(keys(3), strategy="least_loaded")
    leases = [pool.request(ONE, 0.0) for _ in range(6)]
    assert [served(each) for each in leases] == ["#1", "#2", "#3", "#1", "#2", "#3"]
    leases[1].release(1.0)
    leases[4].release(1.0)
    assert [served(pool.request(ONE, 1.0)) for _ in range(3)] == ["#2", "#2", "#3"]


def test_the_sixth_call_on_one_key_waits() -> None:
    pool = Pool(keys(1, slots=5))
    leases = [pool.request(ONE, 0.0) for _ in range(6)]
    assert [each.granted for each in leases] == [True] * 5 + [False]
    assert leases[5].wait(0.0) == math.inf
    leases[2].release(1.0)
    assert leases[5].granted


def test_limits_are_per_key_so_two_keys_are_twice_as_much() -> None:
    pool = Pool(keys(2, requests_per_minute=10))
    assert sum(pool.request(ONE, 0.0).granted for _ in range(50)) == 20


def test_pools_do_not_know_of_each_other() -> None:
    one, other = Pool(keys(1, requests_per_minute=1)), Pool(keys(1, requests_per_minute=1))
    assert one.request(ONE, 0.0).granted
    assert other.request(ONE, 0.0).granted
    assert not one.request(ONE, 0.0).granted


def test_all_members_together_have_a_bound() -> None:
    pool = Pool(keys(3, slots=5), max_in_use=4)
    leases = [pool.request(ONE, 0.0) for _ in range(5)]
    assert [each.granted for each in leases] == [True] * 4 + [False]
    assert pool.soonest(ONE, 0.0) == math.inf
    leases[0].release(1.0)
    assert leases[4].granted


def test_the_soonest_of_several_keys() -> None:
    members = keys(3, requests_per_minute=1)
    pool = Pool(members)
    for at in (0.0, 10.0):
        pool.request(ONE, at)
    members[2].resting_until = 65.0
    assert pool.soonest(ONE, 11.0) == 49.0
    members[2].resting_until = 0.0
    assert pool.soonest(ONE, 11.0) == 0.0


# ------------------------------------------------------------------------------ health


def fail(pool: Pool, error: e.LLMError, now: float = 0.0) -> Again:
    """One call that ends with `error`; whether the next key is asked at once."""
    lease = pool.request(ONE, now)
    assert lease.granted
    verdict = lease.failed(error, judge(error), now)
    lease.release(now, Usage())
    if verdict.again is Again.AT_ONCE:
        assert verdict.blame is Blame.NEUTRAL, "a key's fault is not the target's"
    else:
        assert verdict == judge(error)
    return verdict.again


def throttled(after: float | None) -> e.RateLimitError:
    return e.RateLimitError("slow down", retry_after=after)


@pytest.mark.parametrize(("after", "rest"), [(7.0, 7.0), (None, COOLDOWN)])
def test_a_429_rests_its_key_and_asks_the_next_at_once(after: float | None, rest: float) -> None:
    pool = Pool(keys(2))
    assert fail(pool, throttled(after)) is Again.AT_ONCE
    assert {served(pool.request(ONE, 0.0)) for _ in range(5)} == {"#2"}
    assert {served(pool.request(ONE, rest - 0.001)) for _ in range(5)} == {"#2"}
    assert {served(pool.request(ONE, rest)) for _ in range(5)} == {"#1", "#2"}


def test_when_every_key_rests_the_error_tells_when_the_first_is_back() -> None:
    pool = Pool(keys(3))
    for after in (9.0, 4.0):
        assert fail(pool, throttled(after)) is Again.AT_ONCE
    last = throttled(60.0)
    assert fail(pool, last, now=1.0) is Again.YES
    assert last.retry_after == 3.0
    assert served(pool.request(ONE, 4.0)) == "#2"


def test_the_last_key_able_to_serve_does_not_rest_on_a_429_without_a_time() -> None:
    pool = Pool(keys(2))
    fail(pool, throttled(None))
    assert fail(pool, throttled(None)) is Again.YES
    assert served(pool.request(ONE, 0.0)) == "#2"


def test_a_key_alone_leaves_a_429_to_its_target() -> None:
    pool = Pool(keys(1))
    assert fail(pool, throttled(5.0)) is Again.YES
    assert pool.request(ONE, 0.0).granted


def test_a_refused_key_retires_with_one_warning_that_names_its_fingerprint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = Pool([Member(name="#1a2b3c4d", max_concurrency=2), *keys(1)], name="gpt")
    error = e.AuthenticationError("bad key sk-secret", status=401)
    leases = [pool.request(ONE, 0.0) for _ in range(3)]
    assert [served(each) for each in leases] == ["#1a2b3c4d", "#1", "#1a2b3c4d"]
    for lease in (leases[0], leases[2]):
        assert lease.failed(error, judge(error), 0.0).again is Again.AT_ONCE
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "gpt: key #1a2b3c4d was refused and is used no more"
    for lease in leases:
        lease.release(0.0)
    assert {served(pool.request(ONE, 1e9)) for _ in range(5)} == {"#1"}


def test_a_refused_key_asks_a_resting_one_rather_than_none() -> None:
    pool = Pool(keys(2))
    fail(pool, throttled(3.0))
    assert fail(pool, e.AuthenticationError("no", status=401)) is Again.AT_ONCE
    assert pool.soonest(ONE, 0.0) == 3.0


def test_the_last_key_is_never_retired(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool(keys(2))
    error = e.AuthenticationError("no", status=401)
    assert fail(pool, error) is Again.AT_ONCE
    assert fail(pool, error) is Again.NO
    assert served(pool.request(ONE, 0.0)) == "#2"
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "error",
    [
        e.AuthenticationError("no credit", status=402),
        e.AuthenticationError("no right", status=403),
        e.ModelNotFoundError("not with this key", status=404),
    ],
)
def test_what_may_change_under_the_same_key_rests_it(error: e.LLMError) -> None:
    pool = Pool(keys(2))
    assert fail(pool, error) is Again.AT_ONCE
    assert served(pool.request(ONE, COOLDOWN - 1)) == "#2"
    assert fail(pool, error, COOLDOWN - 1) is Again.NO, "the last one that serves is not rested"
    assert {served(pool.request(ONE, COOLDOWN)) for _ in range(4)} == {"#1", "#2"}


def down() -> e.ServerError:
    return e.ServerError("down", status=503)


def test_three_failures_in_a_row_rest_a_key_until_its_cooldown_is_over() -> None:
    members = keys(2)
    pool = Pool(members)
    for _ in range(3):
        assert fail(pool, down()) is Again.YES
        pool.request(ONE, 0.0).succeeded()  # the other key is well
    assert {served(pool.request(ONE, COOLDOWN - 0.1)) for _ in range(4)} == {"#2"}
    assert {served(pool.request(ONE, COOLDOWN)) for _ in range(4)} == {"#1", "#2"}
    assert members[0].failures == 2, "one more failure is enough"
    members[1].resting_until = 2 * COOLDOWN
    pool.request(ONE, COOLDOWN).succeeded()
    assert members[0].failures == 0


def test_a_success_between_failures_starts_counting_anew() -> None:
    members = keys(2)
    pool = Pool(members)
    for _ in range(5):
        members[1].resting_until = 1.0
        fail(pool, down())
        fail(pool, down())
        pool.request(ONE, 0.0).succeeded()
    members[1].resting_until = 0.0
    assert {served(pool.request(ONE, 0.0)) for _ in range(4)} == {"#1", "#2"}


def test_when_all_fail_the_last_one_keeps_serving() -> None:
    pool = Pool(keys(3))
    for _ in range(30):
        assert fail(pool, down()) is Again.YES
    assert pool.request(ONE, 0.0).granted
    assert sum(each.resting_until > 0 for each in pool.members) == 2


def test_a_callers_own_fault_is_not_the_keys() -> None:
    members = keys(2)
    pool = Pool(members)
    for _ in range(10):
        fail(pool, e.InvalidRequestError("bad", status=400))
    assert [each.failures for each in members] == [0, 0]


def test_resting_and_retired_keys_do_not_take_a_waiters_turn() -> None:
    members = keys(2, slots=1)
    pool = Pool(members)
    first, second = pool.request(ONE, 0.0), pool.request(ONE, 0.0)
    waiter = Waiter(pool, ONE, 0.0)
    error = throttled(20.0)
    first.failed(error, judge(error), 1.0)
    first.release(1.0)
    settle([waiter], 1.0)
    assert waiter.until == 21.0
    second.release(2.0)
    assert served(waiter.lease) == "#2"


# ------------------------------------------------------------------------------ clients


class Clients:
    """Makes numbered endpoints and notes which were closed."""

    def __init__(self) -> None:
        self.made: list[Endpoint] = []
        self.closed: list[int] = []

    def __call__(self) -> Endpoint:
        number = len(self.made)
        plain = endpoint_of(
            lambda prompt, kwargs: "", name="a", provider="p", fingerprint="", durable=False
        )
        self.made.append(replace(plain, close=lambda: self.closed.append(number)))
        return self.made[-1]


def recycling(clients: Callable[[], Endpoint], **times: float) -> Pool:
    return Pool([Member(clients(), renew=clients, **times)])  # type: ignore[arg-type]


def used(pool: Pool, clients: Clients, now: float) -> int:
    lease = pool.request(ONE, now)
    lease.release(now)
    assert lease.endpoint is not None
    return clients.made.index(lease.endpoint)


def test_an_idle_client_is_made_anew_and_the_old_one_closed() -> None:
    clients = Clients()
    pool = recycling(clients, idle_timeout=10.0)
    assert [used(pool, clients, at) for at in (100.0, 109.0, 118.9, 128.9, 130.0)] == [
        0, 0, 0, 1, 1,
    ]  # fmt: skip
    assert clients.closed == [0]


def test_a_client_past_its_lifetime_is_made_anew() -> None:
    clients = Clients()
    pool = recycling(clients, max_lifetime=10.0)
    assert [used(pool, clients, 100.0 + at) for at in range(0, 26, 5)] == [0, 0, 1, 1, 2, 2]
    assert clients.closed == [0, 1]


def test_a_client_in_use_is_closed_with_its_last_call() -> None:
    clients = Clients()
    pool = recycling(clients, max_lifetime=10.0, idle_timeout=1.0)
    early = [pool.request(ONE, 0.0), pool.request(ONE, 5.0)]
    late = pool.request(ONE, 10.0)
    assert [each.endpoint for each in (*early, late)] == [clients.made[n] for n in (0, 0, 1)]
    for lease in (late, early[0]):
        lease.release(11.0)
    assert clients.closed == []
    early[1].release(11.0)
    assert clients.closed == [0]


def test_each_of_several_replaced_clients_is_closed_with_its_own_last_call() -> None:
    clients = Clients()
    pool = recycling(clients, max_lifetime=10.0)
    leases = [pool.request(ONE, at) for at in (0.0, 10.0, 20.0)]
    leases[1].release(21.0)
    assert clients.closed == [1]
    leases[2].release(21.0)
    leases[0].release(21.0)
    assert clients.closed == [1, 0], "the last one is still in service"


def test_the_client_of_a_running_call_is_not_idle() -> None:
    clients = Clients()
    pool = recycling(clients, idle_timeout=10.0)
    pool.request(ONE, 0.0)
    pool.request(ONE, 50.0)
    assert len(clients.made) == 1


def test_a_client_is_made_with_the_first_call_where_there_is_none() -> None:
    clients = Clients()
    pool = Pool([Member(renew=clients)])
    assert clients.made == []
    assert used(pool, clients, 0.0) == 0
    assert used(pool, clients, 1e6) == 0


def test_a_client_that_cannot_be_made_leaves_the_old_one(caplog: pytest.LogCaptureFixture) -> None:
    clients = Clients()

    def renew() -> Endpoint:
        raise OSError("sk-secret")

    pool = Pool([Member(clients(), name="#1", renew=renew, max_lifetime=10.0)])
    waiting = [pool.request(ONE, at) for at in (0.0, 20.0, 21.0)]
    assert {each.endpoint for each in waiting} == {clients.made[0]}
    [record] = caplog.records
    assert record.getMessage() == "key #1: no fresh client: OSError"


def test_a_client_that_cannot_be_closed_disturbs_nobody() -> None:
    clients = Clients()

    def make() -> Endpoint:
        def close() -> None:
            raise OSError

        return replace(clients(), close=close)

    pool = recycling(make, max_lifetime=1.0)
    assert all(pool.request(ONE, at).granted for at in (0.0, 5.0, 10.0))


def test_a_pool_may_be_asked_while_a_client_is_closed() -> None:
    clients = Clients()
    seen: list[int] = []

    def make() -> Endpoint:
        return replace(clients(), close=lambda: seen.append(pool.request(ONE, 5.0).granted))

    pool = recycling(make, max_lifetime=1.0)
    used_at = [pool.request(ONE, 0.0)]
    used_at[0].release(0.5)
    pool.request(ONE, 5.0)
    assert seen == [True], "it is closed outside the lock"


# ------------------------------------------------------------------------------ fork


def test_a_forked_child_starts_empty_with_clients_of_its_own() -> None:
    clients = Clients()
    unused = Member(renew=clients)
    member = Member(clients(), renew=clients, max_concurrency=2, limits=RateLimits(3))
    pool = Pool([member])
    mine, theirs = pool.request(ONE, 0.0), pool.request(ONE, 0.0)
    pool.request(ONE, 0.0)
    members = pool.members
    pool._lock.acquire()  # another thread of the parent is in the middle of something
    pool.renew_after_fork()
    assert (pool.in_use, pool.waiting) == (0, 0)
    assert pool.members == members
    assert clients.closed == [], "the parent's connections are the parent's"
    mine.release(1.0)
    theirs.release(1.0)
    assert pool.in_use == 0, "a call of the parent is given back there"
    leases = [pool.request(ONE, 1.0) for _ in range(2)]
    assert [each.granted for each in leases] == [True, False], "the parent's two still count"
    assert leases[0].endpoint is clients.made[1]
    Pool([unused]).renew_after_fork()
    assert unused.endpoint is None


# ------------------------------------------------------------------------------ bad values


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
        lambda: Member(idle_timeout=0),
        lambda: Member(max_lifetime=-1.0),
        lambda: Member(max_lifetime=math.inf),
    ],
)
def test_values_that_cannot_work_are_refused(build: Callable[[], Any]) -> None:
    with pytest.raises(e.ConfigurationError):
        build()
