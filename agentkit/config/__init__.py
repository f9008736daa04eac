"""The configuration: a file, the environment, or both, as validated values.

`load_settings` reads it and returns `Settings`. Nothing here sends a request, and nothing writes to
the environment.
"""

from agentkit.config.load import load_settings
from agentkit.config.schema import KeySettings, ProviderSettings, Settings

__all__ = ["KeySettings", "ProviderSettings", "Settings", "load_settings"]
