"""Several API keys behind one model: how many calls each takes, its limits, its health."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.policy.limits.member import key_fingerprint
from agentkit.policy.limits.pool import Member, Pool, Strategy
from agentkit.policy.limits.window import RateLimits
from agentkit.policy.target import Endpoint
from agentkit.policy.validation import number, optional_number, whole_number

Make = Callable[[str, str | None], Any]
"""A provider object for a key and, where keys have models of their own, a model."""


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Sizes and times of a pool.

    Args:
        min_size: connections made when the pool is built; the others are made when first used.
        max_size: most calls under way over all keys together.
        acquire_timeout: seconds a call waits for a key before `LLMPoolExhaustedError`; None: its
            part of the deadline.
        idle_timeout: seconds without use after which a key's client is made anew; None: never.
        max_lifetime: seconds after which a key's client is made anew; None: never.
        retry_on_error: False: a single attempt a call.
        health_check_interval: seconds without traffic after which a key is checked, where a
            `health_check` was given.

    Raises:
        ConfigurationError: a value cannot work.
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


class ConnectionPool:
    """API keys for `LLMManager.register_model(..., pool=...)`.

    A key takes up to `max_connections_per_key` calls at once. A 429 on one key moves the same
    request to the next one without waiting; a refused key is used no more; a key that fails three
    times in a row rests for 30 s while others can serve. Health is seen from traffic: no call is
    paid for a check. `check_health` asks `health_check` about keys that had none lately.

    Args:
        api_keys: the keys, each once.
        max_connections_per_key: calls of one key at once (default 5), or one number a key.
        health_check_interval: seconds without traffic after which a key is due for a check.
        models: the provider's model names, one a key, where keys serve different ones.
        limits: requests and tokens a minute, one for all keys or one a key.
        strategy: ``"round_robin"`` (default) or ``"least_loaded"``.
        config: sizes and times; wins over `health_check_interval`.
        health_check: asked with a provider object; False or an exception replaces its client.

    Raises:
        ConfigurationError: no key, an empty one, one twice, or counts that do not match.
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
        widths = [most] if isinstance(most, int) else most
        self._widths = _one_each("max_connections_per_key", widths, count)
        for width in self._widths:
            whole_number("max_connections_per_key", width)
        self.config = config
        interval = health_check_interval if config is None else config.health_check_interval
        self.health_check_interval = number("health_check_interval", interval, above=True)
        self.strategy: Strategy = strategy
        self._health_check = health_check
        self._built: list[tuple[Pool, dict[Member, Any]]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def build(
        self,
        name: str,
        make: Make,
        endpoint_of: Callable[[Any], Endpoint],
        usual_limits: RateLimits | None = None,
        acquire_timeout: float | None = None,
    ) -> Pool:
        """The policy's pool for the model `name`; `make` gives a provider object for each key.

        `usual_limits` and `acquire_timeout` hold where this pool says nothing.
        """
        config = self.config
        providers: dict[Member, Any] = {}
        members = []
        rows = zip(self._keys, self._models, self._limits, self._widths, strict=True)
        for key, model, limits, width in rows:
            member = Member(
                name=key_fingerprint(key),
                max_concurrency=width,
                limits=usual_limits if limits is None else limits,
                idle_timeout=None if config is None else config.idle_timeout,
                max_lifetime=None if config is None else config.max_lifetime,
            )
            member.renew = _renewal(member, key, model, make, endpoint_of, providers)
            members.append(member)
        for member in members[: 0 if config is None else config.min_size]:
            member.endpoint = None if member.renew is None else member.renew()
        pool = Pool(
            members,
            name=name,
            strategy=self.strategy,
            acquire_timeout=acquire_timeout if config is None else config.acquire_timeout,
            max_in_use=None if config is None else config.max_size,
        )
        self._built.append((pool, providers))
        return pool

    def check_health(self, now: float | None = None) -> list[str]:
        """Check every key without traffic for `health_check_interval`; the keys that failed.

        `now` is the manager's clock (default `time.monotonic`, as a manager's is). Does nothing
        without a `health_check`.
        """
        now = time.monotonic() if now is None else now
        failed: list[str] = []
        check = self._health_check
        if check is None:
            return failed
        for pool, providers in self._built:
            for member in pool.members:
                idle = now - member.last_used >= self.health_check_interval
                if member.retired or member.in_use or not idle or member not in providers:
                    continue
                if not _passes(check, providers[member]):
                    member.worn = True
                    failed.append(member.name)
                member.last_used = now
        return failed

    def status(self, now: float) -> list[dict[str, Any]]:
        """For each model built on this pool: its keys by fingerprint, in use, waiting, resting."""
        return [pool_status(pool, now) for pool, _ in self._built]

    def __repr__(self) -> str:
        return f"<ConnectionPool of {len(self._keys)} keys>"

    def __reduce__(self) -> Any:
        raise TypeError("a ConnectionPool holds keys and cannot be pickled")


def pool_status(pool: Pool, now: float) -> dict[str, Any]:
    """One pool as plain values; keys only by their fingerprint."""
    return {
        "name": pool.name,
        "total_clients": len(pool.members),
        "in_use_clients": pool.in_use,
        "available_clients": sum(
            not each.retired and each.resting_until <= now for each in pool.members
        ),
        "waiting": pool.waiting,
        "clients": [
            {
                "key": member.name,
                "in_use": member.in_use,
                "served": member.served,
                "failures": member.failures,
                "retired": member.retired,
                "resting": max(0.0, member.resting_until - now) if member.served else 0.0,
                "used": member.window.used(now),
                "limits": member.window.limits(),
            }
            for member in pool.members
        ],
    }


def _renewal(
    member: Member,
    key: str,
    model: str | None,
    make: Make,
    endpoint_of: Callable[[Any], Endpoint],
    providers: dict[Member, Any],
) -> Callable[[], Endpoint]:
    def renew() -> Endpoint:
        providers[member] = make(key, model)
        return endpoint_of(providers[member])

    return renew


def _passes(check: Callable[[Any], bool], provider: Any) -> bool:
    try:
        return check(provider) is not False
    except Exception:  # noqa: BLE001 - whatever a check raises, the key did not pass it
        return False


def _checked_keys(keys: Any) -> tuple[str, ...]:
    if isinstance(keys, str):
        keys = keys.split(",")
    found = tuple(key.strip() if isinstance(key, str) else key for key in keys)
    if not found:
        raise ConfigurationError("a pool needs at least one API key", hint="give api_keys=[...]")
    for index, key in enumerate(found):
        if not isinstance(key, str) or not key:
            raise ConfigurationError(
                f"API key {index + 1} of {len(found)} is empty", hint="remove it or fill it in"
            )
        if key in found[:index]:
            raise ConfigurationError(
                f"API key {index + 1} is the same as key {found.index(key) + 1}",
                hint="give each key once",
            )
    return found


def _one_each(what: str, values: Sequence[Any] | None, count: int) -> tuple[Any, ...]:
    if values is None:
        return (None,) * count
    if len(values) == 1:
        return (values[0],) * count
    if len(values) != count:
        raise ConfigurationError(
            f"{len(values)} {what} for {count} API keys", hint=f"give one, or {count}"
        )
    return tuple(values)
