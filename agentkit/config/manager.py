"""The configured door: the manager that a file or the environment describes."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from agentkit.config import ProviderSettings, Settings, load_settings
from agentkit.manager.keys import ConnectionPool, PoolConfig
from agentkit.manager.manager import LLMManager
from agentkit.manager.targets import ProviderSpec


@dataclass(slots=True)
class _Held:
    manager: LLMManager
    settings: Settings


_HELD: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Held]] = WeakKeyDictionary()


async def get_llm_manager(config: str | os.PathLike[str] | Settings | None = None) -> LLMManager:
    """The manager of this event loop, made from the configuration when it is first asked for.

    The configuration is `config` (a path or `Settings`), the file named by ``AGENTKIT_CONFIG``,
    ``config/llm.yaml``, or the key variables of the environment. It is read again at each call:
    what changed is replaced in the same manager, and calls in flight end with what they began
    with. After `close` a new manager is made.

    Raises:
        ConfigurationError: nothing is configured, or something is wrong; never holds a key.
    """
    settings = config if isinstance(config, Settings) else load_settings(config)
    mine = _HELD.setdefault(asyncio.get_running_loop(), {})
    held = mine.get(settings.source)
    if held is None or held.manager.closed:
        held = mine[settings.source] = _Held(manager_for(settings), settings)
    elif held.settings != settings:
        reconfigure(held.manager, held.settings, settings)
        held.settings = settings
    return held.manager


def manager_for(settings: Settings, **options: Any) -> LLMManager:
    """A manager with one model a provider of `settings`; `options` are `LLMManager`'s own."""
    options = {
        "max_retries": settings.max_retries,
        "deadline": settings.deadline,
        "cache": settings.response_cache,
        **options,
    }
    manager = LLMManager(**options)
    for provider in settings.providers.values():
        _register(manager, provider)
    _route(manager, settings)
    return manager


def reconfigure(manager: LLMManager, old: Settings, new: Settings) -> None:
    """Replace what changed between two configurations; the rest keeps its state."""
    for name, provider in new.providers.items():
        if old.providers.get(name) != provider:
            _register(manager, provider)
    _route(manager, new)
    for name in old.providers:
        if name not in new.providers:
            manager.unregister_model(name)


def _route(manager: LLMManager, settings: Settings) -> None:
    manager.set_active_model(settings.default_provider)
    manager.set_fallback_chain([settings.default_provider, *settings.fallback])


def _register(manager: LLMManager, provider: ProviderSettings) -> None:
    first = provider.keys[0]
    settings = {"base_url": provider.base_url, "max_tokens": provider.max_tokens}
    spec = ProviderSpec(
        f"{provider.kind}:{first.model}",
        {name: value for name, value in settings.items() if value is not None},
    )
    keyed: dict[str, Any] = {"limits": first.limits, "max_concurrency": first.max_concurrency}
    if first.secret is not None:
        keyed = {"pool": _pool(provider)}
    manager.register_model(
        provider.name,
        spec,
        {"provider": provider.kind, "context_window": provider.context_window},
        timeout=provider.timeout,
        first_token_timeout=provider.first_token_timeout,
        replace=True,
        **keyed,
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
