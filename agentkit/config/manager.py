"""`get_llm_manager`: the manager that a file or the environment describes, one per event loop."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from agentkit.config.load import load_settings
from agentkit.config.schema import ProviderSettings, Settings
from agentkit.manager.keys import ConnectionPool, PoolConfig
from agentkit.manager.manager import LLMManager
from agentkit.manager.targets import ProviderSpec


@dataclass(slots=True)
class _Configured:
    """A manager and the settings that it has now."""

    manager: LLMManager
    settings: Settings


_MANAGERS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Configured]] = (
    WeakKeyDictionary()
)
"""The managers of each event loop, by the source of their configuration."""


async def get_llm_manager(config: str | os.PathLike[str] | Settings | None = None) -> LLMManager:
    """The manager of this event loop, created from the configuration on the first call.

    The configuration is `config` (a path or `Settings`), the file named by ``AGENTKIT_CONFIG``,
    ``config/llm.yaml``, or the API keys in the environment. Each call reads it again and replaces
    what changed in the same manager; calls in progress finish with the configuration they started
    with. After the manager was closed, the next call creates a new one.

    Raises:
        ConfigurationError: nothing is configured, or a value is wrong; never shows a key.
    """
    settings = config if isinstance(config, Settings) else load_settings(config)
    managers = _MANAGERS.setdefault(asyncio.get_running_loop(), {})
    configured = managers.get(settings.source)
    if configured is None or configured.manager.closed:
        configured = _Configured(manager_for(settings), settings)
        managers[settings.source] = configured
    elif configured.settings != settings:
        reconfigure(configured.manager, configured.settings, settings)
        configured.settings = settings
    return configured.manager


def manager_for(settings: Settings, **options: Any) -> LLMManager:
    """A new manager with one model for each provider of `settings`.

    `options` are arguments of `LLMManager` and take precedence over `settings`.
    """
    defaults = {
        "max_retries": settings.max_retries,
        "deadline": settings.deadline,
        "cache": settings.response_cache,
    }
    manager = LLMManager(**{**defaults, **options})
    for provider in settings.providers.values():
        _register(manager, provider)
    _set_route(manager, settings)
    return manager


def reconfigure(manager: LLMManager, old: Settings, new: Settings) -> None:
    """Replace the providers and the route that changed; the other providers keep their state."""
    for name, provider in new.providers.items():
        if old.providers.get(name) != provider:
            _register(manager, provider)
    _set_route(manager, new)
    for name in old.providers:
        if name not in new.providers:
            manager.unregister_model(name)


def _set_route(manager: LLMManager, settings: Settings) -> None:
    manager.set_active_model(settings.default_provider)
    manager.set_fallback_chain([settings.default_provider, *settings.fallback])


def _register(manager: LLMManager, provider: ProviderSettings) -> None:
    first = provider.keys[0]
    given = {"base_url": provider.base_url, "max_tokens": provider.max_tokens}
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
        replace=True,
        **limited,
    )


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
