"""A Converse server that sends prebuilt bytes, so that the clients are the limit.

``converse`` answers with 1,024 characters, ``converse-stream`` with `EVENTS` frames that come
`SECONDS` apart.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from agentkit.testing.wire.bedrock import event

EVENTS = 43
SECONDS = 0.05

_HEAD = b"HTTP/1.1 200 OK\r\nx-amzn-requestid: 1b5f0b16-3f1c-4c1e-9d0e-0123456789ab\r\n"
_USAGE = {"inputTokens": 10, "outputTokens": 200, "totalTokens": 210}


def _answer() -> bytes:
    message = {"role": "assistant", "content": [{"text": "x" * 1024}]}
    body = json.dumps(
        {
            "output": {"message": message},
            "stopReason": "end_turn",
            "usage": _USAGE,
            "metrics": {"latencyMs": 1},
        }
    ).encode()
    length = b"content-length: %d\r\n\r\n" % len(body)
    return _HEAD + b"content-type: application/json\r\n" + length + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_COMPLETE = _answer()
_OPEN = (
    _HEAD
    + b"content-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n"
    + _chunk(event("messageStart", role="assistant"))
)
_DELTA = _chunk(event("contentBlockDelta", contentBlockIndex=0, delta={"text": " token"}))
_CLOSE = (
    _chunk(event("messageStop", stopReason="end_turn"))
    + _chunk(event("metadata", usage=_USAGE, metrics={"latencyMs": 1}))
    + b"0\r\n\r\n"
)


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
            self.received = self.received[end + 4 + length :]
            if b"/converse-stream " in head:
                self.transport.write(_OPEN)
                self.continue_stream(EVENTS - 3)
            else:
                self.transport.write(_COMPLETE)

    def continue_stream(self, left: int) -> None:
        loop = asyncio.get_running_loop()
        if left:
            loop.call_later(SECONDS, self.send_delta, left)
        else:
            self.transport.write(_CLOSE)

    def send_delta(self, left: int) -> None:
        self.transport.write(_DELTA)
        self.continue_stream(left - 1)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(
        _Connection, "127.0.0.1", 0, backlog=512
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    sys.stdin.close()
    await server.serve_forever()


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):  # the client has the last processor
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asyncio.run(_serve())
