"""A clock that moves when it is told to."""

from __future__ import annotations

import math

from agentkit._fork import fork_safe_lock


class FakeClock:
    """Seconds that pass only when somebody advances them. Safe to use from many threads.

    Give it to a manager or a breaker as `clock=`. Whoever would wait through it (both drivers of
    the engine do) calls `sleep`, which returns at once::

        clock = FakeClock()
        llm = LLMManager(clock=clock)
        ...
        assert clock.sleeps == [1.0, 2.0]

    Time limits on calls that are really under way (a blocking callable with a timeout, say) are
    the operating system's and pass in real time.

    Args:
        start: the first reading, in seconds (default 1000.0).

    Attributes:
        sleeps: every wait in order, in seconds.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._start = start
        self._lock = fork_safe_lock()
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        """The present reading, in seconds."""
        return self._now

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._now - self._start

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass.

        Raises:
            ValueError: negative or not finite; time does not go back.
        """
        with self._lock:
            self._now += _checked(seconds)

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass and note them in `sleeps`. Raises `ValueError` as `advance` does."""
        with self._lock:
            self._now += _checked(seconds)
            self.sleeps.append(seconds)

    def __repr__(self) -> str:
        return f"<FakeClock {self._now:g} s, {self.elapsed:g} s after its start>"


def _checked(seconds: float) -> float:
    if not 0 <= seconds < math.inf:
        msg = f"a clock moves forward by a finite number of seconds, not {seconds!r}"
        raise ValueError(msg)
    return seconds
