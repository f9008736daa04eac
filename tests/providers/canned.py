"""A server that answers with given bytes, for answers that no honest provider would send."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Canned:
    """What is answered to every request, whatever its path."""

    url: str = ""
    body: bytes = b"{}"
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def json(self, answer: Any) -> None:
        """Answer with JSON."""
        self.body, self.content_type = json.dumps(answer).encode(), "application/json"

    def events(self, *events: Any, raw: bytes | None = None) -> None:
        """Answer with server-sent events, named by their ``type`` where they have one."""
        lines = [
            (f"event: {each['type']}\n" if "type" in each else "") + f"data: {json.dumps(each)}\n\n"
            for each in events
        ]
        self.body = "".join(lines).encode() if raw is None else raw
        self.content_type = "text/event-stream"


@contextmanager
def canned() -> Iterator[Canned]:
    """A running server; its thread ends with the block."""
    answer = Canned()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            answer.requests.append(json.loads(self.rfile.read(length)))
            self.send_response(200)
            for name, value in {"content-type": answer.content_type, **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        answer.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield answer
        finally:
            server.shutdown()
            thread.join()
