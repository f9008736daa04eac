"""The deadline of a request, and the share of an attempt in the time that is left."""

from __future__ import annotations

import math

from agentkit.errors import ConfigurationError
from agentkit.policy.validation import number

DEFAULT_PATIENCE = 10.0
"""Seconds without a response after which an attempt without its own timeout is a failure."""

NEVER = 1e9
"""Seconds, 31 years, from which a time limit is none: sockets and threads cannot wait longer."""


LONGEST_SHARE = 60.0
"""The most seconds that a model without a timeout of its own gets while another model is left."""


class Deadline:
    """The time at which a request must be finished: `seconds` from `now`, or never for None.

    Raises:
        ConfigurationError: `seconds` is not a positive number.
    """

    __slots__ = ("at", "seconds")

    def __init__(self, seconds: float | None, now: float) -> None:
        if type(seconds) is float and 0.0 < seconds < NEVER:
            self.at = now + seconds
        elif seconds is None or seconds == math.inf:
            self.at = math.inf
        else:
            number("deadline", seconds, above=True, hint="pass seconds, or None for no limit")
            self.at = now + seconds if seconds < NEVER else math.inf
        self.seconds = seconds

    def left(self, now: float) -> float:
        """Seconds left at `now`; zero or less if it has passed."""
        return self.at - now

    def extend(self, seconds: float) -> None:
        """Postpone it by `seconds`, for which the caller of a stream held an event."""
        self.at += seconds


def share(left: float, own: float | None, targets_left: int) -> float:
    """The time limit of the next attempt, of the `left` seconds of its request.

    `own` is the model's own timeout. A model without one gets an equal share of what is left, at
    most `LONGEST_SHARE`, so that it leaves time for its `targets_left - 1` fallbacks if it does not
    respond. The last model gets everything that is left.
    """
    if targets_left < 1:
        raise ConfigurationError(f"targets_left must be at least 1, got {targets_left}")
    if own is not None:
        return own if own < left else left  # noqa: FURB136 - `min` takes longer than all of this
    if targets_left == 1:
        return left
    equal = left / targets_left
    return equal if equal < LONGEST_SHARE else LONGEST_SHARE  # noqa: FURB136 - as above
