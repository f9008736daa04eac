"""A chat completions server that sends prebuilt bytes, so that the clients are the limit.

The name of the model says what comes: ``s61`` is a stream of 61 chunks, ``open`` a stream that does
not end, anything else a complete answer of 1,024 characters. With the file of a certificate and its
key as the argument, it speaks TLS.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import time
from typing import Any

PACED_CHUNKS, PACE = 200, 0.02
"""How many stamped chunks a paced stream has, and the seconds between them."""
_HEADERS = b"".join(b"x-header-%d: value-%d\r\n" % (i, i) for i in range(15))
"""As many as the actual service sends."""


def _answer() -> bytes:
    details = {"cached_tokens": 0, "audio_tokens": 0}
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "x" * 1024, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 200,
                "total_tokens": 210,
                "prompt_tokens_details": details,
                "completion_tokens_details": {**details, "reasoning_tokens": 0},
            },
            "system_fingerprint": "fp_0123456789",
        }
    ).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + _HEADERS
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def _chunk(delta: dict[str, Any], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    data = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "service_tier": "default",
            "system_fingerprint": "fp_0123456789",
            "choices": [choice],
            "usage": None,
        }
    ).encode()
    return _framed(b"data: " + data + b"\n\n")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_OPEN = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    + _HEADERS
    + b"transfer-encoding: chunked\r\n\r\n"
    + _chunk({"role": "assistant", "content": "first"}, None)
)


_CLOSE = _chunk({}, "stop") + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _stream(chunks: int) -> bytes:
    middle = _chunk({"content": " token"}, None) * (chunks - 2)
    return _OPEN + middle + _CLOSE


_PLACE = b"0" * 20
_STAMPED = _chunk({"content": " " + _PLACE.decode()}, None)
_RESPONSES = {b"s61": _stream(61), b"s400": _stream(400), b"open": _OPEN}
_COMPLETE = _answer()


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            if len(self.received) < end + 4 + length:
                return
            body = self.received[end + 4 : end + 4 + length]
            self.received = self.received[end + 4 + length :]
            model = body.partition(b'"model":')[2].lstrip().split(b'"', 2)[1]
            if model == b"paced":
                self.transport.write(_OPEN)
                self.continue_stream(PACED_CHUNKS, asyncio.get_running_loop().time())
            else:
                self.transport.write(_RESPONSES.get(model, _COMPLETE))

    def continue_stream(self, left: int, due: float) -> None:
        """Send the next chunk of a paced stream, whose text is the clock at its departure."""
        if not left:
            self.transport.write(_CLOSE)
            return
        now = b"%020.6f" % time.monotonic()
        self.transport.write(_STAMPED.replace(_PLACE, now, 1))
        loop = asyncio.get_running_loop()
        loop.call_at(due + PACE, self.continue_stream, left - 1, due + PACE)


async def _serve(certificate: str | None) -> None:
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, ssl=context, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    sys.stdin.close()
    await server.serve_forever()


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asyncio.run(_serve(sys.argv[1] if sys.argv[1:] else None))
