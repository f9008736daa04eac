"""What a configuration says, as values. No repr holds a key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from agentkit.policy.limits.member import key_fingerprint
from agentkit.policy.limits.pool import Strategy
from agentkit.policy.limits.window import RateLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """One key of a provider, and what is asked and allowed with it.

    Attributes:
        secret: the key itself; None for a provider that needs none. In no repr.
        model: the model asked with this key.
        limits: most requests and tokens a minute with this key.
        max_concurrency: most calls under way at once with this key (default 5).
        origin: where the key came from, for people: a file and line, or a variable.
    """

    secret: str | None = field(repr=False)
    model: str
    limits: RateLimits = field(default_factory=RateLimits)
    max_concurrency: int = 5
    origin: str = field(default="", compare=False)

    @property
    def fingerprint(self) -> str:
        """See `key_fingerprint`."""
        return key_fingerprint(self.secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """One provider with its keys.

    Attributes:
        name: its name in this configuration.
        kind: which adapter speaks to it (``openai``, ``anthropic`` …).
        keys: at least one; without a secret where the provider needs none.
        base_url: instead of the provider's own address; None: its own.
        strategy: how calls are spread over the keys.
        acquire_timeout: most seconds a call waits for a key to come free (default 60.0, one window
            of the limits; None: its part of the deadline).
        idle_timeout: seconds without a call after which a key's connections are made anew
            (default 300.0; None: never).
        max_lifetime: seconds after which they are made anew in any case (default 3600.0;
            None: never).
        timeout: seconds for one attempt; of a stream, between two events (default 120.0; None: the
            attempt's part of the deadline).
        first_token_timeout: seconds to the first content of a stream (None: `timeout`).
        max_tokens: most tokens of an answer when a call does not say (None: the provider decides).
        context_window: tokens that fit into a request and its answer (None: unknown).
    """

    name: str
    kind: str
    keys: tuple[KeySettings, ...]
    base_url: str | None = None
    strategy: Strategy = "round_robin"
    acquire_timeout: float | None = 60.0
    idle_timeout: float | None = 300.0
    max_lifetime: float | None = 3600.0
    timeout: float | None = 120.0
    first_token_timeout: float | None = None
    max_tokens: int | None = None
    context_window: int | None = None

    @property
    def fingerprint(self) -> str:
        """Changes when anything of this provider changes, a key included; see `Settings`."""
        return _digest(_plain(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A whole configuration.

    Attributes:
        providers: by name, in the order of the file.
        default_provider: the name of the one that is asked first.
        fallback: names of those asked after it, in order, without duplicates.
        deadline: seconds for one request with everything it waits for (default 300.0; None: no
            limit).
        max_retries: attempts at one provider in one request, the first included (default 3).
        response_cache: where answers are kept; None (default): nowhere.
        source: the file it was read from, or ``the environment``.
    """

    providers: dict[str, ProviderSettings]
    default_provider: str
    fallback: tuple[str, ...] = ()
    deadline: float | None = 300.0
    max_retries: int = 3
    response_cache: Literal["disk", "memory"] | None = None
    source: str = field(default="", compare=False)

    @property
    def fingerprint(self) -> str:
        """Equal for equal settings, in every process; another one when anything changes.

        The start of a SHA-256 over all values, with each key replaced by a SHA-256 of its own, so
        that it can be logged and compared.
        """
        return _digest(_plain(self))

    @property
    def route(self) -> tuple[ProviderSettings, ...]:
        """The providers a request may reach, in order."""
        return tuple(self.providers[name] for name in (self.default_provider, *self.fallback))


def _digest(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """`value` as JSON could hold it, with keys hashed and without what is not compared."""
    if isinstance(value, Mapping):
        return [[name, _plain(each)] for name, each in value.items()]
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, KeySettings | ProviderSettings | Settings | RateLimits):
        return [
            _hashed(getattr(value, each.name)) if each.name == "secret"
            else _plain(getattr(value, each.name))
            for each in fields(value)
            if each.compare
        ]  # fmt: skip
    return value


def _hashed(secret: str | None) -> str | None:
    return None if secret is None else hashlib.sha256(secret.encode()).hexdigest()
