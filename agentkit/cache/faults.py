"""Faults of the response cache: always counted and logged, never raised to a caller."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from agentkit._fork import fork_safe_lock
from agentkit.types import Now

log = logging.getLogger("agentkit.cache")

QUIET: Final = 60.0
"""Seconds between two warnings for the same reason."""


class CacheFault(Exception):  # noqa: N818  (internal; callers never see it)
    """A store could not read, write or clear.

    The message is safe to log: it contains no key, no prompt and no response.

    Attributes:
        reason: one of a small closed set of words, used by the counters.
        permanent: whether another try within this process cannot help.
    """

    def __init__(self, reason: str, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.permanent = permanent


class FaultLog:
    """Counts faults by reason, and logs at most one warning per reason and minute."""

    def __init__(self, clock: Now) -> None:
        self._clock = clock
        self._lock = fork_safe_lock()
        self._counts: Counter[str] = Counter()
        self._quiet_until: dict[str, float] = {}

    def note(self, reason: str, message: str) -> None:
        """Count a fault. `message` must be safe to log."""
        now = self._clock()
        with self._lock:
            self._counts[reason] += 1
            silent = now < self._quiet_until.get(reason, now)
            if not silent:
                self._quiet_until[reason] = now + QUIET
        if not silent:
            log.warning("response cache (%s): %s", reason, message)

    def counts(self) -> dict[str, int]:
        """The number of faults so far, by reason."""
        with self._lock:
            return dict(self._counts)
