"""The configuration: a file, the environment, or both, as checked values.

`load_settings` reads it; `Settings` is what comes out. Nothing here talks to a provider, and
nothing writes to the environment.
"""

from agentkit.config.load import load_settings
from agentkit.config.settings import KeySettings, ProviderSettings, Settings

__all__ = ["KeySettings", "ProviderSettings", "Settings", "load_settings"]
