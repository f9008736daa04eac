"""What tests of fleets and of batches share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.manager.batches import folder, log, source
from tests.state.servers import Server, any_server

__all__ = ["folder", "log", "quick_heartbeat", "server", "source"]


@pytest.fixture
def server() -> Iterator[Server]:
    with any_server() as running:
        yield running


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for news, and for a store that was lost, ten times a second instead of once."""
    monkeypatch.setattr("agentkit.state.valkey.HEARTBEAT", 0.1)
