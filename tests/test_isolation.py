"""The fixtures in `conftest.py` keep what they promise."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.testing import NetworkForbiddenError


@pytest.mark.parametrize("test", ["one", "another"])
def test_the_response_cache_lives_in_a_directory_that_no_other_test_uses(
    test: str, tmp_path: Path
) -> None:
    place = Path(os.environ["AGENTKIT_CACHE_DIR"])
    assert place.is_relative_to(tmp_path.parent)
    place.mkdir()  # which fails if the other one has it


@pytest.fixture(autouse=True, scope="module")
def _a_developers_shell() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as shell:
        for name in ("OPENAI_API_KEY", "AGENTKIT_CONFIG", "OTEL_SERVICE_NAME", "https_proxy"):
            shell.setenv(name, "http://mine.invalid")
        yield


def test_nothing_of_the_developers_shell_is_visible() -> None:
    assert "http://mine.invalid" not in os.environ.values()


@pytest.mark.parametrize("address", [("192.0.2.1", 443), ("2001:db8::1", 443)])
def test_a_connection_to_another_machine_is_refused(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with (
        socket.socket(family) as sock,
        pytest.raises(NetworkForbiddenError),
    ):
        sock.connect(address)


def test_no_foreign_name_is_looked_up() -> None:
    with pytest.raises(NetworkForbiddenError):
        socket.getaddrinfo("example.com", 443)


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


@given(st.integers())
def test_properties_may_use_the_isolation_too(number: int) -> None:
    assert isinstance(number, int)
    assert "AGENTKIT_CACHE_DIR" in os.environ
