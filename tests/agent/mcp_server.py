"""An MCP server of the SDK, to be imported, or started as ``python mcp_server.py``."""

from __future__ import annotations

import asyncio

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


@server.tool(name="dotted.name/tool")
def dotted() -> str:
    """A name that providers refuse."""
    return "dotted"


if __name__ == "__main__":
    server.run()
