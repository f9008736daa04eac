"""An MCP server, to be imported, or started as ``python mcp_server.py``."""

from __future__ import annotations

import asyncio
import os

try:
    from mcp.server import MCPServer
except ImportError:  # release 1 has another name for it
    from mcp.server.fastmcp import FastMCP as MCPServer  # type: ignore[attr-defined,no-redef]

__all__ = ["MCPServer", "server"]

server = MCPServer("numbers", log_level="CRITICAL")


@server.tool()
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("secret detail")


@server.tool()
async def hang() -> str:
    """Never answer."""
    await asyncio.Event().wait()
    return "never"


@server.tool()
def pid() -> int:
    """The id of this process."""
    return os.getpid()


@server.tool()
def variable(name: str) -> str:
    """An environment variable."""
    return os.environ.get(name, "unset")


@server.tool()
def die() -> str:
    """End this process in the middle of a call."""
    os._exit(3)


@server.tool()
def die_once(marker: str) -> str:
    """End this process in the middle of a call, the first time."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "alive"
    os._exit(3)


@server.tool(name="dotted.name/tool")
def dotted() -> str:
    """A name that providers refuse."""
    return "dotted"


if __name__ == "__main__":
    server.run()
