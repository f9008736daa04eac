"""A small MCP server, to be started as ``python mcp_process.py``.

It speaks the protocol over stdin and stdout without an SDK, which takes a second to load: for the
tests that start processes, and end them. `mcp_server.py` is one of the SDK.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def add(a: int, b: int = 2) -> object:
    return a + b


def variable(name: str) -> object:
    return os.environ.get(name, "unset")


def die() -> object:
    os._exit(3)


def die_once(marker: str) -> object:
    """End this process in the middle of a call, the first time."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "alive"
    os._exit(3)


def hang() -> object:
    """No reply."""
    return None


TOOLS: dict[str, Callable[..., object]] = {
    "add": add,
    "die": die,
    "die_once": die_once,
    "hang": hang,
    "pid": os.getpid,
    "variable": variable,
}


def result_of(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a request; None: it never comes."""
    if method == "initialize":
        info = {"name": "numbers", "version": "1"}
        version = params["protocolVersion"]
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": [{"name": each, "inputSchema": {"type": "object"}} for each in TOOLS]}
    text = TOOLS[params["name"]](**params["arguments"])
    return None if text is None else {"content": [{"type": "text", "text": str(text)}]}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] in ("initialize", "tools/list", "tools/call"):
            result = result_of(message["method"], message.get("params", {}))
            if result is None:
                continue
            answer["result"] = result
        else:
            answer["error"] = {"code": -32601, "message": "Method not found"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
