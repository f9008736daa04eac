"""The retry policy: whether and when the same model is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from agentkit._fork import fork_safe_lock
from agentkit.policy.validation import checked_keywords, number, whole_number

_LARGEST_EXPONENT = 64

FIRST_SUCCESS_EARNS = 1
RETRY_COSTS = 5
RETRY_AFTER_TIMEOUT_COSTS = 10


@checked_keywords(max_retries="max_attempts", retries="max_attempts")
@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a model is tried in one request, and how long to wait in between.

    Args:
        max_attempts: the most attempts, including the first (default 3; 1: no retries).
        base_delay: nominal wait before the first retry, in seconds (default 1.0).
        multiplier: factor from one wait to the next (default 2.0).
        max_delay: the longest wait, in seconds (default 60.0).
        jitter: random variation, as a fraction of the wait (default 0.25): a wait is uniformly
            distributed in nominal × (1 ± jitter). With 0 the waits are exactly 1, 2, 4, 8 … s.
        max_retry_after: the longest Retry-After to wait for, in seconds (default 5.0). If a
            provider asks for more, the next model is tried.
        budget: size of the retry budget of each model (default 500; None: no limit). A retry costs
            5, a retry after a timeout 10, and a success at the first attempt earns 1, as in
            botocore's standard mode. An empty budget stops retries, never first attempts.

    Raises:
        ConfigurationError: a value is negative, NaN or otherwise out of range.
    """

    max_attempts: int = 3
    base_delay: float = 1.0
    multiplier: float = 2.0
    max_delay: float = 60.0
    jitter: float = 0.25
    max_retry_after: float = 5.0
    budget: int | None = 500

    def __post_init__(self) -> None:
        whole_number(
            "max_attempts",
            self.max_attempts,
            hint="it counts attempts: 1 is a single attempt without retries",
        )
        number("base_delay", self.base_delay)
        number("multiplier", self.multiplier, minimum=1.0)
        number("max_delay", self.max_delay)
        number("jitter", self.jitter, maximum=1.0)
        number("max_retry_after", self.max_retry_after)
        if self.budget is not None:
            whole_number("budget", self.budget, minimum=0)

    def backoff(self, retry: int, rng: Callable[[], float] = random.random) -> float:
        """Seconds to wait before retry number `retry` (from 1). `rng` is uniform in [0, 1)."""
        nominal = self.base_delay * self.multiplier ** min(retry - 1, _LARGEST_EXPONENT)
        return min(nominal * (1.0 + self.jitter * (2.0 * rng() - 1.0)), self.max_delay)

    def after(self, retry_after: float, rng: Callable[[], float] = random.random) -> float:
        """Seconds to wait for a Retry-After of `retry_after` seconds: never less."""
        return retry_after * (1.0 + self.jitter * rng())

    def delay(
        self, retry: int, retry_after: float | None, rng: Callable[[], float] = random.random
    ) -> float | None:
        """Seconds to wait before retry number `retry` (from 1); None if `retry_after` is too long.

        A Retry-After never shortens the back-off, so that one of 0 does not cause a retry storm.
        """
        if retry_after is None:
            return self.backoff(retry, rng)
        if retry_after > self.max_retry_after:
            return None
        return max(self.backoff(retry, rng), self.after(retry_after, rng))


class RetryBudget:
    """A token bucket that prevents retry storms: retries cost tokens, first successes earn them."""

    __slots__ = ("_lock", "capacity", "tokens")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tokens = capacity
        self._lock = fork_safe_lock()

    def spend(self, cost: int) -> bool:
        """Take `cost` tokens. If there are not enough, take none and return False."""
        with self._lock:
            if self.tokens < cost:
                return False
            self.tokens -= cost
            return True

    def earn(self) -> None:
        """Add a token, after a first attempt has succeeded."""
        if self.tokens < self.capacity:
            with self._lock:
                if self.tokens < self.capacity:
                    self.tokens += FIRST_SUCCESS_EARNS

    def __repr__(self) -> str:
        return f"<RetryBudget {self.tokens}/{self.capacity}>"
