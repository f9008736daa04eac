"""The pytest plugin: in a test run, response caches stay in memory, and there is no fleet.

Installing agentkit registers it. It sets ``AGENTKIT_CACHE=memory`` for the run unless the variable
is already set; a test of the disk cache removes it (``monkeypatch.delenv("AGENTKIT_CACHE")``). It
removes ``AGENTKIT_FLEET``, so that no test shares responses with the processes of a deployment; a
test of a fleet passes ``fleet=``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_CACHE = "AGENTKIT_CACHE"
_FLEET = "AGENTKIT_FLEET"


def pytest_configure(config: pytest.Config) -> None:
    """Keep response caches in memory, and managers alone, until the run is over."""
    if _CACHE not in os.environ:
        os.environ[_CACHE] = "memory"
        config.add_cleanup(_restore)
    fleet = os.environ.pop(_FLEET, None)
    if fleet is not None:
        config.add_cleanup(lambda: os.environ.__setitem__(_FLEET, fleet))


def _restore() -> None:
    os.environ.pop(_CACHE, None)
