"""Counts of what was done, from any thread, task or signal handler."""

from __future__ import annotations

import itertools


class Tally:
    """Counts without a lock, which a signal handler might interrupt and then wait for."""

    def __init__(self) -> None:
        self._counts: dict[str, itertools.count[int]] = {}

    def count(self, what: str) -> None:
        """Count `what` once."""
        next(self._counts.setdefault(what, itertools.count()))

    def take(self) -> dict[str, int]:
        """What was counted, and how often. Begins at zero again."""
        counts, self._counts = self._counts, {}
        return {what: next(count) for what, count in sorted(counts.items())}
