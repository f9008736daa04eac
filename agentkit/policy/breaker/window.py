"""A sliding window over failed and slow calls, in constant memory."""

from __future__ import annotations

BUCKETS = 60
"""In how many parts a window slides."""


class FailureWindow:
    """Calls, failures and slow calls of the last `seconds`.

    A ring of 60 buckets: an entry is O(1) amortised whatever the traffic, and it leaves the window
    between 59/60 of `seconds` and `seconds` after it was made. Not thread-safe by itself.
    """

    __slots__ = ("_bucket", "_ring", "_tick", "_width", "calls", "failures", "slow")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / BUCKETS
        self._tick = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._ring = [[0, 0, 0] for _ in range(BUCKETS)]
        self._bucket = self._ring[self._tick % BUCKETS]
        self.calls = self.failures = self.slow = 0

    def add_good(self, now: float) -> None:
        """One call ended at `now`, neither failed nor slow."""
        if now // self._width != self._tick:
            self.advance(now)
        self._bucket[0] += 1
        self.calls += 1

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """One call ended at `now`."""
        self.add_good(now)
        bucket = self._bucket
        if failed:
            bucket[1] += 1
            self.failures += 1
        if slow:
            bucket[2] += 1
            self.slow += 1

    def advance(self, now: float) -> None:
        """Drop what has left the window at `now`.

        A `now` slightly before the newest entry (another thread was faster) counts with it; a clock
        that went back by more than a window starts anew, because the age of its entries is unknown.
        """
        tick = int(now // self._width)
        if abs(tick - self._tick) >= BUCKETS:
            if self.calls:
                self.clear()
            self._tick = tick
        while self._tick < tick:
            self._tick += 1
            bucket = self._ring[self._tick % BUCKETS]
            if bucket[0]:
                self.calls -= bucket[0]
                self.failures -= bucket[1]
                self.slow -= bucket[2]
                bucket[:] = (0, 0, 0)
        self._bucket = self._ring[self._tick % BUCKETS]

    def tally(self, now: float, after: int) -> tuple[int, int, int, int]:
        """The number of the newest full bucket; calls, failures and slow calls after `after`."""
        self.advance(now)
        last = self._tick - 1
        rows = [
            self._ring[tick % BUCKETS]
            for tick in range(max(after + 1, last - BUCKETS + 2), last + 1)
        ]
        calls, failures, slow = (sum(column) for column in zip([0, 0, 0], *rows, strict=True))
        return last, calls, failures, slow

    @property
    def failure_rate(self) -> float:
        """Failures as a fraction of the calls; 0 without calls."""
        return self.failures / self.calls if self.calls else 0.0

    @property
    def slow_rate(self) -> float:
        """Slow calls as a fraction of the calls; 0 without calls."""
        return self.slow / self.calls if self.calls else 0.0

    def __repr__(self) -> str:
        return f"<FailureWindow {self.failures} failed and {self.slow} slow of {self.calls}>"
