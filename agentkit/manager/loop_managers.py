"""`get_llm_manager`: the manager that a file or the environment describes, one per event loop."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from agentkit.config.load import load_settings
from agentkit.config.schema import Settings
from agentkit.manager.configured import reconfigure
from agentkit.manager.manager import LLMManager


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
    with. After the manager was closed, the next call creates a new one. In sync code, use
    `LLMManager.from_config`.

    The response cache is off unless the file sets ``response_cache``.

    Raises:
        ConfigurationError: nothing is configured, or a value is wrong; never shows a key.
    """
    settings = config if isinstance(config, Settings) else load_settings(config)
    managers = _MANAGERS.setdefault(asyncio.get_running_loop(), {})
    configured = managers.get(settings.source)
    if configured is None or configured.manager.closed:
        configured = _Configured(LLMManager.from_config(settings), settings)
        managers[settings.source] = configured
    elif configured.settings != settings:
        reconfigure(configured.manager, configured.settings, settings)
        configured.settings = settings
    return configured.manager
