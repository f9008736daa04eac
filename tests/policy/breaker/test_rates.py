"""Circuits that open because too many calls of a window failed or were slow."""

from __future__ import annotations

from tests.policy.breaker.breakers import admitted, build, expired, fail, succeed


def test_a_failure_rate_opens_the_circuit_after_twenty_calls() -> None:
    breaker, clock = build()
    for number in range(1, 20):
        clock.now += 1.0
        (succeed if number % 3 == 0 else fail)(breaker)
        assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


def test_a_rate_is_reached_when_it_is_met_exactly() -> None:
    breaker, _ = build()
    for _ in range(10):
        succeed(breaker)
        assert breaker.state == "closed"
        fail(breaker)
    assert breaker.state == "open"


def test_without_a_failure_rate_only_failures_in_a_row_open_the_circuit() -> None:
    breaker, _ = build(failure_rate=None)
    for _ in range(100):
        fail(breaker, 4)
        succeed(breaker)
    assert breaker.state == "closed"


def test_what_left_the_window_counts_no_more() -> None:
    breaker, clock = build(failure_threshold=100)
    fail(breaker, 19)
    clock.now += 60.0
    fail(breaker, 19)
    assert breaker.state == "closed"
    assert breaker.statistics().calls == 19


def test_statistics_forget_what_left_the_window_without_a_call() -> None:
    breaker, clock = build()
    fail(breaker)
    clock.now += 60.0
    assert breaker.statistics().calls == 0


def test_a_success_never_opens_a_circuit() -> None:
    breaker, _ = build(failure_threshold=100)
    fail(breaker, 19)
    succeed(breaker)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


def test_a_throttled_call_counts_in_a_row_but_not_for_the_rate() -> None:
    breaker, _ = build(failure_threshold=30)
    fail(breaker, 29, counts_for_rate=False)
    assert breaker.statistics().calls == 0
    assert breaker.state == "closed"
    fail(breaker, 1, counts_for_rate=False)
    assert breaker.state == "open"


def test_a_throttled_call_does_not_even_ask_for_the_rate() -> None:
    breaker, _ = build(failure_threshold=100)
    fail(breaker, 19)
    succeed(breaker)
    fail(breaker, 1, counts_for_rate=False)
    assert breaker.state == "closed"


def test_slow_successes_open_the_circuit_when_a_limit_is_set() -> None:
    breaker, _ = build(slow_call_duration=2.0, slow_call_rate=0.5)
    succeed(breaker, 10, duration=2.0)
    succeed(breaker, 9, duration=2.1)
    assert breaker.state == "closed"
    assert breaker.statistics().slow_calls == 9
    succeed(breaker, 1, duration=2.1)
    assert breaker.state == "open"


def test_slow_failures_count_as_slow_too() -> None:
    breaker, _ = build(failure_rate=None, failure_threshold=99, slow_call_duration=2.0)
    fail(breaker, 19, duration=3.0)
    assert breaker.state == "closed"
    fail(breaker, 1, duration=3.0)
    assert breaker.state == "open"


def test_slow_calls_mean_nothing_without_a_limit() -> None:
    breaker, _ = build()
    succeed(breaker, 100, duration=1e6)
    assert breaker.state == "closed"
    assert breaker.statistics().slow_calls == 0


def test_a_slow_probe_closes_the_circuit_and_the_windows_start_empty() -> None:
    rules = {"window": 600.0, "slow_call_duration": 1.0, "slow_call_rate": 0.01}
    breaker, _ = expired(failure_threshold=19, **rules)
    assert breaker.statistics().calls == 19
    admitted(breaker).succeeded(duration=9.0)
    assert breaker.state == "closed"
    assert breaker.statistics().calls == 0
