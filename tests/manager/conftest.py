"""What tests of fleets and of batches share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.manager.batches import folder, log, source
from tests.state.servers import Server, any_server, quick_heartbeat

__all__ = ["folder", "log", "quick_heartbeat", "server", "source"]


@pytest.fixture
def server() -> Iterator[Server]:
    with any_server() as running:
        yield running
