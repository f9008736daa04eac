"""A server that sends the very bytes it is given, for answers that no provider should send."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class RawServer:
    """Answers every request with the same pieces of bytes, each in a packet of its own."""

    def __init__(self, content_type: str, pieces: Iterable[bytes]) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n"
        self._pieces = (head.encode(), *pieces)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as reader:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    self._answer(connection, reader)
                except OSError:
                    continue  # the client left early, as it may

    def _answer(self, connection: socket.socket, reader: Any) -> None:
        length = 0
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        reader.read(length)
        for piece in self._pieces:
            connection.sendall(piece)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextmanager
def serving(content_type: str, *pieces: bytes) -> Iterator[RawServer]:
    server = RawServer(content_type, pieces)
    try:
        yield server
    finally:
        server.close()


def dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
