"""A network between a fleet and its server that a test can stop, cut and repair."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.state.servers import Server


class Proxy:
    """Forwards bytes between a Unix socket of its own and that of a server."""

    def __init__(self, server: Server, path: str) -> None:
        self.url = f"unix://{path}"
        self.requests: list[bytes] = []
        """What it has passed on to the server, as it came."""
        self._server = server
        self._flowing = threading.Event()
        self._flowing.set()
        self._messages = threading.Event()
        self._messages.set()
        self._subscribed: set[socket.socket] = set()
        """The connections to the server that have asked for messages."""
        self._cut = False
        self._error: bytes | None = None
        self._open: list[socket.socket] = []
        self._opening = threading.Lock()
        """Held while a connection is made: one that is made during a cut must not outlive it."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self) -> int:
        """How many were opened since the last cut."""
        return len(self._open) // 2

    def hold(self) -> None:
        """Keep the replies of the server."""
        self._flowing.clear()

    def release(self) -> None:
        """Send the replies that were kept, and those that come."""
        self._flowing.set()

    def hold_messages(self) -> None:
        """Keep what the server sends to those that subscribe."""
        self._messages.clear()

    def release_messages(self) -> None:
        """Send the messages that were kept, and those that come."""
        self._messages.set()

    def answer(self, error: bytes | None) -> None:
        """Answer each command with `error` instead of the server's reply."""
        self._error = error

    def cut(self, *, repaired: bool = False) -> None:
        """End every connection; unless `repaired`, also new ones until `repair`."""
        with self._opening:
            self._cut = not repaired
            while self._open:
                with suppress(OSError):
                    self._open.pop().shutdown(socket.SHUT_RDWR)
        self._flowing.set()
        self._messages.set()

    def repair(self) -> None:
        """Let new connections through."""
        self._cut = False

    def move_to(self, server: Server) -> None:
        """Let new connections through to another server."""
        self._server = server

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                try:
                    with self._opening:
                        if self._cut:
                            raise ConnectionRefusedError
                        far.connect(self._server.socket)
                        self._open += [near, far]
                except OSError:
                    near.close()
                    far.close()
                    continue
                for source, sink, replies in ((near, far, False), (far, near, True)):
                    threading.Thread(
                        target=self._pump, args=(source, sink, replies), daemon=True
                    ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if replies:
                    self._flowing.wait()
                    if source in self._subscribed:
                        self._messages.wait()
                    if self._error is not None:
                        data = self._error * max(1, self.requests[-1].count(b"EVALSHA"))
                elif b"SUBSCRIBE" in data:
                    self._subscribed.add(sink)
                sink.sendall(data)
                if not replies:
                    self.requests.append(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        source.close()


@contextmanager
def proxy_of(server: Server) -> Iterator[Proxy]:
    with tempfile.TemporaryDirectory(prefix="ak", dir=os.environ.get("XDG_RUNTIME_DIR")) as folder:
        proxy = Proxy(server, f"{folder}/p")
        try:
            yield proxy
        finally:
            proxy.close()
