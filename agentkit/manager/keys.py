"""Several API keys behind one model: their limits, their health and their clients."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.errors import ConfigurationError
from agentkit.policy.limits import (
    Member,
    Pool,
    PoolConfig,
    RateLimits,
    Strategy,
    key_fingerprint,
)
from agentkit.policy.target import Endpoint
from agentkit.policy.validation import (
    checked_keywords,
    number,
    optional_number,
    whole_number,
)

log = logging.getLogger("agentkit.pool")

Make = Callable[[str, str | None], Any]
"""Makes a provider object for a key and, if keys serve different models, a model."""


class KeyClient:
    """The provider object of one key: made when first used, and replaced with age.

    A replaced one is closed with its last call. Safe to use from many threads.

    Args:
        make: gives a provider object for the key.
        as_endpoint: gives its endpoint.
        usual: serves the key while no provider object can be made for it.
        name: what logs may show of the key.
        idle_timeout: seconds without a call after which it is replaced; None: never.
        max_lifetime: seconds since its first call after which it is replaced; None: never.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        as_endpoint: Callable[[Any], Endpoint],
        usual: Endpoint,
        *,
        name: str,
        idle_timeout: float | None = None,
        max_lifetime: float | None = None,
    ) -> None:
        self._make = make
        self._as_endpoint = as_endpoint
        self._usual = usual
        self._name = name
        self._idle_timeout = optional_number("idle_timeout", idle_timeout, above=True)
        self._max_lifetime = optional_number("max_lifetime", max_lifetime, above=True)
        self._lock = fork_safe_lock()  # held while a provider object is made, for this key alone
        self._provider: Any = None
        self._endpoint: Endpoint | None = None
        self._calls: defaultdict[Endpoint, int] = defaultdict(int)
        """Calls under way with the present endpoint and with replaced ones."""
        self._first_used: float | None = None
        self._last_used = -math.inf
        self._unhealthy = False
        on_fork(self._leave_to_parent)

    @property
    def endpoint(self) -> Endpoint | None:
        """The present endpoint; None before the first one is made."""
        return self._endpoint

    def open(self) -> None:
        """Make the provider object before its first call. Raises what that raises."""
        with self._lock:
            self._provider = self._make()
            self._endpoint = self._as_endpoint(self._provider)

    def take(self, now: float) -> Endpoint:
        """The endpoint for one call, until it is given back."""
        with self._lock:
            replaced = self._replace(now) if self._is_due(now) else None
            endpoint = self._endpoint or self._usual
            self._calls[endpoint] += 1
            self._last_used = now
        _close(replaced)
        return endpoint

    def give_back(self, endpoint: Endpoint, now: float) -> None:
        """A call that took `endpoint` is over; the parent's are ignored in a forked child."""
        unused = None
        with self._lock:
            if endpoint not in self._calls:
                return
            self._last_used = now
            self._calls[endpoint] -= 1
            if not self._calls[endpoint]:
                del self._calls[endpoint]
                unused = None if endpoint in (self._endpoint, self._usual) else endpoint
        _close(unused)

    def is_idle(self, now: float, seconds: float) -> bool:
        """Whether there is a provider object that no call has used for `seconds`."""
        unused = not self._calls and now - self._last_used >= seconds
        return unused and self._endpoint is not None

    def passes(self, check: Callable[[Any], bool], now: float) -> bool:
        """Whether the provider object passes `check`; if not, the next call gets a new one."""
        try:
            passed = check(self._provider) is not False
        except Exception:  # noqa: BLE001 - whatever a check raises, the key did not pass it
            passed = False
        self._last_used = now
        self._unhealthy = not passed
        return passed

    def _is_due(self, now: float) -> bool:
        if self._endpoint is None or self._unhealthy:
            return True
        if self._first_used is None:
            self._first_used = now
            return False
        idle, lifetime = self._idle_timeout, self._max_lifetime
        if idle is not None and not self._calls and now - self._last_used >= idle:
            return True
        return lifetime is not None and now - self._first_used >= lifetime

    def _replace(self, now: float) -> Endpoint | None:
        """Make a new provider object if that is possible; the old endpoint if no call uses it."""
        old = self._endpoint
        self._first_used, self._unhealthy = now, False
        try:
            self._provider = self._make()
            self._endpoint = self._as_endpoint(self._provider)
        except Exception as error:  # noqa: BLE001 - the key is used on behalf of any caller
            log.warning("key %s: no new client: %s", self._name, type(error).__name__)
            return None
        return None if old in self._calls else old

    def _leave_to_parent(self) -> None:
        """In a forked child: a client of its own. Closing the inherited one could disturb the
        parent, so it is only forgotten.
        """
        _inherited.append((self._provider, self._endpoint, self._calls))
        self._provider = self._endpoint = None
        self._calls = defaultdict(int)


