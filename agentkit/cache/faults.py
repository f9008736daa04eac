"""What goes wrong in the response cache: never raised to a caller, always counted and logged."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from agentkit._fork import fork_safe_lock
from agentkit.types import Now

log = logging.getLogger("agentkit.cache")

QUIET: Final = 60.0
"""Seconds between two warnings for one reason."""


class CacheFault(Exception):  # noqa: N818  (an internal signal; callers never see it)
    """A store could not do what it was asked to.

    The message is safe to log: it holds no key, no prompt and no answer.

    Attributes:
        reason: one of a small closed set of words, for the counters.
        permanent: trying again within this process cannot help.
    """

    def __init__(self, reason: str, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.permanent = permanent


class FaultLog:
    """Counts faults by reason; warns once a minute and reason."""

    def __init__(self, clock: Now) -> None:
        self._clock = clock
        self._lock = fork_safe_lock()
        self._counts: Counter[str] = Counter()
        self._quiet_until: dict[str, float] = {}

    def note(self, reason: str, message: str) -> None:
        """Count one fault; `message` must be safe to log."""
        now = self._clock()
        with self._lock:
            self._counts[reason] += 1
            silent = now < self._quiet_until.get(reason, now)
            if not silent:
                self._quiet_until[reason] = now + QUIET
        if not silent:
            log.warning("response cache (%s): %s", reason, message)

    def counts(self) -> dict[str, int]:
        """Faults so far, by reason."""
        with self._lock:
            return dict(self._counts)
