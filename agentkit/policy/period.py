"""Periods of a budget: calendar windows in UTC."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from agentkit.policy.validation import choice

Period: TypeAlias = Literal["hour", "day", "week", "month"]

PERIODS: Final[tuple[str, ...]] = get_args(Period)


class Window(NamedTuple):
    """The time from `start` until before `end`, in seconds of Unix time."""

    start: float
    end: float

    def has(self, now: float) -> bool:
        """Whether `now` is in it."""
        return self.start <= now < self.end


EVER: Final = Window(0.0, math.inf)
"""The window of a budget without a period."""


def checked_period(name: str, value: Any) -> Period | None:
    """Return `value` if it is a period or None.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is not None:
        choice(name, value, PERIODS)
    period: Period | None = value
    return period


def window_of(period: Period | None, now: float) -> Window:
    """The window of `period` around `now`. It starts at a full hour, midnight, a Monday or a first.

    Its bounds are those of UTC, so that every process has the same.
    """
    if period is None:
        return EVER
    at = datetime.fromtimestamp(now, UTC).replace(minute=0, second=0, microsecond=0)
    if period == "hour":
        return _window(at, at + timedelta(hours=1))
    at = at.replace(hour=0)
    if period == "day":
        return _window(at, at + timedelta(days=1))
    if period == "week":
        at -= timedelta(days=at.weekday())
        return _window(at, at + timedelta(days=7))
    at = at.replace(day=1)
    return _window(at, (at + timedelta(days=31)).replace(day=1))


def _window(start: datetime, end: datetime) -> Window:
    return Window(start.timestamp(), end.timestamp())
