"""The system clock waits, and says what ended the wait."""

from __future__ import annotations

import asyncio
import math
import signal
import threading
import time
from collections.abc import Callable

import pytest

from agentkit.engine.drivers.clock import SystemClock, ThreadWakeup, Wakeup, as_clock, finite
from agentkit.testing import FakeClock
from tests.programs import run

CLOCK = SystemClock()
LONG = 20.0


class Bell:
    """A signal that rings as soon as something waits for it, or never."""

    def __init__(self, *, rings: bool) -> None:
        self.rings = rings
        self.subscribed: list[Callable[[], None]] = []

    def subscribe(self, wake: Callable[[], None]) -> None:
        self.subscribed.append(wake)
        if self.rings:
            wake()

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        self.subscribed.remove(wake)


def sleep(seconds: float, bell: Bell | None) -> bool:
    return CLOCK.sleep(seconds, bell)


def asleep(seconds: float, bell: Bell | None) -> bool:
    return asyncio.run(CLOCK.asleep(seconds, bell))


@pytest.mark.parametrize("wait", [sleep, asleep])
def test_a_wait_is_woken_by_its_signal_alone(wait: Callable[[float, Bell | None], bool]) -> None:
    assert wait(0.0, None) is False
    silent, rings = Bell(rings=False), Bell(rings=True)
    assert wait(0.001, silent) is False
    assert wait(LONG, rings) is True
    assert (silent.subscribed, rings.subscribed) == ([], [])


def test_another_thread_wakes_a_thread_and_a_coroutine() -> None:
    wakeup = ThreadWakeup()
    threading.Timer(0.0, wakeup.set).start()
    assert wakeup.wait(LONG) is True

    async def main() -> bool:
        woken = Wakeup()
        threading.Timer(0.0, woken.set).start()
        return await woken.wait(LONG)

    assert asyncio.run(main()) is True


def test_a_wait_without_a_limit_is_one_that_threads_accept() -> None:
    assert finite(None) is None
    assert finite(math.inf) is None
    assert finite(threading.TIMEOUT_MAX) == threading.TIMEOUT_MAX
    assert finite(1e300) is None


def test_a_function_that_returns_the_time_is_a_clock() -> None:
    fake = FakeClock()
    assert as_clock(fake) is fake
    assert as_clock(lambda: 7.0).now() == 7.0
    default = as_clock(None)
    assert default.now() <= time.monotonic() <= default.now()


INTERRUPTED = """
import signal, time
from agentkit.engine.drivers.clock import ThreadWakeup

def handle(*_):
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        pass

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.01)
print(ThreadWakeup().wait(0.05))
"""


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this platform has no alarm")
def test_a_wait_ends_even_if_a_signal_handler_outlasts_it() -> None:
    assert run(INTERRUPTED) == "False"
