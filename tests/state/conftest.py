"""A running server, and a fleet that uses it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from agentkit.state.valkey import ValkeyFleet
from tests.helpers import until
from tests.state.both import Both
from tests.state.servers import Server, each_server, quick_heartbeat, server_of

__all__ = ["both", "client", "fleet", "quick_heartbeat", "server"]


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with server_of(each_server(request)) as running:
        yield running


@pytest.fixture
def fleet(server: Server) -> Iterator[ValkeyFleet]:
    member = ValkeyFleet(server.url, name="test")
    until(lambda: member.state == "up")
    yield member
    member.close()


@pytest.fixture(scope="module", params=["valkey", "redis"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with server_of(each_server(request)) as server, server.client() as connected:
        yield connected


@pytest.fixture
def both(client: redis.Redis) -> Iterator[Both]:
    pair = Both(client)
    yield pair
    pair.close()
