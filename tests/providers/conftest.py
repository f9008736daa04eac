"""What every test of an adapter gets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_certificates(_isolated: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The servers here speak plain HTTP, and reading certificates is what makes a client slow."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address that neither accepts nor refuses: its queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = []
        for _ in range(4):
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(address)
            waiting.append(each)
        yield f"http://127.0.0.1:{address[1]}/v1"
        for each in waiting:
            each.close()
