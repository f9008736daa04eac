"""The retry policy: whether and when the same model is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from agentkit._fork import fork_safe_lock
from agentkit.policy.validation import number, whole_number

_LARGEST_EXPONENT = 64

FIRST_SUCCESS_EARNS = 1
RETRY_COSTS = 5
RETRY_AFTER_TIMEOUT_COSTS = 10


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a model is asked in one request, and the waits in between.

    Args:
        max_attempts: attempts in all, the first included (default 3; 1 never retries).
        base_delay: nominal wait before the first retry, in seconds (default 1.0).
        multiplier: growth of the wait from retry to retry (default 2.0).
        max_delay: cap of a wait, in seconds (default 60.0).
        jitter: fraction of the nominal wait; a wait is uniform in nominal × (1 ± jitter), then
            capped (default 0.25; 0 gives the literal schedule 1, 2, 4, 8 …).
        max_retry_after: longest wait that a provider's Retry-After may ask for, in seconds
            (default 5.0); a longer one moves the call to the next model.
        budget: tokens of the retry budget kept for each model (default 500; None: no budget). A
            retry costs 5, after a timeout 10; a success at the first attempt earns 1 (the scheme of
            botocore's standard mode). An empty budget stops retries, never first attempts.

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
            "max_attempts", self.max_attempts, hint="1 is a single attempt without retries"
        )
        number("base_delay", self.base_delay)
        number("multiplier", self.multiplier, minimum=1.0)
        number("max_delay", self.max_delay)
        number("jitter", self.jitter, maximum=1.0)
        number("max_retry_after", self.max_retry_after)
        if self.budget is not None:
            whole_number("budget", self.budget, minimum=0)

    def backoff(self, retry: int, rng: Callable[[], float] = random.random) -> float:
        """Seconds to wait before the `retry`-th retry (from 1); `rng` gives uniform [0, 1)."""
        nominal = self.base_delay * self.multiplier ** min(retry - 1, _LARGEST_EXPONENT)
        return min(nominal * (1.0 + self.jitter * (2.0 * rng() - 1.0)), self.max_delay)

    def after(self, retry_after: float, rng: Callable[[], float] = random.random) -> float:
        """Seconds to wait after a Retry-After of so many seconds: never less than it asks for."""
        return retry_after * (1.0 + self.jitter * rng())

    def delay(
        self, retry: int, retry_after: float | None, rng: Callable[[], float] = random.random
    ) -> float | None:
        """Seconds to wait before the `retry`-th retry (from 1); None: `retry_after` is too long.

        With a Retry-After, the longer of the two: a provider that says 0 gets no retry storm.
        """
        if retry_after is None:
            return self.backoff(retry, rng)
        if retry_after > self.max_retry_after:
            return None
        return max(self.backoff(retry, rng), self.after(retry_after, rng))


class RetryBudget:
    """A token bucket that stops retry storms: retries spend, clean successes earn."""

    __slots__ = ("_lock", "capacity", "tokens")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tokens = capacity
        self._lock = fork_safe_lock()

    def spend(self, cost: int) -> bool:
        """Take `cost` tokens; False, and nothing taken, when there are not enough."""
        with self._lock:
            if self.tokens < cost:
                return False
            self.tokens -= cost
            return True

    def earn(self) -> None:
        """A first attempt succeeded."""
        if self.tokens < self.capacity:
            with self._lock:
                self.tokens = min(self.capacity, self.tokens + FIRST_SUCCESS_EARNS)

    def __repr__(self) -> str:
        return f"<RetryBudget {self.tokens}/{self.capacity}>"
