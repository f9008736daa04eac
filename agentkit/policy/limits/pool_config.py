"""The sizes and times of a pool of keys, as users set them."""

from __future__ import annotations

from dataclasses import dataclass

from agentkit.policy.validation import checked_keywords, number, optional_number, whole_number


@checked_keywords()
@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Sizes and times of a pool.

    Args:
        min_size: clients made when the pool is built; the others are made when first used.
        max_size: the most concurrent calls over all keys.
        acquire_timeout: seconds a call waits for a key before `LLMPoolExhaustedError`; None: its
            part of the deadline.
        idle_timeout: seconds without a call after which a key's client is replaced; None: never.
        max_lifetime: seconds after which a key's client is replaced; None: never.
        retry_on_error: False for a single attempt per call.
        health_check_interval: seconds without traffic after which a key is checked, if there is a
            `health_check`.

    Raises:
        ConfigurationError: a value is out of range.
    """

    min_size: int = 1
    max_size: int = 10
    acquire_timeout: float | None = 10.0
    idle_timeout: float | None = 3600.0
    max_lifetime: float | None = 7200.0
    retry_on_error: bool = True
    health_check_interval: float = 60.0

    def __post_init__(self) -> None:
        whole_number("min_size", self.min_size, minimum=0)
        whole_number("max_size", self.max_size, minimum=max(self.min_size, 1))
        optional_number("acquire_timeout", self.acquire_timeout)
        for name in ("idle_timeout", "max_lifetime"):
            optional_number(name, getattr(self, name), above=True)
        number("health_check_interval", self.health_check_interval, above=True)
