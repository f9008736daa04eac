"""From the values a user gives to targets and the response cache, checked on the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from agentkit.cache.fingerprint import callable_fingerprint, request_key
from agentkit.cache.response import ResponseCache, build_response_cache
from agentkit.errors import ConfigurationError
from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker
from agentkit.policy.checks import optional, whole
from agentkit.policy.pool import Member, Pool
from agentkit.policy.retry import RetryBudget, RetryPolicy
from agentkit.policy.routing import Target
from agentkit.policy.verdict import RetryOn
from agentkit.providers.callable import endpoint_of
from agentkit.types import Clock, Request, Store

_DEFAULT_ATTEMPTS = 3
_registrations = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a model gets when its registration says nothing else."""

    max_retries: int
    retry: RetryPolicy | None
    breaker: BreakerPolicy | bool | None

    def __post_init__(self) -> None:
        whole("max_retries", self.max_retries, hint="1 is a single attempt without retries")
        if self.retry is None:
            object.__setattr__(self, "retry", RetryPolicy(max_attempts=self.max_retries))
        elif not isinstance(self.retry, RetryPolicy):
            raise ConfigurationError(f"retry must be a RetryPolicy, got {self.retry!r}")
        elif self.max_retries not in (_DEFAULT_ATTEMPTS, self.retry.max_attempts):
            raise ConfigurationError(
                f"max_retries={self.max_retries} contradicts retry={self.retry}",
                hint="give one of the two",
            )


def build_target(
    name: Any,
    inference_fn: Any,
    metadata: Mapping[str, Any] | None,
    defaults: Defaults,
    *,
    clock: Clock,
    changed: Callable[[str, str, str], None],
    retry: RetryPolicy | None,
    breaker: BreakerPolicy | CircuitBreaker | bool | None,
    timeout: float | None,
    first_token_timeout: float | None,
    retry_on: RetryOn | None,
    max_concurrency: int | None,
) -> Target:
    """One target from one registration. Raises `ConfigurationError`."""
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"a model needs a name, got {name!r}", hint="give a text")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ConfigurationError(f"metadata must be a mapping, got {type(metadata).__name__}")
    facts = MappingProxyType(dict(metadata or {}))
    policy: Any = defaults.retry if retry is None else retry
    if not isinstance(policy, RetryPolicy):
        raise ConfigurationError(f"retry must be a RetryPolicy, got {policy!r}")
    if retry_on is not None and not (callable(retry_on) or isinstance(retry_on, tuple)):
        raise ConfigurationError(
            f"retry_on must be exception types or a function, got {retry_on!r}"
        )
    fingerprint = callable_fingerprint(inference_fn, facts)
    provider = facts.get("provider") or getattr(inference_fn, "provider", None) or "custom"
    window = facts.get("context_window")
    return Target(
        name,
        str(provider),
        endpoint_of(
            inference_fn,
            name=name,
            provider=str(provider),
            fingerprint=fingerprint or f"registration:{next(_registrations)}",
            durable=fingerprint is not None,
        ),
        facts,
        policy,
        _breaker(f"{provider}/{name}", breaker, defaults.breaker, clock, changed),
        _pool(name, max_concurrency),
        None if policy.budget is None else RetryBudget(policy.budget),
        optional("timeout", timeout, above=True),
        optional("first_token_timeout", first_token_timeout, above=True),
        retry_on,
        None if window is None else whole("context_window", window),
    )


def _pool(name: str, max_concurrency: int | None) -> Pool | None:
    if max_concurrency is None:
        return None
    return Pool([Member(max_concurrency=max_concurrency)], name=name)


def _breaker(
    name: str,
    own: BreakerPolicy | CircuitBreaker | bool | None,
    default: BreakerPolicy | bool | None,
    clock: Clock,
    changed: Callable[[str, str, str], None],
) -> CircuitBreaker | None:
    if isinstance(own, CircuitBreaker):
        own.tell(changed)
        return own
    chosen = default if own is None else own
    if chosen is False:
        return None
    policy = BreakerPolicy() if chosen is None or chosen is True else chosen
    if not isinstance(policy, BreakerPolicy):
        raise ConfigurationError(
            f"breaker must be a BreakerPolicy, a CircuitBreaker or False, got {policy!r}"
        )
    return CircuitBreaker(name=name, policy=policy, clock=clock, on_change=changed)


def build_answers(
    cache: Store | str | None,
    *,
    directory: str | None,
    ttl: float,
    namespace: str,
    clock: Clock | None,
) -> tuple[ResponseCache | None, Callable[[Request, Target], str | None]]:
    """The response cache, and how a request's key in it is made."""

    def key(request: Request, target: Target) -> str | None:
        return request_key(
            request,
            model=target.name,
            fingerprint=target.endpoint.fingerprint,
            namespace=namespace,
        )

    answers = build_response_cache(
        cache, directory=directory, ttl=ttl, namespace=namespace, clock=clock
    )
    return answers, key
