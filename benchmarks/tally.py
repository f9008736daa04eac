"""Counts of what was done, from any thread, task or signal handler."""

from __future__ import annotations

from collections.abc import Iterator


class Tally:
    """Counts without a lock, which a signal handler might interrupt and then wait for."""

    def __init__(self) -> None:
        self._counts: dict[str, list[None]] = {}

    def count(self, what: str) -> None:
        """Count `what` once."""
        self._counts.setdefault(what, []).append(None)

    def clear(self) -> None:
        """Begin at zero."""
        self._counts.clear()

    def __getitem__(self, what: str) -> int:
        return len(self._counts.get(what, ()))

    def items(self) -> Iterator[tuple[str, int]]:
        """What was counted, and how often."""
        return ((what, len(times)) for what, times in list(self._counts.items()))
