"""Listeners hear what happened, in order, outside the lock; sleepers are woken on opening."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import pybreaker
import pytest

from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker
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


class Recorder(pybreaker.CircuitBreakerListener):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        self.heard.append("before_call")

    def failure(self, cb: pybreaker.CircuitBreaker, exc: BaseException) -> None:
        self.heard.append(f"{cb.name} failed with {exc}")

    def success(self, cb: pybreaker.CircuitBreaker) -> None:
        self.heard.append(f"{cb.name} succeeded")

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        self.heard.append(f"{cb.name} {old_state.name} -> {new_state.name}")


def outage_and_recovery(*listeners: Any, **kwargs: Any) -> CircuitBreaker:
    clock = TurnedClock()
    policy = BreakerPolicy(failure_threshold=2, listeners=listeners)
    breaker = CircuitBreaker(name="m", policy=policy, clock=clock, **kwargs)
    fail(breaker, 2)
    clock.now = 60.0
    succeed(breaker)
    breaker.reset()
    return breaker


CHANGES = [
    ("m", "closed", "open"),
    ("m", "open", "half-open"),
    ("m", "half-open", "closed"),
]


def test_a_function_hears_each_change_once() -> None:
    changes: list[Any] = []
    outage_and_recovery(lambda *change: changes.append(change))
    assert changes == CHANGES


def test_the_owner_hears_each_change_too() -> None:
    changes: list[Any] = []
    outage_and_recovery(on_change=lambda *change: changes.append(change))
    assert changes == CHANGES


def test_a_pybreaker_listener_hears_outcomes_and_changes() -> None:
    recorder = Recorder()
    outage_and_recovery(recorder)
    assert recorder.heard == [
        "m failed with down",
        "m failed with down",
        "m closed -> open",
        "m open -> half-open",
        "m half-open -> closed",
        "m succeeded",
    ]


def test_what_does_not_count_is_not_reported() -> None:
    recorder = Recorder()
    breaker, _ = build(listeners=(recorder,))
    admitted(breaker).neutral()
    admitted(breaker).abandoned()
    late = admitted(breaker)
    breaker.reset()
    late.succeeded()
    assert recorder.heard == []


def test_a_raising_listener_changes_nothing_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Recorder):
        def failure(self, cb: Any, exc: BaseException) -> NoReturn:
            raise RuntimeError("listener")

        success = state_change = failure  # type: ignore[assignment]

    def broken(name: str, previous: str, state: str) -> NoReturn:
        raise RuntimeError("function")

    changes: list[Any] = []
    with caplog.at_level(logging.ERROR, "agentkit"):
        breaker = outage_and_recovery(Broken(), broken, lambda *change: changes.append(change))
    assert breaker.state == "closed"
    assert changes == CHANGES
    assert [("Broken" in text, "broken" in text) for text in caplog.messages] == [
        (True, False),
        (False, True),
    ]


def test_a_raising_listener_does_not_replace_the_calls_own_error() -> None:
    def broken(name: str, previous: str, state: str) -> NoReturn:
        raise RuntimeError("listener")

    empty: dict[str, int] = {}
    breaker, _ = build(failure_threshold=1, listeners=(broken,))
    with pytest.raises(KeyError) as caught:
        breaker.call(empty.__getitem__, "missing")
    assert caught.value.__context__ is None


def test_a_listener_may_use_the_breaker_and_changes_keep_their_order() -> None:
    changes: list[tuple[str, str]] = []

    def impatient(name: str, previous: str, state: str) -> None:
        if state == "open":
            breaker.reset()

    policy = BreakerPolicy(
        failure_threshold=1,
        listeners=(impatient, lambda name, previous, state: changes.append((previous, state))),
    )
    breaker = CircuitBreaker(policy=policy)
    fail(breaker)
    assert changes == [("closed", "open"), ("open", "closed")]
    assert breaker.state == "closed"


@forks
def test_a_child_forked_while_a_thread_calls_listeners_calls_its_own() -> None:
    heard: list[str] = []
    called, ends = threading.Event(), threading.Event()

    def hear(_name: str, _previous: str, state: str) -> None:
        heard.append(state)
        if len(heard) == 1:
            called.set()
            ends.wait(20)

    breaker, _ = build(failure_threshold=1, listeners=(hear,))
    thread = threading.Thread(target=fail, args=(breaker, 1))
    thread.start()
    assert called.wait(20)

    def work() -> list[str]:
        breaker.reset()
        return heard

    assert in_child(work) == "['open', 'closed']"
    ends.set()
    thread.join()
    assert heard == ["open"]


def test_an_interrupt_in_a_listener_propagates_and_the_rest_follows() -> None:
    reported: list[str] = []

    def listener(name: str, previous: str, state: str) -> None:
        reported.append(state)
        if state == "open":
            raise KeyboardInterrupt

    breaker, clock = build(failure_threshold=1, listeners=(listener,))
    with pytest.raises(KeyboardInterrupt):
        fail(breaker)
    clock.now = 60.0
    succeed(breaker)
    assert reported == ["open", "half-open", "closed"]


# The signal that wakes sleepers


def test_a_sleeper_is_woken_each_time_the_breaker_opens() -> None:
    breaker, clock = build(failure_threshold=2)
    wakes: list[int] = []
    breaker.opened.subscribe(lambda: wakes.append(1))
    fail(breaker)
    assert wakes == []
    fail(breaker)
    assert wakes == [1]
    clock.now = 60.0
    fail(breaker)
    assert wakes == [1, 1]


def test_who_comes_after_the_opening_is_woken_at_once() -> None:
    breaker, _ = opened()
    wakes: list[int] = []
    breaker.opened.subscribe(lambda: wakes.append(1))
    assert wakes == [1]


@pytest.mark.parametrize("make", [build, expired])
def test_who_would_be_admitted_is_not_woken(make: Callable[[], Any]) -> None:
    breaker, _ = make()
    wakes: list[int] = []
    breaker.opened.subscribe(lambda: wakes.append(1))
    assert wakes == []


def test_who_left_is_not_woken_and_leaving_twice_is_harmless() -> None:
    breaker, _ = build()
    wakes: list[int] = []

    def wake() -> None:
        wakes.append(1)

    breaker.opened.subscribe(wake)
    breaker.opened.unsubscribe(wake)
    breaker.opened.unsubscribe(wake)
    fail(breaker, 5)
    assert wakes == []


def test_a_sleeper_that_cannot_be_woken_does_not_hold_up_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def gone() -> NoReturn:
        raise RuntimeError("its loop is closed")

    breaker, _ = build()
    wakes: list[int] = []
    breaker.opened.subscribe(gone)
    breaker.opened.subscribe(lambda: wakes.append(1))
    with caplog.at_level(logging.ERROR, "agentkit"):
        fail(breaker, 5)
    assert wakes == [1]
    assert len(caplog.records) == 1


def test_a_sleeper_may_ask_the_breaker() -> None:
    breaker, _ = build()
    seen: list[object] = []
    breaker.opened.subscribe(lambda: seen.extend((breaker.state, breaker.admit())))
    fail(breaker, 5)
    assert seen == ["open", None]


def test_a_weak_listener_is_called_as_long_as_its_object_lives() -> None:
    class Keeper:
        def changed(self, name: str, previous: str, state: str) -> None:
            heard.append(state)

    heard: list[str] = []
    breaker, keeper = CircuitBreaker(failure_threshold=1), Keeper()
    for _ in range(2):
        breaker.add_weak_listener(keeper.changed)
    fail(breaker)
    assert heard == ["open"], "once, however often it is added"
    gone = weakref.ref(keeper)
    del keeper
    assert gone() is None
    breaker.reset()
    assert heard == ["open"]
