"""The pytest plugin: in a test run, response caches do not write to the disk.

Installing agentkit registers it. It sets ``AGENTKIT_CACHE=memory`` for the run unless the variable
is already set; a test of the disk cache removes it (``monkeypatch.delenv("AGENTKIT_CACHE")``).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_VARIABLE = "AGENTKIT_CACHE"


def pytest_configure(config: pytest.Config) -> None:
    """Keep response caches in memory until the run is over."""
    if _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = "memory"
        config.add_cleanup(_restore)


def _restore() -> None:
    os.environ.pop(_VARIABLE, None)
