"""Thirty-two threads on one breaker: one probe, exact counts, nothing held while others run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentkit.errors import CircuitOpenError
from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker, Permit
from tests.policy.breaker.breakers import TurnedClock, admitted, build, expired, fail

pytestmark = pytest.mark.threads

THREADS = 32
PATIENCE = 30.0


def together(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """What each thread returned; all start at the same moment, and none may raise."""
    barrier = threading.Barrier(threads)
    results: list[Any] = [None] * threads
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(PATIENCE)
            results[number] = work(number)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE)
    assert errors == []
    assert not any(worker.is_alive() for worker in workers)
    return results


@pytest.mark.promise("A7", "S3-17")
def test_an_expired_circuit_admits_exactly_one_of_many() -> None:
    for _ in range(20):
        breaker, _clock = expired()

        def admit(_: int, breaker: CircuitBreaker = breaker) -> Permit | None:
            return breaker.admit()

        permits = [permit for permit in together(admit) if permit]
        assert len(permits) == 1
        assert permits[0].probe
        assert breaker.statistics().rejections == THREADS - 1
        permits[0].succeeded()
        assert breaker.state == "closed"


def test_a_probe_whose_lease_ended_is_followed_by_exactly_one() -> None:
    breaker, clock = expired()
    admitted(breaker, lease=1.0)
    clock.now += 1.0
    assert len([permit for permit in together(lambda _: breaker.admit()) if permit]) == 1


def test_refused_callers_do_not_wait_for_the_probe() -> None:
    breaker, _ = expired()
    inside, release = threading.Event(), threading.Event()

    def hang() -> str:
        inside.set()
        assert release.wait(PATIENCE)
        return "back"

    answers: list[str] = []
    probe = threading.Thread(target=lambda: answers.append(breaker.call(hang)))
    probe.start()
    assert inside.wait(PATIENCE)

    def refused(_: int) -> None:
        with pytest.raises(CircuitOpenError):
            breaker.call(hang)

    together(refused)  # returns while the probe still hangs
    assert answers == []
    release.set()
    probe.join(PATIENCE)
    assert answers == ["back"]
    assert breaker.state == "closed"


def test_calls_run_side_by_side() -> None:
    breaker = CircuitBreaker()
    meeting = threading.Barrier(THREADS)
    together(lambda _: breaker.call(meeting.wait, PATIENCE))
    assert breaker.statistics().calls == THREADS


def test_no_outcome_is_lost() -> None:
    breaker, _ = build(failure_threshold=10**9, failure_rate=None)

    def work(number: int) -> None:
        for turn in range(200):
            permit = admitted(breaker)
            if (turn + number) % 2:
                permit.succeeded()
            else:
                permit.failed(RuntimeError("down"))

    together(work)
    figures = breaker.statistics()
    assert (figures.calls, figures.failures) == (THREADS * 200, THREADS * 100)


def test_one_permit_settled_by_many_counts_once() -> None:
    breaker, _ = build(failure_threshold=10**9)
    for count in range(1, 11):
        permit = admitted(breaker)

        def settle(_: int, permit: Permit = permit) -> None:
            permit.failed(RuntimeError("down"))

        together(settle)
        assert breaker.statistics().consecutive_failures == count


def test_late_failures_after_the_opening_neither_reopen_nor_extend() -> None:
    changes: list[tuple[str, str]] = []
    breaker, clock = build(listeners=(lambda _, old, new: changes.append((old, new)),))
    permits = [admitted(breaker) for _ in range(THREADS)]
    together(lambda number: permits[number].failed(RuntimeError("down")))
    assert changes == [("closed", "open")]
    assert breaker.statistics().opens == 1
    clock.now = 60.0
    assert breaker.would_admit()


def test_transitions_are_reported_in_the_order_in_which_they_happened() -> None:
    reported: list[tuple[str, str]] = []
    policy = BreakerPolicy(failure_threshold=1, recovery_timeout=1.0)
    clock = TurnedClock()
    breaker = CircuitBreaker(
        policy=policy, clock=clock, on_change=lambda _, old, new: reported.append((old, new))
    )

    def work(number: int) -> None:
        for turn in range(60):
            if (turn + number) % 3 == 0:
                breaker.reset()
            elif (permit := breaker.admit()) is not None:
                permit.failed(RuntimeError("down"))
            clock.now += 0.25

    together(work, threads=8)
    state = "closed"
    for previous, following in reported:
        assert previous == state
        state = following
    assert state == breaker.state


def test_a_slow_listener_holds_up_no_other_call() -> None:
    inside, release = threading.Event(), threading.Event()

    def slow(name: str, previous: str, state: str) -> None:
        inside.set()
        assert release.wait(PATIENCE)

    breaker, clock = build(failure_threshold=1, listeners=(slow,))
    opener = threading.Thread(target=fail, args=(breaker,))
    opener.start()
    assert inside.wait(PATIENCE)
    assert together(lambda _: breaker.admit()) == [None] * THREADS
    clock.now = 60.0
    admitted(breaker).succeeded()
    assert breaker.state == "closed"
    release.set()
    opener.join(PATIENCE)
    assert not opener.is_alive()


def test_sleepers_that_come_while_it_opens_are_all_woken() -> None:
    breaker, _ = build(failure_threshold=1)
    woken = [threading.Event() for _ in range(THREADS)]

    def work(number: int) -> None:
        if number == THREADS // 2:
            fail(breaker)
        breaker.opened.subscribe(woken[number].set)

    together(work)
    assert all(event.is_set() for event in woken)
