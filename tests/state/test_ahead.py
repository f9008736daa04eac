"""Places that a process takes ahead while its calls follow each other quickly, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.errors import RateLimitError
from agentkit.policy.classification import classify
from agentkit.policy.limits import RateLimits
from agentkit.state.pace import SEND_WITHIN
from agentkit.types import Quota
from tests.state.fleets import Process, World

TICK = 1 / 64
"""A short time that floats express exactly."""
PLENTY = RateLimits(requests_per_minute=1000)


def questions(process: Process) -> int:
    return sum(each.function == "quota_reserve" for each in process.fleet.asked)


def sent(world: World) -> int:
    return sum(len(each.sent) for each in world.processes)


def call(world: World, count: int, number: int = 0, tokens: int = 0) -> None:
    """Calls of one process, each of which ends before the next one begins."""
    for _ in range(count):
        world[number].call(tokens)
        world.settle()
        world[number].finish()


def test_a_process_that_calls_in_quick_succession_asks_for_few_of_its_calls() -> None:
    world = World(1, PLENTY)
    world[0].fleet.asked.clear()
    call(world, 200)
    assert sent(world) == 200
    assert questions(world[0]) <= 12
    statistics = world[0].sharing.statistics()
    assert (statistics["granted"], statistics["questions"]) == (200, questions(world[0]))
    assert statistics["ahead"] == 200 - questions(world[0])


def test_what_no_call_uses_is_given_back_shortly() -> None:
    world = World(2, PLENTY)
    call(world, 20)
    assert world.counted()[0] > 20
    world.wait(SEND_WITHIN)
    assert world.counted()[0] == 20
    world[0].call()
    world.settle()
    assert world.counted()[0] == 21, "nothing is taken ahead after a pause"


def test_a_call_that_comes_alone_takes_nothing_ahead() -> None:
    world = World(1, PLENTY)
    world[0].fleet.asked.clear()
    for count in range(1, 10):
        call(world, 1)
        assert world.counted()[0] == count
        world.wait(SEND_WITHIN)
    assert [each.function for each in world[0].fleet.asked] == ["quota_reserve"] * 9


def test_while_less_than_half_of_a_limit_is_left_nothing_is_taken_ahead() -> None:
    world = World(2, RateLimits(requests_per_minute=40))
    call(world, 14)
    assert world.counted()[0] <= 20
    world.wait(SEND_WITHIN)
    call(world, 6)
    world[0].fleet.asked.clear()
    call(world, 5)
    assert questions(world[0]) == 5
    assert world.counted()[0] == 25


def test_a_place_serves_a_call_that_needs_no_more_and_the_rest_is_given_back() -> None:
    world = World(1, RateLimits(input_tokens_per_minute=100_000))
    call(world, 9, tokens=100)
    world[0].fleet.asked.clear()
    call(world, 1, tokens=40)
    assert questions(world[0]) == 0
    call(world, 1, tokens=101)
    assert questions(world[0]) == 1
    world.wait(SEND_WITHIN)
    assert world.counted() == [11, 9 * 100 + 40 + 101, 0]


def test_the_first_in_the_queue_gets_a_place_before_those_behind_it() -> None:
    world = World(1, PLENTY, concurrency=1)
    call(world, 8)
    world[0].fleet.asked.clear()
    running = world[0].call()
    usual, urgent = world[0].call(), world[0].call(priority=1)
    assert running.granted
    running.release(world.store.now)
    assert urgent.granted
    assert not usual.granted
    assert questions(world[0]) == 0


@pytest.mark.parametrize("reason", ["pause", "report", "fork", "loss", "failover"])
def test_what_was_taken_ahead_is_void_after(reason: str) -> None:
    world = World(1, PLENTY, keys=1)
    call(world, 9)
    lease = world[0].call()
    world[0].fleet.asked.clear()
    if reason == "pause":
        error = RateLimitError("slow down", retry_after=30.0)
        lease.failed(error, classify(error), world.store.now)
    elif reason == "report":
        lease.learn(Quota(requests_per_minute=12), world.store.now)
    elif reason == "fork":
        world[0].fleet.become("child")
        world[0].sharing.leave_to_parent()
    elif reason == "failover":
        world.fail_over(world.store.backup())
        world.settle()
    else:
        world.store.up = False
    other = world[0].call()
    if reason == "loss":
        assert other.granted, "as long as it is not known"
        world.store.now += SEND_WITHIN
        other = world[0].call()
    assert not other.granted


def test_a_call_of_another_process_waits_for_a_place_to_be_given_back_and_no_longer() -> None:
    world = World(2, RateLimits(requests_per_minute=8))
    call(world, 3)
    call(world, 4, number=1)
    last = world[1].call()
    world.settle()
    assert 0 < last.wait(world.store.now) < 1
    world.wait(SEND_WITHIN)
    assert last.granted


def test_a_manager_that_closes_gives_everything_back() -> None:
    world = World(1, PLENTY)
    call(world, 20)
    world[0].sharing.close()
    world.settle()
    assert world.counted()[0] == 20


def test_a_limit_that_becomes_scarce_is_used_entirely_and_shared_in_order() -> None:
    world = World(3, RateLimits(requests_per_minute=100))
    begun = world.store.now
    for tick in range(2 * 64):  # one process wants 64 calls a second, the others two
        world[0].call()
        if tick % 32 == 0:
            slow = [each.call() for each in world.processes[1:]]
            if sent(world) < 50:
                world.settle()
                assert all(each.granted for each in slow), "no call waits for what is only expected"
        world.wait(TICK)
    assert sent(world) == 100
    firsts = [each.waiting[0] for each in world.processes]
    world.until(lambda: all(each.granted for each in firsts))
    assert world.store.now < begun + 65.0
    world.advance(5.0)
    assert sent(world) == 2 * 64 + 8
    assert world.fullest()[0] == 100


def test_a_place_that_is_used_in_the_next_second_counts_there() -> None:
    world = World(1, RateLimits(requests_per_minute=8))
    world.wait(1.0 - 3 * TICK)
    call(world, 3)
    world.wait(6 * TICK)
    world[0].fleet.asked.clear()
    call(world, 1)
    assert questions(world[0]) == 0, "it was taken ahead"
    for _ in range(8):
        world[0].call()
    world.settle()
    world.advance(59.5)
    while sent(world) < 12:
        world.wait(TICK)
    assert world.fullest()[0] == 8


numbers = st.integers(0, 1)
bursts = st.tuples(
    st.just("burst"), numbers, st.integers(1, 12), st.integers(0, 9), st.integers(0, 4)
)
steps = st.one_of(
    bursts,
    bursts,
    st.tuples(st.just("finish"), numbers, st.integers(0, 9)),
    st.tuples(st.just("give up"), numbers),
    st.tuples(st.just("wait"), st.integers(1, 12)),
    st.tuples(st.just("advance"), st.sampled_from([1.0, 20.0, 57.5, 60.0])),
)
troubles = st.one_of(
    steps,
    steps,
    st.tuples(st.just("flush")),
    st.tuples(st.just("fail over")),
    st.tuples(st.just("lose replies"), numbers),
    st.tuples(st.just("delay replies"), numbers, st.integers(1, 12)),
    st.tuples(st.just("part"), numbers, st.integers(1, 100)),
)

MOST, TOKENS = 12, 100


def play(world: World, name: str, *values: Any) -> None:
    def burst(number: int, count: int, tokens: int, ticks: int) -> None:
        for _ in range(count):
            world[number].call(tokens)
            world.wait(ticks * TICK)

    def finish(number: int, used: int) -> None:
        granted = world[number].granted
        world[number].finish(min(used, granted[0].need.input_tokens) if granted else None)

    acts: dict[str, Callable[..., Any]] = {
        "burst": burst,
        "finish": finish,
        "give up": lambda number: world[number].give_up(),
        "wait": lambda ticks: world.wait(ticks * TICK),
        "advance": world.advance,
        "flush": world.store.state.flush,
        "fail over": lambda: world.fail_over(world.store.backup()),
        "lose replies": lambda number: world[number].fleet.lose_replies(),
        "delay replies": lambda number, ticks: world[number].fleet.delay_replies(ticks * TICK),
        "part": lambda number, ticks: world[number].fleet.part(ticks * TICK),
    }
    acts[name](*values)
    world.settle()


def limited() -> World:
    return World(2, RateLimits(requests_per_minute=MOST, input_tokens_per_minute=TOKENS))


@given(st.lists(troubles, max_size=20))
@settings(max_examples=60, deadline=None)
def test_no_minute_holds_more_than_the_limit(taken: list[Any]) -> None:
    world = limited()
    for name, *values in taken:
        play(world, name, *values)
    world.advance(65.0)
    requests, tokens = world.fullest()
    assert requests <= MOST
    assert tokens <= TOKENS or any(name == "finish" for name, *_ in taken)


@given(st.lists(steps, max_size=20))
@settings(max_examples=40, deadline=None)
def test_whatever_is_not_used_is_given_back(taken: list[Any]) -> None:
    world = limited()
    for name, *values in taken:
        play(world, name, *values)
    while any(each.waiting for each in world.processes):
        world.advance(1.0)
    world.advance(0.5)
    since = world.store.now - 60.0
    requests = sum(at > since for each in world.processes for at, *_ in each.sent)
    counts = world.counted()[0]
    world.advance(1.0)
    assert requests <= counts
    assert counts <= requests + sum(
        since - 2.0 <= at <= since for each in world.processes for at, *_ in each.sent
    )
