"""One key of a pool: its endpoint, its limits, its health."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from agentkit.policy.limits.window import Need, RateLimits, Window
from agentkit.policy.validation import optional_number, whole_number

if TYPE_CHECKING:
    from agentkit.policy.target import Endpoint

log = logging.getLogger("agentkit.pool")


def key_fingerprint(secret: str | None) -> str:
    """A name for a key that reveals nothing of it: the start of its SHA-256; ``-`` without a key.

    The same key has the same fingerprint everywhere.
    """
    if secret is None:
        return "-"
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


class Member:
    """One key (or one unkeyed model) of a pool. Not locked: its pool is.

    `name` is what logs may say of the key: its fingerprint. `max_concurrency` None means no limit.
    `renew` builds a fresh endpoint once the old one is older than `max_lifetime` or was idle for
    `idle_timeout` (both seconds, None: never); the old one is closed with its last call.
    """

    __slots__ = (
        "_outlived", "born", "endpoint", "failures", "idle_timeout", "in_use", "last_used",
        "max_concurrency", "max_lifetime", "name", "renew", "resting_until", "retired", "served",
        "window", "worn",
        "worn",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint | None = None,
        *,
        name: str = "",
        max_concurrency: int | None = None,
        limits: RateLimits | None = None,
        renew: Callable[[], Endpoint] | None = None,
        idle_timeout: float | None = None,
        max_lifetime: float | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.name = name
        self.max_concurrency = (
            None if max_concurrency is None else whole_number("max_concurrency", max_concurrency)
        )
        self.window = Window(limits)
        self.renew = renew
        self.idle_timeout = optional_number("idle_timeout", idle_timeout, above=True)
        self.max_lifetime = optional_number("max_lifetime", max_lifetime, above=True)
        self.in_use = self.served = self.failures = 0
        self.resting_until = -math.inf
        self.retired = False
        self.worn = False
        """Set from outside: its client is made anew before its next call."""
        self.born = self.last_used = -math.inf
        self._outlived: dict[Endpoint, int] = {}
        """Endpoints that were replaced while in use: how many calls still use them."""

    def is_free(self, need: Need, now: float) -> bool:
        """Whether it can take `need` now."""
        return (
            (self.max_concurrency is None or self.in_use < self.max_concurrency)
            and self.resting_until <= now
            and not self.retired
            and (not self.window.limited or self.window.fits(need, now))
        )

    def wait(self, need: Need, now: float) -> float:
        """Seconds until it can take `need`; infinite when only a release can tell."""
        if self.retired or (
            self.max_concurrency is not None and self.in_use >= self.max_concurrency
        ):
            return math.inf
        return max(self.resting_until - now, self.window.wait(need, now), 0.0)

    def take(self, now: float) -> Endpoint | None:
        """One more call uses it. Returns an endpoint to close, if one is used no more."""
        idle = self.last_used
        self.in_use += 1
        self.served += 1
        self.last_used = now
        return None if self.renew is None else self._recycle(now, now - idle)

    def give_back(self, endpoint: Endpoint | None, now: float) -> Endpoint | None:
        """A call that used `endpoint` is over. Returns an endpoint to close, as `take` does."""
        self.in_use -= 1
        self.last_used = now
        if not self._outlived or endpoint is None or endpoint not in self._outlived:
            return None
        self._outlived[endpoint] -= 1
        if self._outlived[endpoint]:
            return None
        del self._outlived[endpoint]
        return endpoint

    def renew_after_fork(self) -> None:
        """Its own connections and no calls, in a forked child; limits and health stay."""
        self.in_use = 0
        self._outlived.clear()
        self.window.recount()
        if self.endpoint is not None:
            self._build()

    def _recycle(self, now: float, idle: float) -> Endpoint | None:
        if self.served == 1:
            self.born = now
            if self.endpoint is not None:
                return None
        elif not self._has_had_its_time(now, idle):
            return None
        old = self.endpoint
        self.born, self.worn = now, False
        if not self._build() or old is None:
            return None
        still_used = self.in_use - 1 - sum(self._outlived.values())
        if still_used == 0:
            return old
        self._outlived[old] = still_used
        return None

    def _has_had_its_time(self, now: float, idle: float) -> bool:
        if self.worn:
            return True
        unused = self.idle_timeout is not None and self.in_use == 1 and idle >= self.idle_timeout
        return unused or (self.max_lifetime is not None and now - self.born >= self.max_lifetime)

    def _build(self) -> bool:
        """A fresh endpoint; False, and the old one stays, when there is no way to build it."""
        if self.renew is None:
            return False
        try:
            self.endpoint = self.renew()
        except Exception as error:  # noqa: BLE001 - it is built on behalf of any call that waits
            log.warning("key %s: no fresh client: %s", self.name, type(error).__name__)
            return False
        return True
