"""How much the server of these benchmarks can send, so that it is not what is measured.

One connection sends its requests in batches and only counts what comes back.
"""

from __future__ import annotations

import json
import socket
import time
from urllib.parse import urlsplit

BATCH, BATCHES = 100, 30


def rates(url: str) -> dict[str, float]:
    """Complete answers, and chunks of streams of 400, that the server sends in a second."""
    answers = _rate(url, "m", BATCH, b"HTTP/1.1 200")
    chunks = _rate(url, "s400", 4, b"data: {")
    return {"answers": answers, "chunks": chunks}


def _rate(url: str, model: str, batch: int, mark: bytes) -> float:
    """How often `mark` comes in a second."""
    place = urlsplit(url)
    body = json.dumps({"model": model}).encode()
    request = b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        connection.settimeout(10)
        size, count = _one(connection, request, mark)
        began = time.perf_counter()
        for _ in range(BATCHES):
            connection.sendall(request * batch)
            left = size * batch
            while left:
                left -= len(connection.recv(1 << 20))
        return count * batch * BATCHES / (time.perf_counter() - began)


def _one(connection: socket.socket, request: bytes, mark: bytes) -> tuple[int, int]:
    """The bytes of one response, and how often it has `mark`."""
    connection.sendall(request)
    data = b""
    connection.settimeout(0.3)
    try:
        while more := connection.recv(1 << 20):
            data += more
    except TimeoutError:
        connection.settimeout(10)
    return len(data), data.count(mark)