_inherited: list[Any] = []


def _close(endpoint: Endpoint | None) -> None:
    if endpoint is not None and endpoint.close is not None:
        try:
            endpoint.close()
        except Exception as error:  # noqa: BLE001 - a client that cannot close is unused anyway
            log.debug("%s while closing a client", type(error).__name__)


@checked_keywords(keys="api_keys", max_concurrency="max_connections_per_key")
class ConnectionPool:
    """API keys for `LLMManager.register_model(..., pool=...)`.

    Each key serves up to `max_connections_per_key` calls at a time. After a 429, the same request
    continues with the next key without waiting. A rejected key is not used again. A key that fails
    three times in a row is not used for 30 s while others are usable. The health of a key is
    learned from its traffic, so that no call has to be paid for; `check_health` calls
    `health_check` for keys without traffic.

    Args:
        api_keys: the keys, each once.
        max_connections_per_key: concurrent calls with a key (default 5), or one number per key.
        health_check_interval: seconds without traffic after which a key is due for a check.
        models: the provider's model names, one per key, if keys serve different models.
        limits: requests and tokens per minute, for all keys or one per key.
        strategy: ``"round_robin"`` (default) or ``"least_loaded"``.
        config: sizes and times; takes precedence over `health_check_interval`.
        health_check: called with a provider object; False or an exception replaces its client.

    Raises:
        ConfigurationError: there is no key, an empty or duplicate key, or the counts do not match.
    """

    def __init__(
        self,
        api_keys: Iterable[str],
        max_connections_per_key: int | Sequence[int] = 5,
        health_check_interval: float = 60.0,
        *,
        models: Sequence[str] | None = None,
        limits: RateLimits | Sequence[RateLimits] | None = None,
        strategy: Strategy = "round_robin",
        config: PoolConfig | None = None,
        health_check: Callable[[Any], bool] | None = None,
    ) -> None:
        self._keys = _checked_keys(api_keys)
        count = len(self._keys)
        self._models = _one_each("models", models, count)
        each = [limits] if limits is None or isinstance(limits, RateLimits) else limits
        self._limits = _one_each("limits", each, count)
        most = max_connections_per_key
        widths = most if isinstance(most, Sequence) else [most]
        self._widths = _one_each("max_connections_per_key", widths, count)
        for width in self._widths:
            whole_number("max_connections_per_key", width)
        self.config = config
        interval = health_check_interval if config is None else config.health_check_interval
        self.health_check_interval = number("health_check_interval", interval, above=True)
        self.strategy: Strategy = strategy
        self._health_check = health_check
        self._built: list[tuple[Pool, dict[Member, KeyClient]]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def build(
        self,
        name: str,
        make: Make,
        as_endpoint: Callable[[Any], Endpoint],
        usual: Endpoint,
        *,
        limits: RateLimits | None = None,
        acquire_timeout: float | None = None,
    ) -> tuple[Pool, dict[Member, KeyClient]]:
        """The policy's pool for the model `name`, and the client of each of its keys.

        `make` gives a provider object for a key; `usual` serves a key whose own cannot be made.
        `limits` and `acquire_timeout` hold where this pool sets none.
        """
        config = self.config
        clients: dict[Member, KeyClient] = {}
        rows = zip(self._keys, self._models, self._limits, self._widths, strict=True)
        for key, model, own_limits, width in rows:
            member = Member(
                name=key_fingerprint(key),
                max_concurrency=width,
                limits=limits if own_limits is None else own_limits,
                model=model,
            )
            clients[member] = KeyClient(
                functools.partial(make, key, model),
                as_endpoint,
                usual,
                name=member.name,
                idle_timeout=None if config is None else config.idle_timeout,
                max_lifetime=None if config is None else config.max_lifetime,
            )
        for client in [*clients.values()][: 0 if config is None else config.min_size]:
            client.open()
        pool = Pool(
            [*clients],
            name=name,
            strategy=self.strategy,
            acquire_timeout=acquire_timeout if config is None else config.acquire_timeout,
            max_in_use=None if config is None else config.max_size,
        )
        self._built.append((pool, clients))
        return pool, clients

    def check_health(self, now: float | None = None) -> list[str]:
        """Check every key without traffic for `health_check_interval`; the keys that failed.

        `now` is the manager's clock (default `time.monotonic`, as a manager's is). Does nothing
        without a `health_check`.
        """
        now = time.monotonic() if now is None else now
        check = self._health_check
        if check is None:
            return []
        return [
            member.name
            for _, clients in self._built
            for member, client in clients.items()
            if not member.retired
            and client.is_idle(now, self.health_check_interval)
            and not client.passes(check, now)
        ]

    def status(self, now: float) -> list[dict[str, Any]]:
        """The state of each model that uses this pool, with its keys by fingerprint."""
        return [pool_status(pool, now) for pool, _ in self._built]

    def __repr__(self) -> str:
        return f"<ConnectionPool of {len(self._keys)} keys>"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a ConnectionPool holds keys and cannot be pickled: create one in each process"
        )


