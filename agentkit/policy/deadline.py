"""One time limit over everything a request does."""

from __future__ import annotations

import math

from agentkit.errors import ConfigurationError
from agentkit.policy.validation import number

DEFAULT_PATIENCE = 10.0
"""Seconds after which an attempt without a timeout of its own counts as silent."""


class Deadline:
    """A point in time that a request must not pass. `seconds=None` never passes.

    Raises:
        ConfigurationError: `seconds` is not a positive number.
    """

    __slots__ = ("at", "seconds")

    def __init__(self, seconds: float | None, now: float) -> None:
        if seconds is None or seconds == math.inf:
            self.at = math.inf
        else:
            if type(seconds) is not float or not 0.0 < seconds < math.inf:
                number("deadline", seconds, above=True, hint="give seconds, or None for no limit")
            self.at = now + seconds
        self.seconds = seconds

    def left(self, now: float) -> float:
        """Seconds left at `now`; zero or less when it has passed."""
        return self.at - now

    def extend(self, seconds: float) -> None:
        """Move it by `seconds`: the clock stood still while the caller held a stream."""
        self.at += seconds


def share(left: float, own: float | None, targets_left: int) -> float:
    """Seconds that the next attempt gets, of `left` for the whole request.

    `own` is the model's own timeout. A model without one gets an equal part of what is left, so
    that a silent primary cannot eat the time of its `targets_left - 1` fallbacks.
    """
    if targets_left < 1:
        raise ConfigurationError(f"targets_left must be at least 1, got {targets_left}")
    return left / targets_left if own is None else min(own, left)
