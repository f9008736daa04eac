"""What survives every kill: the providers, and the process that counts effects and answers.

``python -m benchmarks.durability.world`` prints the URL of the providers and the port of the
counter, and serves until its standard input ends. A request whose history a provider would refuse
(a tool call without its result, a result without its call) is answered with status 400.
"""

from __future__ import annotations

import json
import re
import socketserver
import sys
import threading
from collections import Counter
from typing import Any

from agentkit import Response, ToolCall, Usage
from agentkit.testing import WireServer, faults
from benchmarks.durability.plan import tools_of

_LOCK = threading.Lock()
_EFFECTS: Counter[str] = Counter()
_ASKED: Counter[str] = Counter()
_LAST: dict[str, int] = {}
_REFUSED: Counter[str] = Counter()


def reply(body: dict[str, Any]) -> Any:
    """The next answer of the run in `body`; each has its own number."""
    try:
        run, answers = history(body)
    except ValueError as error:
        with _LOCK:
            _REFUSED[str(error)] += 1
        return faults.status(400)
    step = answers + 1
    with _LOCK:
        _ASKED[f"{run} {step}"] += 1
        number = _ASKED.total()
        _LAST[f"{run} {step}"] = number
    calls = tuple(
        ToolCall(f"call-{number}-{position}", name, {"run": run, "step": step})
        for position, name in enumerate(tools_of(step))
    )
    text = f"{'answer' if calls else 'done'} {number}"
    return Response(text, Usage(100, 10), tool_calls=calls)


def history(body: dict[str, Any]) -> tuple[str, int]:
    """The run that a request belongs to, and how many answers it has; ValueError if malformed."""
    turns = list(_turns(body))
    if not turns or not isinstance(turns[0], str):
        raise ValueError("the conversation does not start with a user")
    run = re.search(r"Run (\S+)\.", turns[0])
    if run is None:
        raise ValueError("the task is missing")
    answers = 0
    open_calls: list[str] = []
    for turn in turns[1:]:
        if isinstance(turn, str):
            raise ValueError("another user message")  # noqa: TRY004 - the value is malformed
        kind, ids = turn
        if kind == "calls":
            if open_calls:
                raise ValueError("calls without results")
            answers, open_calls = answers + 1, ids
        else:
            for each in ids:
                if each not in open_calls:
                    raise ValueError("a result without its call")
                open_calls.remove(each)
    if open_calls:
        raise ValueError("calls without results")
    return run[1], answers


def _turns(body: dict[str, Any]) -> Any:
    if "contents" in body:
        for content in body["contents"]:
            parts = content["parts"]
            calls = [part["functionCall"]["name"] for part in parts if "functionCall" in part]
            results = [p["functionResponse"]["name"] for p in parts if "functionResponse" in p]
            yield (
                ("calls", calls) if calls else ("results", results) if results else parts[0]["text"]
            )
        return
    for message in body["messages"]:
        content = message["content"]
        if message["role"] == "system":
            continue
        if message["role"] == "tool":
            yield "results", [message["tool_call_id"]]
        elif message.get("tool_calls"):
            yield "calls", [call["id"] for call in message["tool_calls"]]
        elif isinstance(content, list):
            calls = [part["id"] for part in content if part["type"] == "tool_use"]
            results = [part["tool_use_id"] for part in content if part["type"] == "tool_result"]
            texts = [part["text"] for part in content if part["type"] == "text"]
            yield ("calls", calls) if calls else ("results", results) if results else texts[0]
        else:
            yield content


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        verb, _, key = self.rfile.readline().decode().strip().partition(" ")
        with _LOCK:
            if verb == "did":
                _EFFECTS[key] += 1
                answer = "ok"
            elif verb == "has":
                answer = "1" if key in _EFFECTS else "0"
            else:
                answer = json.dumps(
                    {"effects": _EFFECTS, "asked": _ASKED, "last": _LAST, "refused": _REFUSED}
                )
        self.wfile.write(f"{answer}\n".encode())


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256


def main() -> None:
    with WireServer(reply) as providers, _Server(("127.0.0.1", 0), _Handler) as counter:
        threading.Thread(target=counter.serve_forever, daemon=True).start()
        print(providers.url, counter.server_address[1], flush=True)
        sys.stdin.read()
        counter.shutdown()


if __name__ == "__main__":
    main()
