"""Pools of several processes that share their limits, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.errors import PoolExhaustedError, RateLimitError
from agentkit.policy.classification import classify
from agentkit.policy.limits import RateLimits
from agentkit.types import Quota
from tests.state.fleets import Process, World

FIVE = RateLimits(requests_per_minute=5)


def sent(world: World) -> int:
    return sum(len(each.sent) for each in world.processes)


def test_the_limit_is_that_of_all_processes() -> None:
    world = World(3, FIVE)
    for each in world.processes:
        for _ in range(4):
            each.call()
    world.settle()
    assert sent(world) == 5
    world.advance(59.0)
    assert sent(world) == 5
    world.advance(3.0)
    assert sent(world) == 10
    assert world.fullest() == (5, 0)


def test_one_question_asks_for_all_calls_that_wait() -> None:
    world = World(1, RateLimits(requests_per_minute=1000))
    world[0].fleet.asked.clear()
    for _ in range(130):
        world[0].call()
    world.settle()
    assert sent(world) == 130
    reserved = [each for each in world[0].fleet.asked if each.function == "quota_reserve"]
    assert len(reserved) == 3  # the first call alone, 64, then 64 and those that are expected


def test_without_limits_nothing_is_asked() -> None:
    world = World(1, None)
    world[0].fleet.asked.clear()
    world[0].call()
    assert world[0].fleet.asked == []
    assert world[0].waiting[0].granted


def test_the_usage_of_one_process_makes_room_for_another() -> None:
    world = World(2, RateLimits(input_tokens_per_minute=100))
    world[0].call(90)
    world.settle()
    world[1].call(60)
    world.settle()
    assert sent(world) == 1
    world[0].finish(used=30)
    world.settle()
    assert sent(world) == 2


def test_what_was_estimated_too_low_is_counted() -> None:
    world = World(2, RateLimits(input_tokens_per_minute=100))
    world[0].call(10)
    world.settle()
    world[0].finish(used=90)
    world.settle()
    world[1].call(20)
    world.advance(50.0)
    assert sent(world) == 1


def test_whoever_waits_longest_is_served_however_large_it_is() -> None:
    world = World(8, RateLimits(input_tokens_per_minute=100))
    for each in world.processes[1:]:
        for _ in range(20):
            each.call(5)
    world.settle()
    large = world[0].call(95)
    begun = world.store.now
    while not large.granted:
        for each in world.processes[1:]:
            each.call(5)
        world.advance(1.0)
        assert world.store.now < begun + 63.0
    assert world.fullest()[1] <= 100


def test_priority_goes_first_between_processes() -> None:
    world = World(3, RateLimits(requests_per_minute=1))
    world[0].call()
    world.settle()
    usual, urgent = world[1].call(), world[2].call(priority=3)
    world.until(lambda: urgent.granted)
    assert not usual.granted


def test_a_call_is_not_admitted_with_its_process_before_a_more_urgent_one_of_another() -> None:
    world = World(3, RateLimits(requests_per_minute=2))
    world[0].call()
    world[0].call()
    world.settle()
    first, urgent = world[1].call(priority=3), world[2].call(priority=2)
    usual = world[1].call()
    world.until(lambda: first.granted and urgent.granted)
    assert not usual.granted
    world.until(lambda: usual.granted)


def test_the_end_of_a_process_that_is_first_stalls_the_others_for_a_second() -> None:
    world = World(3, RateLimits(input_tokens_per_minute=100))
    world[0].call(50)
    world.settle()
    world[1].call(95)
    world.settle()
    other = world[2].call(1)
    gone = world.processes.pop(1)  # it never asks again
    world.store.fleets.remove(gone.fleet)
    assert world.until(lambda: other.granted) <= 63.0


def test_a_call_that_gives_up_leaves_the_line() -> None:
    world = World(2, RateLimits(input_tokens_per_minute=100))
    world[0].call(50)
    world.settle()
    world[0].call(95)
    world.settle()
    other = world[1].call(20)
    world.settle()
    assert not other.granted
    world[0].give_up()
    world.settle()
    assert other.granted


def test_several_keys_are_used_in_turn_by_all_processes() -> None:
    world = World(2, RateLimits(requests_per_minute=4), keys=3)
    for each in world.processes:
        for _ in range(9):
            each.call()
    world.settle()
    assert sent(world) == 12
    assert [world.fullest(f"key{n}")[0] for n in range(3)] == [4, 4, 4]


def test_concurrency_stays_that_of_the_process() -> None:
    world = World(2, RateLimits(requests_per_minute=100), concurrency=2)
    for each in world.processes:
        for _ in range(5):
            each.call()
    world.settle()
    assert [len(each.sent) for each in world.processes] == [2, 2]
    world[0].finish()
    world.settle()
    assert [len(each.sent) for each in world.processes] == [3, 2]


def test_a_pause_after_a_429_is_that_of_all_processes() -> None:
    world = World(2, RateLimits(requests_per_minute=100), keys=2)
    lease = world[0].call()
    world.settle()
    assert lease.member is not None
    error = RateLimitError("slow down", retry_after=30.0)
    lease.failed(error, classify(error), world.store.now)
    world.settle()
    for _ in range(4):
        world[1].call()
    world.settle()
    assert {key for _, key, _ in world[1].sent} == {"key0", "key1"} - {lease.member.name}


def test_a_pause_of_the_only_key_is_passed_on() -> None:
    world = World(2, FIVE)
    lease = world[0].call()
    world.settle()
    error = RateLimitError("slow down", retry_after=30.0)
    lease.failed(error, classify(error), world.store.now)
    world.settle()
    assert world[1].pauses == [30.0]


def test_limits_that_a_provider_reports_hold_for_all_processes() -> None:
    world = World(2, RateLimits(requests_per_minute=100))
    lease = world[0].call()
    world.settle()
    lease.learn(Quota(requests_per_minute=3), world.store.now)
    world.settle()
    for _ in range(5):
        world[1].call()
    world.settle()
    assert sent(world) == 3
    assert world[1].pool.members[0].window.limits()["requests_per_minute"] == 3


def test_after_a_flush_everything_is_counted_again() -> None:
    world = World(2, FIVE)
    for _ in range(4):
        world[0].call()
    world.settle()
    world.store.state.flush()
    for _ in range(5):
        world[1].call()
    world.advance(50.0)
    assert sent(world) == 5


def test_after_a_flush_a_process_that_took_nothing_waits_for_the_others() -> None:
    world = World(2, FIVE)
    for _ in range(5):
        world[0].call()
    world.settle()
    world.store.state.flush()
    world[1].fleet.beat()  # for the store, it is the only process now
    world.settle()
    for _ in range(5):
        world[1].call()
    world.advance(50.0)
    assert sent(world) == 5


def test_after_a_failover_that_lost_writes_everything_is_counted_again() -> None:
    world = World(2, FIVE)
    backup = world.store.backup()
    for _ in range(4):
        world[0].call()
    world.settle()
    world.fail_over(backup)
    for _ in range(5):
        world[1].call()
    world.advance(50.0)
    assert sent(world) <= 5
    world.advance(30.0)
    assert sent(world) > 5


def lose(world: World) -> None:
    world.store.up = False


@pytest.mark.parametrize(("loss", "most"), [("share", 10), ("open", 20)])
def test_while_the_store_is_lost_each_process_takes_its_share(loss: str, most: int) -> None:
    world = World(2, RateLimits(requests_per_minute=10), loss=loss)
    lose(world)
    for each in world.processes:
        for _ in range(20):
            each.call()
    world.advance(1.0)
    assert sent(world) == most
    world.advance(50.0)
    assert sent(world) == most
    world.advance(15.0)
    assert sent(world) == 2 * most


def test_the_share_is_that_of_what_was_left() -> None:
    world = World(2, RateLimits(requests_per_minute=10))
    for _ in range(8):
        world[0].call()
    world.advance(2.0)
    lose(world)
    for each in world.processes:
        for _ in range(20):
            each.call()
    world.advance(1.0)
    assert sent(world) == 10


def test_a_loss_shortly_after_another_one_leaves_no_more_than_before() -> None:
    world = World(2, RateLimits(requests_per_minute=10))
    for _ in range(10):
        world[0].call()
    world.advance(2.0)
    world.store.state.flush()
    world[1].fleet.beat()
    world.settle()
    lose(world)
    for each in world.processes:
        for _ in range(20):
            each.call()
    world.advance(30.0)
    assert sent(world) == 10


def test_a_call_that_is_larger_than_a_share_is_served_when_its_process_took_nothing() -> None:
    world = World(4, RateLimits(input_tokens_per_minute=100))
    lose(world)
    large = world[0].call(60)
    world.advance(0.5)
    assert large.granted
    other = world[0].call(60)
    world.advance(50.0)
    assert not other.granted
    world.until(lambda: other.granted)


def test_without_the_store_calls_can_be_refused() -> None:
    world = World(2, FIVE, loss="stop")
    lose(world)
    calls = [world[0].call() for _ in range(3)]
    world.store.now += 0.25
    for each in calls:
        with pytest.raises(PoolExhaustedError, match="store of the fleet is lost"):
            each.wait(world.store.now)
    with pytest.raises(PoolExhaustedError, match="store of the fleet is lost"):
        world[0].call()
    world[0].waiting.clear()
    world.store.up = True
    world.advance(1.0)
    world[0].call()
    world.settle()
    assert sent(world) == 1


def test_a_question_without_a_reply_is_given_up_after_a_quarter_of_a_second() -> None:
    world = World(2, RateLimits(requests_per_minute=10))
    lose(world)
    lease = world[0].call()
    world.store.now += 0.24
    assert 0 < lease.wait(world.store.now) <= 0.01
    assert lease.is_undecided(world.store.now)
    world.store.now += 0.01
    lease.wait(world.store.now)
    assert lease.granted
    assert world[0].sharing.statistics()["shared"] is False


def test_a_late_process_waits_for_a_store_that_answers_and_takes_nothing_alone() -> None:
    world = World(2, RateLimits(requests_per_minute=10))
    lease = world[0].call()
    assert lease.wait(world.store.now) == pytest.approx(0.25)
    world.store.now += 1.5
    lease.wait(world.store.now)
    assert lease.is_undecided(world.store.now)
    world.settle()
    assert lease.granted
    assert world[0].sharing.statistics()["shared"] is True


def test_a_store_that_answers_everything_but_this_is_given_up_in_the_end() -> None:
    world = World(2, RateLimits(requests_per_minute=10))
    lease = world[0].call()
    for _ in range(8):
        assert not lease.granted
        world.store.now += 0.25
        lease.wait(world.store.now)
    assert lease.granted


def test_a_process_that_slept_reads_the_reply_before_it_takes_the_store_for_lost() -> None:
    world = World(2, RateLimits(requests_per_minute=10))
    lease = world[0].call()
    world.store.now += 30.0
    lease.wait(world.store.now)
    assert not lease.granted
    world.settle()
    assert world[0].sharing.statistics()["shared"] is True


def test_after_a_flush_whoever_waited_stands_in_the_line_again() -> None:
    world = World(2, RateLimits(requests_per_minute=1))
    world[0].call()
    world.settle()
    first = world[1].call()
    world.advance(1.0)
    second = world[0].call()
    world.settle()
    world.store.state.flush()
    world.until(lambda: first.granted)
    assert not second.granted


def test_a_store_that_was_lost_before_costs_the_next_pool_nothing() -> None:
    world = World(2, RateLimits(requests_per_minute=2))
    lose(world)
    world[1].fleet.lost_for = 10.0
    unlucky, later = world[0].call(), world[1].call()
    world.settle()
    assert not unlucky.granted, "the store may answer again within a moment"
    assert later.granted


def test_a_short_loss_costs_a_moment_and_nothing_is_taken_alone() -> None:
    world = World(2, RateLimits(requests_per_minute=10))
    world[0].fleet.reaches_store = False
    lease = world[0].call()
    world.store.now += 0.1
    lease.wait(world.store.now)
    world[0].fleet.reaches_store = True
    world[0].fleet.beat()
    world.settle()
    assert lease.granted
    assert "quota_introduce" not in [each.function for each in world[0].fleet.asked]


def test_what_was_taken_alone_is_counted_when_the_store_is_back() -> None:
    world = World(2, RateLimits(requests_per_minute=10))
    world[1].fleet.reaches_store = False
    for _ in range(9):
        world[1].call()
    world.advance(1.0)
    assert sent(world) == 5
    world[1].fleet.reaches_store = True
    world.advance(1.0)
    for _ in range(9):
        world[0].call()
    world.advance(40.0)
    assert sent(world) == 10
    assert world[1].sharing.statistics()["shared"] is True


def test_what_was_taken_is_counted_once_although_two_replies_ask_for_it() -> None:
    world = World(1, RateLimits(requests_per_minute=10))
    for _ in range(3):
        world[0].call()
    world.settle()
    world.fail_over(world.store.backup())
    world[0].fleet.deliver()  # it hears which server it is, and asks for the state of its keys
    world[0].fleet.beat()  # asks for it, too
    world.settle()
    world.advance(5.0)
    assert world.counted()[0] == 3


def come_back_for_a_moment(world: World, process: Process) -> None:
    """Reach the store until it is known what it counts, but not until it knows what was taken."""
    process.fleet.reaches_store = True
    process.fleet.beat()
    process.fleet.deliver()
    process.fleet.reaches_store = False
    world.settle()


def test_a_store_that_comes_back_for_a_moment_holds_no_call() -> None:
    world = World(2, RateLimits(requests_per_minute=100))
    world[1].fleet.reaches_store = False
    for _ in range(3):
        world[1].call()
        world.advance(0.5)
        come_back_for_a_moment(world, world[1])
    assert world.store.now < 6.0
    assert sent(world) == 3


def test_a_store_that_comes_back_for_a_moment_allows_no_more() -> None:
    world = World(2, RateLimits(requests_per_minute=10))
    world[1].fleet.reaches_store = False
    for _ in range(9):
        world[1].call()
    for _ in range(3):
        world.advance(0.5)
        come_back_for_a_moment(world, world[1])
    world.advance(40.0)
    assert sent(world) == 5


def test_a_reply_that_comes_too_late_gives_back_what_it_granted() -> None:
    world = World(2, FIVE)
    for _ in range(3):
        world[0].call()
    for each in list(world[0].waiting):
        each.release(world.store.now, sent=False)
    world[0].waiting.clear()
    world.settle()
    for _ in range(5):
        world[1].call()
    world.settle()
    assert sent(world) == 5


numbers = st.integers(0, 2)
steps = st.one_of(
    st.tuples(st.just("call"), numbers, st.integers(0, 60), st.integers(0, 2)),
    st.tuples(st.just("call"), numbers, st.integers(0, 20), st.just(0)),
    st.tuples(st.just("finish"), numbers, st.one_of(st.none(), st.integers(0, 20))),
    st.tuples(st.just("give_up"), numbers),
    st.tuples(st.just("advance"), st.sampled_from([0.5, 1.5, 5.0, 20.0])),
    st.tuples(st.just("flush")),
    st.tuples(st.just("backup")),
    st.tuples(st.just("fail_over")),
)


@given(st.lists(steps, max_size=30))
@settings(max_examples=36, deadline=None)
def test_no_minute_holds_more_than_the_limit_while_the_store_may_forget(taken: list[Any]) -> None:
    world = World(3, RateLimits(requests_per_minute=6, input_tokens_per_minute=100))
    backup = world.store.backup()
    for name, *values in taken:
        if name == "call":
            number, tokens, priority = values
            world[number].call(tokens, priority)
        elif name == "finish":
            number, used = values
            granted = world[number].granted
            estimate = granted[0].need.input_tokens if granted else 0
            world[number].finish(None if used is None else min(used, estimate))
        elif name == "give_up":
            world[values[0]].give_up()
        elif name == "advance":
            world.advance(values[0])
        elif name == "flush":
            world.store.state.flush()
        elif name == "backup":
            backup = world.store.backup()
        else:
            world.fail_over(backup)
            backup = world.store.backup()
        world.settle()
        assert world.fullest()[0] <= 6
    world.advance(400.0)
    assert not any(each.waiting for each in world.processes)
    assert world.fullest()[0] <= 6