def pool_status(pool: Pool, now: float) -> dict[str, Any]:
    """The state of a pool as plain values; keys only by their fingerprint."""
    return {
        "name": pool.name,
        "total_clients": len(pool.members),
        "in_use_clients": pool.in_use,
        "available_clients": sum(
            not each.retired and each.available_at <= now for each in pool.members
        ),
        "waiting": pool.waiting,
        "clients": [
            {
                "key": member.name,
                "in_use": member.in_use,
                "served": member.served,
                "failures": member.failures,
                "retired": member.retired,
                "resting": max(0.0, member.available_at - now) if member.served else 0.0,
                "used": member.window.used(now),
                "limits": member.window.limits(),
            }
            for member in pool.members
        ],
    }


def _checked_keys(keys: Any) -> tuple[str, ...]:
    if isinstance(keys, str):
        keys = keys.split(",")
    if not isinstance(keys, Iterable):
        raise ConfigurationError(
            f"api_keys must be a list of strings, got {type(keys).__name__}",
            hint="check that the environment variable of the keys is set",
        )
    found = tuple(key.strip() if isinstance(key, str) else key for key in keys)
    if not found:
        raise ConfigurationError("a pool needs at least one API key", hint="pass api_keys=[...]")
    for index, key in enumerate(found):
        if not isinstance(key, str) or not key:
            raise ConfigurationError(
                f"API key {index + 1} of {len(found)} is empty", hint="remove it or fill it in"
            )
        if key in found[:index]:
            raise ConfigurationError(
                f"API key {index + 1} is the same as key {found.index(key) + 1}",
                hint="pass each key once",
            )
    return found


def _one_each(what: str, values: Sequence[Any] | None, count: int) -> tuple[Any, ...]:
    if values is None:
        return (None,) * count
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigurationError(
            f"{what} must be a list, got {values!r}", hint="pass one value for each API key"
        )
    if len(values) == 1:
        return (values[0],) * count
    if len(values) != count:
        raise ConfigurationError(
            f"{what} must have 1 value or {count}, one for each API key, got {len(values)}",
            hint="pass one value for each API key, or one for all",
        )
    return tuple(values)
