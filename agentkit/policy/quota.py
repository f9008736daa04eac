"""How much of an allowance a minute is used: a true sliding window, all or nothing.

What was admitted counts for exactly 60 seconds from its own admission, so no 60-second window
ever holds more than the limit. An admission reserves an estimate; `Window.correct` puts the real
usage in its place, which gives back what was too much or owes what was too little.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from agentkit.policy.checks import whole
from agentkit.types import Quota

WINDOW = 60.0
"""Seconds for which an admission counts: limits are given a minute."""

_NAMES = (
    "requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute",
    "tokens_per_minute",
)  # fmt: skip


class Need(NamedTuple):
    """What a request takes of an allowance, in tokens, estimated before it is sent."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Most requests and tokens a minute, of one key; None: no limit of that kind.

    `tokens_per_minute` counts input and output together, as OpenAI does.

    Raises:
        ConfigurationError: a limit is not a whole number from 1.
    """

    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        for name in _NAMES:
            value = getattr(self, name)
            if value is not None:
                whole(name, value, hint="leave it out for no limit")


class Admission:
    """One entry of a window: when, and how much of each kind."""

    __slots__ = ("amounts", "at", "expired")

    def __init__(self, at: float, amounts: tuple[int, int, int, int]) -> None:
        self.at = at
        self.amounts = amounts
        self.expired = False


class Window:
    """The last 60 seconds of one key. Not locked: its pool is."""

    __slots__ = ("_entries", "_limits", "_used")

    def __init__(self, limits: RateLimits | None = None) -> None:
        limits = limits or RateLimits()
        self._limits = [
            math.inf if (value := getattr(limits, name)) is None else value for name in _NAMES
        ]
        self._entries: deque[Admission] = deque()
        self._used = [0, 0, 0, 0]

    @property
    def counts_tokens(self) -> bool:
        """Whether any limit in force counts tokens."""
        return min(self._limits[1:]) < math.inf

    def used(self, now: float) -> dict[str, int]:
        """What counts at `now`, by the names of `RateLimits`."""
        self._expire(now)
        return dict(zip(_NAMES, self._used, strict=True))

    def limits(self) -> dict[str, int | None]:
        """The limits in force, learned ones included."""
        return {
            name: None if limit == math.inf else int(limit)
            for name, limit in zip(_NAMES, self._limits, strict=True)
        }

    def learn(self, quota: Quota) -> None:
        """Take over the provider's own word where it is stricter than what is known."""
        for index, name in enumerate(_NAMES):
            told = getattr(quota, name)
            if told is not None and told > 0:
                self._limits[index] = min(self._limits[index], told)

    def too_large(self, need: Need) -> str | None:
        """Which limit `need` can never fit into, in words; None: it fits some time."""
        for name, amount, limit in zip(_NAMES, _amounts(need), self._limits, strict=True):
            if amount > limit:
                return f"it needs {amount:,} of {int(limit):,} {name}"
        return None

    def wait(self, need: Need, now: float) -> float:
        """Seconds until `need` fits; 0.0 when it fits now."""
        self._expire(now)
        missing = [
            used + amount - limit
            for used, amount, limit in zip(self._used, _amounts(need), self._limits, strict=True)
        ]
        if max(missing) <= 0:
            return 0.0
        for entry in self._entries:
            missing = [lack - freed for lack, freed in zip(missing, entry.amounts, strict=True)]
            if max(missing) <= 0:
                return max(entry.at + WINDOW - now, 0.0)
        return math.inf

    def admit(self, need: Need, now: float) -> Admission:
        """Reserve `need`; ask `wait` first."""
        admission = Admission(now, _amounts(need))
        self._entries.append(admission)
        self._add(admission.amounts, 1)
        return admission

    def correct(self, admission: Admission, input_tokens: int, output_tokens: int) -> None:
        """The request really took this many tokens."""
        if not admission.expired:
            self._replace(admission, _amounts(Need(input_tokens, output_tokens)))

    def refund(self, admission: Admission) -> None:
        """Nothing was sent after all."""
        if not admission.expired:
            self._replace(admission, (0, 0, 0, 0))

    def _replace(self, admission: Admission, amounts: tuple[int, int, int, int]) -> None:
        self._add(admission.amounts, -1)
        admission.amounts = amounts
        self._add(amounts, 1)

    def _add(self, amounts: tuple[int, int, int, int], sign: int) -> None:
        for index, amount in enumerate(amounts):
            self._used[index] += sign * amount

    def _expire(self, now: float) -> None:
        entries = self._entries
        while entries and entries[0].at + WINDOW <= now:
            gone = entries.popleft()
            gone.expired = True
            self._add(gone.amounts, -1)


def _amounts(need: Need) -> tuple[int, int, int, int]:
    return (1, need.input_tokens, need.output_tokens, need.input_tokens + need.output_tokens)
