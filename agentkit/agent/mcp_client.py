"""A client of an MCP server, with whichever release of the official SDK is installed.

Release 2 has a client of its own. Release 1 has sessions, whose messages use the protocol's names
(``isError``) where release 2 uses Python's (``is_error``); here they get those of release 2.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from importlib import import_module
from typing import Any, Final

_CLOSED: Final = -32000
"""The SDK's code for a connection that was closed."""
_TOOLS_CHANGED: Final = "notifications/tools/list_changed"
_NEXT_WORD: Final = re.compile(r"_([a-z])")


def connect(
    target: Any, timeout: float, changed: Callable[[], None]
) -> AbstractAsyncContextManager[Any]:
    """A client with `list_tools`, `call_tool` and `send_ping`, connected in its context.

    Args:
        target: the URL of a streamable HTTP server, a server object of the SDK in this process, or
            a context manager that opens the streams of a connection.
        timeout: seconds for each answer of the server.
        changed: is called when the server says that its list of tools has changed.
    """

    async def hear(message: Any) -> None:
        if getattr(getattr(message, "root", message), "method", "") == _TOOLS_CHANGED:
            changed()

    if _is_release_1():
        return _session(target, timedelta(seconds=timeout), hear)
    return _client(target, timeout, hear, changed)


@asynccontextmanager
async def open_url(url: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[Any]:
    """The streams of a connection to a streamable HTTP server; `headers` go with each request."""
    from mcp.client.streamable_http import streamable_http_client

    http: Any = import_module("httpx" if _is_release_1() else "httpx2")
    timeout = http.Timeout(30.0, read=300.0)  # the SDK's own: a server may keep a stream open
    async with (
        http.AsyncClient(headers=dict(headers or {}), timeout=timeout) as client,
        streamable_http_client(url, http_client=client) as streams,
    ):
        yield streams


def message_of(error: Exception) -> str:
    """The server's or the SDK's own words for an error; without any, its type."""
    import anyio

    if isinstance(error, anyio.ClosedResourceError | anyio.BrokenResourceError):
        return "the connection is closed"
    message = getattr(getattr(error, "error", error), "message", None)
    return str(message or type(error).__name__)


def is_lost(error: Exception) -> bool:
    """Whether the connection is lost, and not only this call has failed."""
    code = getattr(getattr(error, "error", error), "code", None)
    if code is None:
        return not isinstance(error, TimeoutError)
    return code == _CLOSED or "session" in message_of(error).lower()


def _is_release_1() -> bool:
    import mcp

    return not hasattr(mcp, "Client")


@asynccontextmanager
async def _client(
    target: Any, read_timeout: float, hear: Any, changed: Callable[[], None]
) -> AsyncIterator[Any]:
    import mcp

    opened = mcp.Client(target, read_timeout_seconds=read_timeout, message_handler=hear)
    async with opened as client:
        listening = asyncio.create_task(_listen(client, changed))
        try:
            yield client
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening


async def _listen(client: Any, changed: Callable[[], None]) -> None:
    """Call `changed` for each change that the server reports to those who listen.

    Servers of an older version of the protocol report it without being asked.
    """
    with suppress(Exception):  # a server that does not report changes, or a lost connection
        async with client.listen(tools_list_changed=True) as events:
            async for _ in events:
                changed()


@asynccontextmanager
async def _session(
    target: Any, read_timeout: timedelta, hear: Callable[[Any], Awaitable[None]]
) -> AsyncIterator[_Session]:
    from mcp import ClientSession

    if isinstance(target, str):
        target = open_url(target)
    if hasattr(target, "__aenter__"):
        async with target as (read, write, *_):
            session: Any = ClientSession(
                read,
                write,
                read_timeout_seconds=read_timeout,  # type: ignore[arg-type]  # as release 1 takes it
                message_handler=hear,  # type: ignore[arg-type]  # as release 1 calls it
            )
            async with session:
                await session.initialize()
                yield _Session(session)
        return
    memory: Any = import_module("mcp.shared.memory")
    opened = memory.create_connected_server_and_client_session
    async with opened(target, read_timeout_seconds=read_timeout, message_handler=hear) as session:
        yield _Session(session)


class _Session:
    """The part of release 2's client that is used here, over a session of release 1."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def list_tools(self, *, cursor: str | None) -> Any:
        return _renamed(await self._session.list_tools(cursor=cursor))

    async def send_ping(self) -> None:
        await self._session.send_ping()

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> Any:
        return _renamed(await self._session.call_tool(name, arguments))


class _Renamed:
    """A message of release 1 under the attribute names of release 2."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def __getattr__(self, name: str) -> Any:
        wire_name = _NEXT_WORD.sub(lambda match: match[1].upper(), name)
        return _renamed(getattr(self._message, wire_name))


def _renamed(value: Any) -> Any:
    """`value` with its messages renamed; data of the server's own stays as it is."""
    if isinstance(value, list):
        return [_renamed(each) for each in value]
    return _Renamed(value) if hasattr(type(value), "model_fields") else value
