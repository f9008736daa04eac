"""Registers the providers of a configuration with a manager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from agentkit.manager.keys import ConnectionPool
from agentkit.manager.targets import ProviderSpec
from agentkit.policy.budget import Budget
from agentkit.policy.limits import PoolConfig
from agentkit.providers.transport.options import ConnectionOptions

if TYPE_CHECKING:
    from agentkit.config.schema import ProviderSettings, Settings


class Registering(Protocol):
    """The part of a manager that a configuration sets."""

    def register_model(self, name: str, inference_fn: Any, *args: Any, **options: Any) -> None:
        """See `LLMManager.register_model`."""
        ...

    def unregister_model(self, name: str) -> None:
        """See `LLMManager.unregister_model`."""
        ...

    def set_prices(self, prices: Mapping[str, Any]) -> None:
        """See `LLMManager.set_prices`."""
        ...

    def set_active_model(self, name: str) -> None:
        """See `LLMManager.set_active_model`."""
        ...

    def set_fallback_chain(self, names: Sequence[str]) -> None:
        """See `LLMManager.set_fallback_chain`."""
        ...


def options_of(settings: Settings) -> dict[str, Any]:
    """The arguments of `LLMManager` that `settings` contains."""
    return {
        "max_retries": settings.max_retries,
        "deadline": settings.deadline,
        "cache": settings.response_cache,
        "prices": settings.prices,
        "fleet": settings.fleet,
        "budget": None if settings.budget is None else Budget(**settings.budget.model_dump()),
        "on_fleet_loss": settings.on_fleet_loss,
    }


def register_providers(manager: Registering, settings: Settings) -> None:
    """Register one model for each provider of `settings`, and set the route."""
    for provider in settings.providers.values():
        _register(manager, provider)
    _set_route(manager, settings)


def reconfigure(manager: Registering, old: Settings, new: Settings) -> None:
    """Replace the providers and the route that changed; the other providers keep their state."""
    manager.set_prices(new.prices)
    for name, provider in new.providers.items():
        models = {key.model for key in provider.keys}
        repriced = any(old.prices.get(each) != new.prices.get(each) for each in models)
        if repriced or old.providers.get(name) != provider:
            _register(manager, provider)
    _set_route(manager, new)
    for name in old.providers:
        if name not in new.providers:
            manager.unregister_model(name)


def _set_route(manager: Registering, settings: Settings) -> None:
    manager.set_active_model(settings.default_provider)
    manager.set_fallback_chain([settings.default_provider, *settings.fallback])


def _register(manager: Registering, provider: ProviderSettings) -> None:
    first = provider.keys[0]
    given = {
        "base_url": provider.base_url,
        "max_tokens": provider.max_tokens,
        "transport": provider.transport,
        "connections": _connections(provider),
    }
    spec = ProviderSpec(
        f"{provider.kind}:{first.model}",
        {name: value for name, value in given.items() if value is not None},
    )
    limited: dict[str, Any] = {"limits": first.limits, "max_concurrency": first.max_concurrency}
    if first.secret is not None:
        limited = {"pool": _pool(provider)}
    manager.register_model(
        provider.name,
        spec,
        {"provider": provider.kind, "context_window": provider.context_window},
        timeout=provider.timeout,
        first_token_timeout=provider.first_token_timeout,
        params=provider.params,
        replace=True,
        **limited,
    )


def _connections(provider: ProviderSettings) -> ConnectionOptions | None:
    given = provider.connections
    return None if given is None else ConnectionOptions(**given.model_dump())


def _pool(provider: ProviderSettings) -> ConnectionPool:
    keys = provider.keys
    return ConnectionPool(
        [key.secret or "" for key in keys],
        [key.max_concurrency for key in keys],
        models=[key.model for key in keys],
        limits=[key.limits for key in keys],
        strategy=provider.strategy,
        config=PoolConfig(
            min_size=0,
            max_size=sum(key.max_concurrency for key in keys),
            acquire_timeout=provider.acquire_timeout,
            idle_timeout=provider.idle_timeout,
            max_lifetime=provider.max_lifetime,
        ),
    )
