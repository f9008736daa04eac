"""When a circuit opens, whom it lets through, and when it closes again."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from typing import Any

import pybreaker
import pytest

from agentkit.policy.breaker import Permit
from agentkit.policy.retry import RetryPolicy
from tests.forks import forks, in_child
from tests.policy.breaker.breakers import (
    TurnedClock,
    admitted,
    build,
    expired,
    fail,
    opened,
    succeed,
)


def settle(permit: Permit, how: str) -> None:
    if how == "failed":
        permit.failed(RuntimeError("down"))
    else:
        getattr(permit, how)()


# Closed


def test_a_new_breaker_is_closed_and_admits_everybody() -> None:
    breaker, _ = build()
    permits = [breaker.admit() for _ in range(100)]
    assert breaker.state == "closed"
    assert all(permit and permit.state == "closed" and not permit.probe for permit in permits)


def test_five_failures_in_a_row_open_the_default_circuit() -> None:
    breaker, clock = build()
    for _ in range(4):
        fail(breaker)
        clock.now += 1000.0
        assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


@pytest.mark.promise("A10")
def test_two_requests_of_three_failed_attempts_open_the_circuit() -> None:
    breaker, _ = build()
    attempts = RetryPolicy().max_attempts
    fail(breaker, attempts)
    assert breaker.state == "closed"
    fail(breaker, 5 - attempts)
    assert breaker.state == "open"


@pytest.mark.promise("A5")
def test_a_success_ends_the_failures_in_a_row() -> None:
    breaker, _ = build(failure_threshold=3)
    fail(breaker, 2)
    succeed(breaker)
    fail(breaker, 2)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


def test_a_late_success_does_not_end_the_failures_of_later_calls() -> None:
    breaker, _ = build(failure_threshold=3)
    first, second = admitted(breaker), admitted(breaker)
    fail(breaker)
    third = admitted(breaker)
    fail(breaker)
    first.succeeded()
    assert breaker.statistics().consecutive_failures == 2
    third.succeeded()
    assert breaker.statistics().consecutive_failures == 1
    fail(breaker)
    second.succeeded()
    fail(breaker)
    assert breaker.state == "open"


@pytest.mark.parametrize("how", ["neutral", "abandoned"])
def test_what_says_nothing_about_the_model_moves_no_counter(how: str) -> None:
    breaker, _ = build(failure_threshold=3)
    fail(breaker, 2)
    before = breaker.statistics()
    settle(admitted(breaker), how)
    assert breaker.statistics() == before
    fail(breaker)
    assert breaker.state == "open"


@pytest.mark.parametrize("first", ["succeeded", "failed", "neutral", "abandoned"])
@pytest.mark.parametrize("second", ["succeeded", "failed", "neutral", "abandoned"])
def test_only_the_first_settlement_counts(first: str, second: str) -> None:
    breaker, _ = build()
    fail(breaker)
    permit = admitted(breaker)
    settle(permit, first)
    before = breaker.statistics()
    settle(permit, second)
    assert breaker.statistics() == before


def test_two_circuits_are_independent() -> None:
    (a, _), (b, _) = opened(), build()
    assert (a.state, b.state) == ("open", "closed")
    assert b.admit()


# Open


def test_an_open_circuit_refuses_until_its_timeout_and_says_how_long() -> None:
    breaker, clock = opened()
    clock.now = 17.5
    assert breaker.admit() is None
    assert not breaker.would_admit()
    assert breaker.retry_after == 42.5
    clock.now = 60.0
    assert breaker.retry_after == 0.0
    assert admitted(breaker).probe


@pytest.mark.promise("A8")
def test_a_failure_at_time_zero_recovers_like_any_other() -> None:
    breaker, clock = build(TurnedClock(0.0))
    fail(breaker, 5)
    clock.now = 60.0
    assert breaker.would_admit()


@pytest.mark.promise("A8")
def test_a_wall_clock_that_jumps_is_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Jumping:
            return cls(1970, 1, 1, tzinfo=UTC)

    breaker, clock = opened()
    monkeypatch.setattr(pybreaker, "datetime", Jumping)
    clock.now = 59.9
    assert breaker.admit() is None
    clock.now = 60.0
    fail(breaker)
    clock.now = 119.9
    assert breaker.admit() is None
    clock.now = 120.0
    assert breaker.admit()


def test_a_clock_that_goes_back_does_not_keep_the_circuit_shut() -> None:
    breaker, clock = build(TurnedClock(1e6))
    fail(breaker, 5)
    clock.now = 5.0
    fail(breaker)
    assert breaker.state == "open"
    assert breaker.retry_after == 60.0


@pytest.mark.parametrize("how", ["succeeded", "failed", "neutral", "abandoned"])
def test_an_outcome_from_before_the_opening_is_dropped(how: str) -> None:
    breaker, clock = build()
    late = admitted(breaker)
    fail(breaker, 5)
    clock.now = 30.0
    before = breaker.statistics()
    settle(late, how)
    assert breaker.statistics() == before
    assert breaker.retry_after == 30.0


# Half-open


@pytest.mark.promise("S3-14", "S3-37")
def test_reading_the_state_changes_nothing() -> None:
    breaker, _ = expired()
    before = breaker.statistics()
    for _ in range(3):
        assert breaker.state == "open"
        assert breaker.would_admit()
        assert breaker.retry_after == 0.0
        assert "ready for a probe" in repr(breaker)
    assert breaker.statistics() == before
    assert admitted(breaker).state == "half-open"
    assert breaker.state == "half-open"


@pytest.mark.promise("A7")
def test_one_probe_at_a_time() -> None:
    breaker, clock = expired()
    admitted(breaker)
    assert [breaker.admit() for _ in range(20)] == [None] * 20
    clock.now += 59.0
    assert breaker.retry_after == 1.0
    assert not breaker.would_admit()


@pytest.mark.promise("A6")
def test_a_failed_probe_reopens_at_once_with_a_fresh_timeout() -> None:
    breaker, clock = expired()
    clock.now = 100.0
    permit = admitted(breaker)
    clock.now = 103.0
    permit.failed(RuntimeError("still down"))
    assert breaker.state == "open"
    assert breaker.retry_after == 60.0
    clock.now = 162.9
    assert breaker.admit() is None


def test_a_throttled_probe_reopens_too() -> None:
    breaker, _ = expired()
    fail(breaker, counts_for_rate=False)
    assert breaker.state == "open"


def test_a_good_probe_closes_the_circuit_and_forgets_everything() -> None:
    breaker, _ = expired()
    succeed(breaker)
    now = breaker.statistics()
    assert (now.state, now.consecutive_failures, now.calls, now.failures) == ("closed", 0, 0, 0)
    fail(breaker, 4)
    assert breaker.state == "closed"


@pytest.mark.promise("S3-14")
def test_as_many_probes_must_succeed_as_the_policy_says() -> None:
    breaker, clock = expired(success_threshold=3)
    succeed(breaker, 2)
    assert breaker.state == "half-open"
    fail(breaker)
    assert breaker.state == "open"
    clock.now += 60.0
    succeed(breaker, 2)
    assert breaker.state == "half-open"
    succeed(breaker)
    assert breaker.state == "closed"


@pytest.mark.parametrize("how", ["neutral", "abandoned"])
def test_a_probe_that_learned_nothing_makes_room_for_another(how: str) -> None:
    breaker, _ = expired()
    settle(admitted(breaker), how)
    assert breaker.state == "half-open"
    assert admitted(breaker).probe


def test_a_lost_probe_makes_room_when_its_lease_ends() -> None:
    breaker, clock = expired()
    admitted(breaker, lease=5.0)
    clock.now += 4.9
    assert breaker.admit() is None
    clock.now += 0.1
    assert admitted(breaker).probe


@pytest.mark.parametrize("how", ["succeeded", "failed", "neutral", "abandoned"])
def test_the_outcome_of_a_probe_whose_lease_went_to_another_is_dropped(how: str) -> None:
    breaker, clock = expired()
    late = admitted(breaker, lease=5.0)
    clock.now += 5.0
    second = admitted(breaker, lease=5.0)
    before = breaker.statistics()
    settle(late, how)
    assert breaker.statistics() == before
    assert breaker.admit() is None
    second.succeeded()
    assert breaker.state == "closed"


def test_a_late_probe_counts_while_no_other_took_its_place() -> None:
    breaker, clock = expired()
    late = admitted(breaker, lease=5.0)
    clock.now += 500.0
    late.succeeded()
    assert breaker.state == "closed"


# Reset, statistics, repr, fork


@pytest.mark.parametrize("make", [build, opened, expired])
def test_reset_closes_and_drops_what_is_under_way(make: Any) -> None:
    breaker, _ = make()
    late = breaker.admit()
    era = breaker.statistics().era
    breaker.reset()
    if late:
        late.failed(RuntimeError("down"))
    now = breaker.statistics()
    assert (now.state, now.calls, now.consecutive_failures) == ("closed", 0, 0)
    assert now.era == era + 1


def test_statistics_are_one_frozen_moment() -> None:
    breaker, clock = build(slow_call_duration=1.0, failure_threshold=2)
    succeed(breaker, duration=2.0)
    fail(breaker, 2)
    assert breaker.admit() is None
    clock.now = 20.0
    snapshot = breaker.statistics()
    assert (snapshot.calls, snapshot.failures, snapshot.slow_calls) == (3, 2, 1)
    assert (snapshot.failure_rate, snapshot.slow_rate) == (2 / 3, 1 / 3)
    assert (snapshot.state, snapshot.opened_at, snapshot.retry_after) == ("open", 0.0, 40.0)
    assert (snapshot.opens, snapshot.rejections, snapshot.era) == (1, 1, 1)
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    with pytest.raises(FrozenInstanceError):
        snapshot.state = "closed"  # type: ignore[misc]


def test_an_untouched_breaker_has_zero_rates_and_no_opening() -> None:
    snapshot = build()[0].statistics()
    assert (snapshot.failure_rate, snapshot.slow_rate, snapshot.retry_after) == (0.0, 0.0, 0.0)
    assert snapshot.opened_at is None


def test_a_repr_shows_the_state_and_what_comes_next() -> None:
    breaker, clock = build()
    fail(breaker, 2)
    assert repr(breaker) == "<CircuitBreaker 'm' closed, 2/5 failures in a row>"
    fail(breaker, 3)
    clock.now = 17.5
    assert repr(breaker) == "<CircuitBreaker 'm' open, probe in 42.5 s>"
    clock.now = 60.0
    permit = admitted(breaker)
    assert repr(breaker) == "<CircuitBreaker 'm' half-open, probe under way>"
    assert repr(permit) == "<Permit for a probe of 'm'>"


@forks
def test_a_forked_child_keeps_the_state_and_owns_no_probe() -> None:
    breaker, _ = expired()
    parents = admitted(breaker)
    wakes: list[int] = []
    breaker.opened.subscribe(lambda: wakes.append(1))

    def work() -> object:
        seen = [breaker.state]
        parents.succeeded()
        seen.append(breaker.state)
        succeed(breaker)
        seen.append(breaker.state)
        fail(breaker, 5)
        return seen, wakes

    assert in_child(work) == "(['half-open', 'half-open', 'closed'], [])"
    parents.succeeded()
    assert breaker.state == "closed"


def test_a_call_overtaken_by_a_reset_gets_an_ordinary_permit() -> None:
    class Resetting(TurnedClock):
        resets = False

        def __call__(self) -> float:
            if self.resets:
                self.resets = False
                breaker.reset()  # as another thread might, just before the lock is taken
            return 0.0

    clock = Resetting()
    breaker, _ = build(clock)
    fail(breaker, 5)
    clock.resets = True
    permit = admitted(breaker)
    assert (permit.probe, permit.state) == (False, "closed")


def test_a_repr_never_waits_for_the_lock() -> None:
    class Duration(float):
        def __gt__(self, other: object) -> bool:
            seen.append(repr(breaker))  # compared while the breaker is locked
            return False

    seen: list[str] = []
    breaker, _ = build(slow_call_duration=1.0)
    succeed(breaker, duration=Duration(2.0))
    assert seen == ["<CircuitBreaker 'm' closed, 0/5 failures in a row>"]
