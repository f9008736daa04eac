"""An event loop sets one timer for all questions that wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentkit.state.loops import Alarm


class ScriptedLoop:
    """The clock and the timers of an event loop; the test says how late it is."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.set = 0

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self.call_at(self.now + seconds, call)

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        self.timers.append((when, call))
        self.set += 1

    def advance(self, to: float) -> None:
        self.now = to
        due, self.timers = self.timers, []
        for when, call in due:
            if when <= to:
                call()
            else:
                self.timers.append((when, call))


class Wait:
    """A coroutine that waits."""

    def __init__(self, name: str, woken: list[str]) -> None:
        self._name, self._woken = name, woken

    def set(self) -> None:
        self._woken.append(self._name)


def test_each_wait_ends_when_its_own_time_is_up_and_one_timer_serves_them() -> None:
    loop: Any = ScriptedLoop()
    alarm, woken = Alarm(loop, 0.25), []  # type: ignore[var-annotated]
    waits: dict[str, Any] = {name: Wait(name, woken) for name in "abcd"}
    for number, name in enumerate("abc"):
        loop.now = 100.0 + number * 0.1
        alarm.add(waits[name])
    alarm.remove(waits["b"])
    assert loop.set == 1
    loop.advance(100.24)
    assert woken == []
    loop.advance(100.25)
    assert woken == ["a"]
    loop.advance(100.44)
    assert woken == ["a"], "the time of the others is not up"
    loop.advance(100.45)
    assert woken == ["a", "c"]
    assert loop.set == 2
    loop.now = 200.0
    alarm.add(waits["d"])
    loop.advance(201.0)
    assert woken == ["a", "c", "d"], "it is set again for those that come later"


def test_waits_that_end_in_time_leave_no_timer() -> None:
    loop: Any = ScriptedLoop()
    alarm, woken = Alarm(loop, 0.25), []  # type: ignore[var-annotated]
    for number in range(1000):
        wait: Any = Wait(str(number), woken)
        alarm.add(wait)
        alarm.remove(wait)
    loop.advance(100.25)
    assert (woken, loop.timers, loop.set) == ([], [], 1)
