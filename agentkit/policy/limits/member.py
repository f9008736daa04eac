"""One key of a pool: its concurrency, its quota and its health."""

from __future__ import annotations

import math

from agentkit.policy.limits.rates import Need, RateLimits, RateWindow
from agentkit.policy.validation import whole_number

LONGEST_PAUSE = 3600.0
"""Seconds after which a rate-limited key is used again, even if its Retry-After is longer."""

MOST_PLACES = 1_000
"""The places of a member whose concurrency is not limited."""


class Member:
    """One key (or one model without keys) of a pool. Not locked: its pool is.

    `name` is what logs may show of the key: its fingerprint. `max_concurrency` None means no limit.
    `model` is the provider's name of the key's own model; None: it serves that of the pool.
    """

    __slots__ = (
        "available_at",
        "failures",
        "in_use",
        "max_concurrency",
        "model",
        "name",
        "retired",
        "served",
        "window",
    )

    def __init__(
        self,
        *,
        name: str = "",
        max_concurrency: int | None = None,
        limits: RateLimits | None = None,
        model: str | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.max_concurrency = (
            None if max_concurrency is None else whole_number("max_concurrency", max_concurrency)
        )
        self.window = RateWindow(limits)
        self.in_use = self.served = self.failures = 0
        self.available_at = -math.inf
        """Clock time before which it is not used."""
        self.retired = False
        """Its key was refused, and is not used again."""

    def is_free(self, need: Need, now: float) -> bool:
        """Whether it can serve `need` now."""
        return (
            (self.max_concurrency is None or self.in_use < self.max_concurrency)
            and self.available_at <= now
            and not self.retired
            and (not self.window.limited or self.window.fits(need, now))
        )

    def places(self, now: float) -> int:
        """How many more calls it can serve at once; at most `MOST_PLACES`."""
        if self.retired or self.available_at > now:
            return 0
        if self.max_concurrency is None:
            return MOST_PLACES
        return max(min(self.max_concurrency - self.in_use, MOST_PLACES), 0)

    def wait(self, need: Need, now: float, *, counted: bool = True) -> float:
        """Seconds until it can serve `need`; infinite if that depends on a release.

        `counted` is whether its own window decides.
        """
        if self.retired or (
            self.max_concurrency is not None and self.in_use >= self.max_concurrency
        ):
            return math.inf
        wait = self.window.wait(need, now) if counted else 0.0
        return max(self.available_at - now, wait, 0.0)
