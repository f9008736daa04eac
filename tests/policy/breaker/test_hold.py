"""A circuit that is opened and closed on the word of other processes."""

from __future__ import annotations

from typing import Any

from agentkit import BreakerPolicy, CircuitBreaker
from agentkit.testing import FakeClock


class Reports:
    """Notes what a breaker reports."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def failed(self) -> None:
        self.seen.append("failed")

    def reset(self) -> None:
        self.seen.append("reset")


def breaker_of(clock: FakeClock, **options: Any) -> CircuitBreaker:
    policy = BreakerPolicy(**{"failure_threshold": 2, "recovery_timeout": 10.0, **options})
    return CircuitBreaker(policy=policy, clock=clock)


def fail(breaker: CircuitBreaker) -> None:
    permit = breaker.admit()
    assert permit is not None
    permit.failed(OSError())


def test_a_held_circuit_is_open_for_as_long_as_it_is_held() -> None:
    clock = FakeClock()
    breaker = breaker_of(clock)
    before = breaker.admit()
    assert before is not None
    breaker.hold(3.0)
    assert (breaker.state, breaker.retry_after, breaker.held) == ("open", 3.0, True)
    before.failed(OSError())
    clock.advance(1.0)
    breaker.hold(7.0)
    assert breaker.retry_after == 7.0
    clock.advance(7.0)
    probe = breaker.admit()
    assert probe is not None
    assert probe.probe
    probe.failed(OSError())
    assert (breaker.retry_after, breaker.held) == (10.0, False)


def test_release_closes_what_was_held_and_nothing_else() -> None:
    breaker = breaker_of(FakeClock())
    breaker.hold(3.0)
    breaker.release()
    assert breaker.state == "closed"
    fail(breaker)
    fail(breaker)
    breaker.hold(3.0)
    breaker.release()
    assert (breaker.state, breaker.retry_after) == ("open", 10.0)


def test_recovery_closes_what_the_breaker_opened_itself() -> None:
    breaker = breaker_of(FakeClock())
    era = breaker.statistics().era
    breaker.recover()
    assert breaker.statistics().era == era
    fail(breaker)
    fail(breaker)
    breaker.recover()
    assert breaker.state == "closed"


def test_listeners_hear_of_a_hold_and_waiting_calls_wake() -> None:
    breaker = breaker_of(FakeClock())
    moves: list[tuple[str, str]] = []
    woken: list[bool] = []
    breaker.add_listener(lambda _, before, after: moves.append((before, after)))
    breaker.opened.subscribe(lambda: woken.append(True))
    breaker.hold(3.0)
    breaker.hold(3.0)
    breaker.recover()
    assert moves == [("closed", "open"), ("open", "closed")]
    assert woken == [True]


def test_failures_and_resets_are_reported_and_what_does_not_count_is_not() -> None:
    clock = FakeClock()
    breaker = breaker_of(clock)
    reports = breaker.reporter = Reports()
    late = breaker.admit()
    assert late is not None
    fail(breaker)
    fail(breaker)
    late.failed(OSError())
    breaker.reset()
    assert reports.seen == ["failed", "failed", "reset"]
    breaker.hold(1.0)
    breaker.release()
    assert reports.seen == ["failed", "failed", "reset"]


def test_the_age_of_the_last_success_is_that_of_one_that_counted() -> None:
    clock = FakeClock()
    breaker = breaker_of(clock)
    assert breaker.last_success_age == float("inf")
    permit, late = breaker.admit(), breaker.admit()
    assert permit is not None
    assert late is not None
    permit.succeeded()
    clock.advance(2.0)
    breaker.hold(1.0)
    late.succeeded()
    assert breaker.last_success_age == 2.0


def test_a_tally_has_each_full_second_once() -> None:
    clock = FakeClock()
    breaker = breaker_of(clock, failure_rate=1.0)
    fail(breaker)
    last, *tally = breaker.tally(-1)
    assert tally == [0, 0, 0]  # the second is not over
    clock.advance(1.0)
    last, *tally = breaker.tally(-1)
    assert tally == [1, 1, 0]
    assert breaker.tally(last) == (last, 0, 0, 0)
    clock.advance(100.0)
    assert breaker.tally(-1)[1:] == (0, 0, 0)
