"""The pytest plugin: in a test run, no response cache writes to the disk.

Installing agentkit registers it. It sets ``AGENTKIT_CACHE=memory`` for the run unless the variable
is set already; a test of the disk tier removes it (``monkeypatch.delenv("AGENTKIT_CACHE")``).
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
        config.add_cleanup(_forget)


def _forget() -> None:
    os.environ.pop(_VARIABLE, None)
