"""Targets, default policies and the response cache, built from the values that users pass."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from agentkit.cache.fingerprint import callable_fingerprint, request_key
from agentkit.cache.response import ResponseCache, build_response_cache
from agentkit.errors import ConfigurationError
from agentkit.manager.fleet import FleetMember
from agentkit.manager.keys import ConnectionPool, Make
from agentkit.manager.middleware import RateLimitMiddleware, RetryMiddleware
from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker
from agentkit.policy.classification import RetryOn
from agentkit.policy.limits import Member, Pool, RateLimits
from agentkit.policy.price import Price
from agentkit.policy.retry import RetryBudget, RetryPolicy
from agentkit.policy.target import Endpoint, EndpointSource, Target
from agentkit.policy.validation import instance, optional_number, whole_number
from agentkit.providers.endpoint import endpoint_of
from agentkit.providers.requirements import TransportName
from agentkit.providers.transport.options import ConnectionOptions
from agentkit.types import Now, Request, Store

log = logging.getLogger("agentkit.pool")

_DEFAULT_ATTEMPTS = 3
_ATTEMPTS_HINT = "it counts attempts: 1 is a single attempt without retries"
_RETRY_HINT = "pass RetryPolicy(max_attempts=...)"
_MOVES = frozenset({"transport", "connections"})
"""Settings that say how the bytes of a provider move."""
_registrations = itertools.count(1)


@dataclasses.dataclass(frozen=True, slots=True)
class ProviderSpec:
    """A provider and its model, such as ``openai:<model>``, with the settings to create it."""

    text: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def identity(self) -> str:
        """What its answers depend on, for the response cache: not how the bytes move."""
        settings = sorted(each for each in self.settings.items() if each[0] not in _MOVES)
        return f"{self.text} {settings}"

    def make(self, key: str | None = None, model: str | None = None) -> Any:
        """Create the provider object, with another API `key` or `model` if given."""
        from agentkit.providers.registry import provider_for

        prefix, _, own = self.text.partition(":")
        spec = f"{prefix}:{model}" if model is not None and model != own else self.text
        return provider_for(spec, api_key=key, **self.settings)


@dataclasses.dataclass(frozen=True, slots=True)
class Defaults:
    """The policies of models whose registration does not set them."""

    max_retries: int
    retry: RetryPolicy | None
    breaker: BreakerPolicy | bool | None
    limits: RateLimits | None = None
    acquire_timeout: float | None = None

    def __post_init__(self) -> None:
        whole_number("max_retries", self.max_retries, hint=_ATTEMPTS_HINT)
        if self.retry is None:
            object.__setattr__(self, "retry", RetryPolicy(max_attempts=self.max_retries))
            return
        instance("retry", self.retry, RetryPolicy, hint=_RETRY_HINT)
        if self.max_retries not in (_DEFAULT_ATTEMPTS, self.retry.max_attempts):
            raise ConfigurationError(
                f"max_retries={self.max_retries} contradicts retry={self.retry}",
                hint="set one of the two",
            )


def defaults_of(
    max_retries: int,
    retry: RetryPolicy | None,
    breaker: BreakerPolicy | bool | None,
    middleware: Sequence[Any],
) -> Defaults:
    """The defaults of a manager, including those that its policy middleware sets.

    Raises:
        ConfigurationError: a policy is set twice, or a value is invalid.
    """
    limits = [each for each in middleware if isinstance(each, RateLimitMiddleware)]
    retries = [each.policy for each in middleware if isinstance(each, RetryMiddleware)]
    if len(limits) > 1 or len(retries) + (retry is not None) > 1:
        what = "limits" if len(limits) > 1 else "retry policy"
        raise ConfigurationError(f"the {what} is set twice", hint="keep one of them")
    retry = retries[0] if retries else retry
    if not limits:
        return Defaults(max_retries, retry, breaker)
    return Defaults(max_retries, retry, breaker, limits[0].limits, limits[0].acquire_timeout)


def build_target(
    name: Any,
    inference_fn: Any,
    metadata: Mapping[str, Any] | None,
    defaults: Defaults,
    *,
    clock: Now,
    changed: Callable[[str, str, str], None],
    prices: Mapping[str, Price],
    with_text: bool,
    fleet: FleetMember,
    retry: RetryPolicy | None,
    breaker: BreakerPolicy | CircuitBreaker | bool | None,
    timeout: float | None,
    first_token_timeout: float | None,
    retry_on: RetryOn | None,
    max_concurrency: int | None,
    limits: RateLimits | None = None,
    pool: ConnectionPool | None = None,
    params: Mapping[str, Any] | None = None,
    transport: TransportName | None = None,
    connections: ConnectionOptions | None = None,
) -> Target:
    """The target of a registration. Raises `ConfigurationError`."""
    _check_registration(name, metadata, params, pool=pool, retry_on=retry_on)
    facts = MappingProxyType(dict(metadata or {}))
    policy: Any = defaults.retry if retry is None else retry
    instance("retry", policy, RetryPolicy, hint=_RETRY_HINT)
    if pool is not None and pool.config is not None and not pool.config.retry_on_error:
        policy = dataclasses.replace(policy, max_attempts=1)
    spec = ProviderSpec(inference_fn) if isinstance(inference_fn, str) else None
    spec = inference_fn if isinstance(inference_fn, ProviderSpec) else spec
    for option, value in (("transport", transport), ("connections", connections)):
        if value is not None:
            spec = _with_option(spec, option, value)
    if spec is not None:
        inference_fn = spec.make()
    identity = inference_fn if spec is None else spec.identity
    fingerprint = callable_fingerprint(identity, facts, params or {})
    provider = facts.get("provider") or getattr(inference_fn, "provider", None) or "custom"
    window = facts.get("context_window")
    as_endpoint = functools.partial(
        endpoint_of,
        name=name,
        provider=str(provider),
        fingerprint=fingerprint or f"registration:{next(_registrations)}",
        durable=fingerprint is not None,
        metadata=facts,
        prices=prices,
        with_text=with_text,
    )
    endpoint = as_endpoint(inference_fn)
    limiter, clients = _pool(
        name,
        max_concurrency=max_concurrency,
        limits=limits,
        pool=pool,
        defaults=defaults,
        takes_keys=spec is not None or hasattr(inference_fn, "with_key"),
        make=keyed(spec, inference_fn),
        as_endpoint=as_endpoint,
        usual=endpoint,
    )
    target = Target(
        name=name,
        provider=str(provider),
        endpoint=endpoint,
        metadata=facts,
        retry=policy,
        breaker=_breaker(f"{provider}/{name}", breaker, defaults.breaker, clock, changed),
        pool=limiter,
        budget=None if policy.budget is None else RetryBudget(policy.budget),
        timeout=optional_number("timeout", timeout, above=True),
        first_token_timeout=optional_number("first_token_timeout", first_token_timeout, above=True),
        retry_on=retry_on,
        context_window=None if window is None else whole_number("context_window", window),
        params=MappingProxyType(dict(params or {})),
        clients=clients,
        owned=spec is not None,
    )
    if target.breaker is not breaker:  # not one of the user's, which several models may have
        fleet.share_circuit(target, inference_fn)
    fleet.share_limits(target, inference_fn)
    return target


def _check_registration(name: Any, metadata: Any, params: Any, *, pool: Any, retry_on: Any) -> None:
    """Check the types of arguments that are not checked where they are used."""
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"a model needs a name, got {name!r}", hint="pass a string")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ConfigurationError(
            f"metadata must be a mapping, got {type(metadata).__name__}",
            hint='pass a dict of facts, such as {"context_window": 128_000}',
        )
    if params is not None and not isinstance(params, Mapping):
        raise ConfigurationError(
            f"params must be a mapping, got {type(params).__name__}",
            hint='pass a dict of parameters, such as {"temperature": 0}',
        )
    if pool is not None and not isinstance(pool, ConnectionPool):
        raise ConfigurationError(  # only the type: it may be a list of keys
            f"pool must be a ConnectionPool, got {type(pool).__name__}",
            hint="pass ConnectionPool(api_keys)",
        )
    if retry_on is not None and not (callable(retry_on) or isinstance(retry_on, tuple)):
        raise ConfigurationError(
            f"retry_on must be exception types or a function, got {retry_on!r}",
            hint="pass a tuple of types, or f(exc) that returns True, False or None",
        )


def close_target(target: Target) -> None:
    """Close the connections that the manager made for `target`."""
    for endpoint in _endpoints_of(target.endpoint if target.owned else None, target.clients):
        if endpoint.close is not None:
            endpoint.close()


def close_with_last_call(target: Target) -> None:
    """Close these connections once nothing refers to `target` any more: with its last call."""
    own = target.endpoint if target.owned else None
    if own is not None or target.clients:
        weakref.finalize(target, _close_quietly, own, target.clients).atexit = False


def _close_quietly(own: Endpoint | None, clients: Mapping[Member, EndpointSource]) -> None:
    for endpoint in _endpoints_of(own, clients):
        if endpoint.close is not None:
            try:
                endpoint.close()
            except Exception as error:  # noqa: BLE001 - no caller is there to catch it
                log.debug("%s while closing a client", type(error).__name__)


async def aclose_target(target: Target) -> None:
    """Like `close_target`, for the connections of the running event loop."""
    for endpoint in _endpoints_of(target.endpoint if target.owned else None, target.clients):
        if endpoint.aclose is not None:
            await endpoint.aclose()


def _endpoints_of(own: Endpoint | None, clients: Mapping[Member, EndpointSource]) -> list[Endpoint]:
    made = [client.endpoint for client in clients.values()]
    return [endpoint for endpoint in (own, *made) if endpoint is not None]


def _with_option(spec: ProviderSpec | None, name: str, value: Any) -> ProviderSpec:
    if spec is None:
        raise ConfigurationError(
            f"{name}= is for a model that is registered by a string",
            hint="give it to provider_for, which makes the object",
        )
    return dataclasses.replace(spec, settings={**spec.settings, name: value})


def keyed(spec: ProviderSpec | None, provider: Any) -> Make:
    """A function that creates the provider object for another key, or for another model."""

    def make(key: str, model: str | None) -> Any:
        if spec is not None:
            return spec.make(key, model)
        if model is not None:
            raise ConfigurationError(
                f"{type(provider).__name__} cannot be used with another model",
                hint="register it as a string, such as 'openai:<model>'",
            )
        return provider.with_key(key)

    return make


def _pool(
    name: str,
    *,
    max_concurrency: int | None,
    limits: RateLimits | None,
    pool: ConnectionPool | None,
    defaults: Defaults,
    takes_keys: bool,
    make: Make,
    as_endpoint: Callable[[Any], Endpoint],
    usual: Endpoint,
) -> tuple[Pool | None, Mapping[Member, EndpointSource]]:
    if limits is not None:
        instance("limits", limits, RateLimits, hint="pass RateLimits(requests_per_minute=...)")
    if pool is not None:
        if not takes_keys:
            raise ConfigurationError(
                f"model {name!r} has a pool of keys but its provider does not accept a key",
                hint="register a string such as 'openai:<model>', or a provider with with_key(key)",
            )
        if limits is not None or max_concurrency is not None:
            raise ConfigurationError(
                f"model {name!r} has a pool and limits of its own",
                hint="pass the limits to the ConnectionPool: they apply to each key",
            )
        return pool.build(
            name,
            make,
            as_endpoint,
            usual,
            limits=defaults.limits,
            acquire_timeout=defaults.acquire_timeout,
        )
    limits = defaults.limits if limits is None else limits
    if max_concurrency is None and limits is None:
        return None, {}
    member = Member(max_concurrency=max_concurrency, limits=limits)
    return Pool([member], name=name, acquire_timeout=defaults.acquire_timeout), {}


def _breaker(
    name: str,
    own: BreakerPolicy | CircuitBreaker | bool | None,
    default: BreakerPolicy | bool | None,
    clock: Now,
    changed: Callable[[str, str, str], None],
) -> CircuitBreaker | None:
    if isinstance(own, CircuitBreaker):
        own.add_weak_listener(changed)  # a shared breaker may outlive this manager
        return own
    chosen = default if own is None else own
    if chosen is False:
        return None
    policy = BreakerPolicy() if chosen is None or chosen is True else chosen
    if not isinstance(policy, BreakerPolicy):
        raise ConfigurationError(
            f"breaker must be a BreakerPolicy, a CircuitBreaker or False, got {policy!r}",
            hint="pass BreakerPolicy(failure_threshold=...)",
        )
    return CircuitBreaker(name=name, policy=policy, clock=clock, on_change=changed)


def build_cache(
    cache: Store | str | None,
    *,
    directory: str | None,
    ttl: float,
    namespace: str,
    clock: Now | None,
) -> tuple[ResponseCache | None, Callable[[Request, Target], str | None]]:
    """The response cache, and the function that computes the key of a request."""

    def key(request: Request, target: Target) -> str | None:
        return request_key(
            request,
            model=target.name,
            fingerprint=target.endpoint.fingerprint,
            namespace=namespace,
        )

    responses = build_response_cache(
        cache, directory=directory, ttl=ttl, namespace=namespace, clock=clock
    )
    return responses, key
