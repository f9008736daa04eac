"""Rate limits per minute, and a true sliding window over what was admitted.

Each admission counts for exactly 60 seconds, so no 60-second window ever holds more than the limit.
An admission reserves an estimate; `RateWindow.correct` replaces it with the real usage, which gives
back what was too much and adds what was too little.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

from agentkit.policy.validation import checked_keywords, whole_number
from agentkit.types import Quota

WINDOW = 60.0
"""Seconds for which an admission counts: limits are per minute."""

_NAMES = tuple(field.name for field in fields(Quota))


class Need(NamedTuple):
    """The tokens that a request needs, estimated before it is sent."""

    input_tokens: int = 0
    output_tokens: int = 0


@checked_keywords(rpm="requests_per_minute", tpm="tokens_per_minute")
@dataclass(frozen=True, slots=True)
class RateLimits(Quota):
    """The most requests and tokens per minute with one key; None means no such limit.

    `tokens_per_minute` counts input and output together, as OpenAI does.

    Raises:
        ConfigurationError: a limit is not a whole number of at least 1.
    """

    def __post_init__(self) -> None:
        for name in _NAMES:
            value = getattr(self, name)
            if value is not None:
                whole_number(name, value, hint="leave it out for no limit")


class Admission:
    """One entry of a window: when, and how much of each kind."""

    __slots__ = ("at", "expired", "input_tokens", "output_tokens", "requests")

    def __init__(self, at: float, need: Need) -> None:
        self.at = at
        self.requests = 1
        self.input_tokens, self.output_tokens = need
        self.expired = False


class RateWindow:
    """The last 60 seconds of one key. Not locked: its pool is.

    While no limit is known, nothing is counted or kept. A limit that the provider reported holds
    for 60 seconds from the last report, so that a wrong one does not refuse requests for ever.
    """

    __slots__ = ("_entries", "_limits", "_own", "_until", "_used", "limited")

    def __init__(self, limits: RateLimits | None = None) -> None:
        limits = limits or RateLimits()
        self._limits = [
            math.inf if (value := getattr(limits, name)) is None else value for name in _NAMES
        ]
        self._own = list(self._limits)
        self._until = math.inf
        """Clock time at which the reported limits end."""
        self._entries: deque[Admission] = deque()
        self._used = [0, 0, 0]
        self.limited = min(self._limits) < math.inf
        """Whether any limit is in force."""

    @property
    def counts_tokens(self) -> bool:
        """Whether any limit in force counts tokens."""
        return min(self._limits[1:]) < math.inf

    def used(self, now: float) -> dict[str, int]:
        """What counts at `now`, by the names of `RateLimits`; needs no lock."""
        counted = [each for each in self._entries.copy() if each.at + WINDOW > now]
        requests, inputs, outputs = _sums(counted)
        return dict(zip(_NAMES, (requests, inputs, outputs, inputs + outputs), strict=True))

    def limits(self) -> dict[str, int | None]:
        """The limits in force, learned ones included."""
        return {
            name: None if limit == math.inf else int(limit)
            for name, limit in zip(_NAMES, self._limits, strict=True)
        }

    def learn(self, quota: Quota, now: float) -> bool:
        """Apply the limits that the provider reported where they are stricter; whether any was."""
        stricter = False
        for index, name in enumerate(_NAMES):
            reported = getattr(quota, name)
            if reported is None or not 0 < reported <= self._limits[index]:
                continue
            if reported < self._limits[index]:
                self._limits[index] = reported
                self.limited = stricter = True
            if reported < self._own[index]:
                self._until = now + WINDOW
        return stricter

    def _drop_reported(self) -> None:
        """The reported limits are too old: only the window's own hold."""
        self._limits, self._until = list(self._own), math.inf
        self.limited = min(self._limits) < math.inf
        if not self.limited:
            for entry in self._entries:
                entry.expired = True
            self._entries.clear()
            self._used = [0, 0, 0]

    def too_large(self, need: Need, now: float) -> str | None:
        """Which limit `need` alone exceeds, in words; None if it can fit at some time."""
        if now >= self._until:
            self._drop_reported()
        inputs, outputs = need
        amounts = (1, inputs, outputs, inputs + outputs)
        for name, amount, limit in zip(_NAMES, amounts, self._limits, strict=True):
            if amount > limit:
                return f"it needs {amount:,} of {int(limit):,} {name}"
        return None

    def fits(self, need: Need, now: float) -> bool:
        """Whether `need` fits now."""
        if now >= self._until:
            self._drop_reported()
        entries = self._entries
        if entries and entries[0].at + WINDOW <= now:
            self._expire(now)
        inputs = self._used[1] + need[0]
        outputs = self._used[2] + need[1]
        limits = self._limits
        return (
            self._used[0] < limits[0]
            and inputs <= limits[1]
            and outputs <= limits[2]
            and inputs + outputs <= limits[3]
        )

    def wait(self, need: Need, now: float) -> float:
        """Seconds until `need` fits; 0.0 when it fits now, infinite when it never will."""
        if self.fits(need, now):
            return 0.0
        requests, inputs, outputs = self._used
        inputs, outputs = inputs + need[0], outputs + need[1]
        of_requests, of_inputs, of_outputs, of_both = self._limits
        for entry in self._entries:
            requests -= entry.requests
            inputs -= entry.input_tokens
            outputs -= entry.output_tokens
            if (
                requests < of_requests
                and inputs <= of_inputs
                and outputs <= of_outputs
                and inputs + outputs <= of_both
            ):
                return max(min(entry.at + WINDOW, self._until) - now, 0.0)
        return self._until - now

    def admit(self, need: Need, now: float) -> Admission | None:
        """Reserve `need`, which `fits` has allowed; None if nothing is limited."""
        if not self.limited:
            return None
        entries = self._entries
        # A thread may read the clock before another and come after it.
        at = entries[-1].at if entries and entries[-1].at > now else now
        admission = Admission(at, need)
        entries.append(admission)
        used = self._used
        used[0] += 1
        used[1] += need[0]
        used[2] += need[1]
        return admission

    def correct(self, admission: Admission, input_tokens: int, output_tokens: int) -> None:
        """The request really took this many tokens."""
        self._put(admission, 1, max(input_tokens, 0), max(output_tokens, 0))

    def refund(self, admission: Admission) -> None:
        """Nothing was sent after all."""
        self._put(admission, 0, 0, 0)

    def recount(self) -> None:
        """Add up again, in a forked child: another thread may have been in the middle of it."""
        self._used = _sums(self._entries)

    def _put(self, admission: Admission, requests: int, inputs: int, outputs: int) -> None:
        if admission.expired:
            return
        self._subtract(admission)
        admission.requests = requests
        admission.input_tokens = inputs
        admission.output_tokens = outputs
        used = self._used
        used[0] += requests
        used[1] += inputs
        used[2] += outputs

    def _subtract(self, admission: Admission) -> None:
        used = self._used
        used[0] -= admission.requests
        used[1] -= admission.input_tokens
        used[2] -= admission.output_tokens

    def _expire(self, now: float) -> None:
        entries = self._entries
        while entries and entries[0].at + WINDOW <= now:
            gone = entries.popleft()
            gone.expired = True
            self._subtract(gone)


def _sums(entries: Iterable[Admission]) -> list[int]:
    sums = [0, 0, 0]
    for entry in entries:
        sums[0] += entry.requests
        sums[1] += entry.input_tokens
        sums[2] += entry.output_tokens
    return sums
