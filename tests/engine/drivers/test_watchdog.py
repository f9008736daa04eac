"""One thread ends whatever runs out of time in its caller's own thread."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from agentkit import DeadlineExceededError, LLMManager, RetryPolicy
from agentkit.engine.drivers import watchdog
from agentkit.engine.drivers.watchdog import Watchdog
from agentkit.types import Request
from tests.forks import forks, in_child

LONG = 20.0
_numbers = itertools.count()


def threads(dog: Watchdog) -> list[threading.Thread]:
    name = f"agentkit-{dog.name}-watchdog"
    return [each for each in threading.enumerate() if each.name == name]


@pytest.fixture
def dog(monkeypatch: pytest.MonkeyPatch) -> Watchdog:
    monkeypatch.setattr(watchdog, "IDLE_SECONDS", 0.5)
    return Watchdog(f"test {next(_numbers)}")


def test_a_wait_that_is_too_long_is_cancelled_once(dog: Watchdog) -> None:
    cancelled = threading.Semaphore(0)
    watch = dog.watch(cancelled.release)
    watch.start(0.01)
    assert cancelled.acquire(timeout=LONG)
    assert watch.expired
    assert not cancelled.acquire(timeout=0.03)


def test_a_shorter_wait_that_comes_later_ends_first(dog: Watchdog) -> None:
    first, second = threading.Event(), threading.Event()
    long = dog.watch(first.set)
    long.start(10 * LONG)
    dog.watch(second.set).start(0.01)
    assert second.wait(LONG)
    assert not first.is_set()
    long.stop()


def test_a_wait_that_ends_in_time_is_not_cancelled(dog: Watchdog) -> None:
    cancelled, last = threading.Event(), threading.Event()
    watch = dog.watch(cancelled.set)
    for _ in range(3):
        watch.start(0.02)
        watch.stop()
    dog.watch(last.set).start(0.05)
    assert last.wait(LONG)
    assert not cancelled.is_set()
    assert not watch.expired


def test_no_thread_is_started_for_a_wait_without_a_limit(dog: Watchdog) -> None:
    dog.watch(lambda: None).start(None)
    assert not threads(dog)


def test_one_thread_watches_everything_and_ends_when_idle(
    dog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "IDLE_SECONDS", 0.01)
    watches = [dog.watch(lambda: None) for _ in range(5)]
    for each in watches:
        each.start(LONG)
    (thread,) = threads(dog)
    for each in watches:
        each.stop()
    thread.join(LONG)
    assert not thread.is_alive()
    again = threading.Event()
    dog.watch(again.set).start(0.01)
    assert again.wait(LONG)


def test_what_cancelling_raises_ends_no_other_watch(
    dog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise OSError

    cancelled = threading.Event()
    dog.watch(broken).start(0.01)
    dog.watch(cancelled.set).start(0.02)
    assert cancelled.wait(LONG)
    assert "could not be cancelled" in caplog.text


def test_closing_ends_the_thread(dog: Watchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "IDLE_SECONDS", 2 * LONG)
    watch = dog.watch(lambda: None)
    watch.start(LONG)
    watch.stop()
    (thread,) = threads(dog)
    dog.close()
    thread.join(LONG)
    assert not thread.is_alive()


def test_without_a_thread_the_call_is_made_and_the_next_one_tries_again(
    dog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    cancelled = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        dog.watch(lambda: None).start(LONG)
    dog.watch(cancelled.set).start(0.01)
    assert cancelled.wait(LONG)


@forks
def test_a_child_has_a_watchdog_of_its_own(dog: Watchdog) -> None:
    dog.watch(lambda: None).start(LONG)

    def child() -> bool:
        cancelled = threading.Event()
        dog.watch(cancelled.set).start(0.01)
        return cancelled.wait(LONG)

    assert in_child(child) == "True"


class Blocking:
    """A provider whose calls last until they are cancelled."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def cancel_scope(self) -> AbstractContextManager[object]:
        return _Scope(self.ended.set)

    def send(self, request: Request) -> str:
        assert self.ended.wait(LONG)
        raise ConnectionAbortedError

    def stream(self, request: Request) -> Iterator[str]:
        yield "first "
        assert self.ended.wait(LONG)
        raise ConnectionAbortedError


class _Scope(nullcontext[None]):
    def __init__(self, cancel: Callable[[], None]) -> None:
        super().__init__()
        self.cancel = cancel


@pytest.mark.parametrize("timeout", [None, LONG], ids=["inline", "on a worker"])
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
def test_the_deadline_ends_a_provider_with_a_cancel_scope(
    timeout: float | None, stream: bool
) -> None:
    provider = Blocking()
    with LLMManager(enable_caching=False, retry=RetryPolicy(max_attempts=1)) as llm:
        llm.register_model("m", provider, timeout=timeout)
        ask = (
            (lambda: list(llm.stream("q", deadline=0.05)))
            if stream
            else (lambda: llm.complete("q", deadline=0.05))
        )
        with pytest.raises(DeadlineExceededError) as caught:
            ask()
    assert provider.ended.is_set()
    ledger: Any = caught.value.ledger
    assert [(entry.outcome, entry.reason) for entry in ledger] == [("abandoned", "deadline")]
