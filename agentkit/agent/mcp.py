"""Tools of MCP servers, through the official SDK.

For sync and async callers alike, the connection lives on an event loop and thread of its own: the
SDK requires one task to open and close a connection, and tools are called from anywhere.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from hashlib import sha256
from importlib.util import find_spec
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from agentkit._fork import on_fork
from agentkit.agent.calls import TextWithMedia
from agentkit.agent.mcp_client import connect, is_lost, message_of, open_url
from agentkit.errors import (
    ConfigurationError,
    InDoubtError,
    MissingDependencyError,
    ToolError,
)
from agentkit.policy.validation import number
from agentkit.types import ToolSpec
from agentkit.types.message import Effect

if TYPE_CHECKING:
    from mcp.types import CallToolResult, Tool

Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]

_INVALID_IN_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")
_NAME_LENGTH: Final = 64
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
"""Seconds before a lost connection is opened again; twice as long after each failure."""
_TRUSTED: Final = 1.0
"""Seconds for which a connection that has answered is used without a ping."""
_MAX_PAGES: Final = 100
"""Pages of a tool list that are read, so that an endless list does not hang the caller."""


def mcp_tools(
    server: Any,
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    prefix: str = "",
    effects: Mapping[str, Effect] | Literal["hints"] | None = None,
    required: bool = True,
) -> MCPTools:
    """Connect to an MCP server; a context manager, sync and async, that returns its tools.

    The tools are `ToolSpec` objects. Inside the block, any agent may run them, from any thread or
    event loop. At the end of the block, the connection is closed. A server that was started here is
    asked to exit, terminated after two seconds, and then killed.

    If the connection is lost inside the block, it is opened again with back-off, and a server that
    was started here is started again. Calls wait for that, within their time limits. A call whose
    answer was lost raises `InDoubtError`, and an agent repeats it if the tool's effect allows that.

    Args:
        server: a command line (``"python server.py"``, or a list of words) to start and to talk to
            over its standard input and output; the ``http://`` or ``https://`` URL of a streamable
            HTTP server; or a server object of the SDK in this process (anything that release 2's
            `mcp.Client` accepts).
        env: environment variables of the command, in addition to the few that the SDK passes on
            (such as ``PATH`` and ``HOME``).
        cwd: its working directory.
        headers: HTTP headers for a URL, such as ``Authorization``.
        timeout: seconds for connecting, and for each tool call (default 30).
        prefix: is put before each tool's name, to tell two servers apart. Characters of a name
            other than letters, digits, ``_`` and ``-`` become ``_``. A name of more than 64
            characters, or one that becomes the same as another, ends in a hash.

    Raises:
        ConfigurationError: the command is empty, or the timeout is not a positive number.
        MissingDependencyError: the package `mcp` is not installed.
        ToolError: (on entering) the server cannot be reached or does not speak MCP.
    """
    number("timeout", timeout, above=True)
    if find_spec("mcp") is None:
        raise MissingDependencyError(
            "tools of MCP servers need the package mcp",
            hint='pip install "agentkit-llms[mcp]"',
        )
    label, target = _target(server, env, cwd, headers)
    return MCPTools(
        label, target, timeout=timeout, prefix=prefix, effects=effects or {}, required=required
    )


class MCPTools:
    """A connection to an MCP server; returned by `mcp_tools`, used once."""

    def __init__(
        self,
        label: str,
        target: Connect,
        *,
        timeout: float,
        prefix: str,
        effects: Mapping[str, Effect] | Literal["hints"],
        required: bool,
    ) -> None:
        self._label = label
        self._target = target
        self._timeout = timeout
        self._prefix = prefix
        self._effects = effects
        self._required = required
        self._tools: tuple[ToolSpec, ...] = ()
        self._changed = False
        self._heard_at = 0.0
        self._ready: Future[tuple[ToolSpec, ...]] = Future()
        self._ended: Future[None] = Future()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="agentkit-mcp", daemon=True)
        on_fork(self._leave_to_parent)

    def __enter__(self) -> tuple[ToolSpec, ...]:
        self._thread.start()
        try:
            return self._ready.result()
        except BaseException:
            self._close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    async def __aenter__(self) -> tuple[ToolSpec, ...]:
        self._thread.start()
        try:
            return await asyncio.shield(asyncio.wrap_future(self._ready))
        except BaseException:
            await self._aclose()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._aclose()

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """The server's tools as last read.

        They are read on entering, on reconnecting, when the server reports a change, and by
        `refresh`.
        """
        return self._tools

    def refresh(self) -> tuple[ToolSpec, ...]:
        """Read the list of tools again. Raises `ToolError` if the server cannot be asked."""
        if self._closing.is_set():
            raise self._closed()
        return asyncio.run_coroutine_threadsafe(self._refresh(), self._loop).result()

    async def arefresh(self) -> tuple[ToolSpec, ...]:
        """Like `refresh`, for asyncio."""
        if self._closing.is_set():
            raise self._closed()
        future = asyncio.run_coroutine_threadsafe(self._refresh(), self._loop)
        return await asyncio.wrap_future(future)

    async def _refresh(self) -> tuple[ToolSpec, ...]:
        client = await self._connected()
        try:
            self._tools = await self._list(client)
        except Exception as error:
            raise ToolError(f"{self._label} failed: {message_of(error)}") from error
        return self._tools

    def __repr__(self) -> str:
        return f"<MCPTools of {self._label}>"

    def _close(self) -> None:
        self._stop()
        self._thread.join()

    async def _aclose(self) -> None:
        self._stop()
        await asyncio.shield(asyncio.wrap_future(self._ended))
        self._thread.join()

    def _stop(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            with suppress(RuntimeError, AttributeError):  # the loop is over, or not there yet
                self._loop.call_soon_threadsafe(self._leave_loop)

    def _leave_to_parent(self) -> None:
        """In a forked child: the connection is the parent's, so here it is closed."""
        self._closing, self._ended = threading.Event(), Future()
        self._closing.set()
        self._ended.set_result(None)

    def _leave_loop(self) -> None:
        self._leaving = True
        self._wake.set()
        if not self._up.is_set():
            self._connecting.cancel()

    def _work(self) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised where the tools are awaited
            if not self._ready.done():
                self._ready.set_exception(self._unusable(error))
        finally:
            self._closing.set()
            self._ended.set_result(None)

    async def _serve(self) -> None:
        """Keep a connection until the block ends."""
        import anyio

        self._leaving = False
        self._wake, self._up = asyncio.Event(), asyncio.Event()
        self._connecting = anyio.CancelScope()
        self._loop = asyncio.get_running_loop()
        delay = _FIRST_DELAY
        while not (self._leaving or self._closing.is_set()):
            try:
                await self._stay_connected()
                delay = _FIRST_DELAY
            except Exception:
                if self._required and not self._ready.done():
                    raise
                if not self._ready.done():
                    self._ready.set_result(())
            finally:
                self._up.clear()
            if not self._leaving:
                self._wake.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), delay)
                delay = min(2 * delay, _LONGEST_DELAY)

    async def _stay_connected(self) -> None:
        """Connect, and return when the connection is lost or the block ends."""
        import anyio

        self._connecting = anyio.CancelScope()
        # A process that is being started must not be cancelled, or it would never be reaped.
        async with self._target() as target:
            with anyio.fail_after(self._timeout) as limit, self._connecting:
                async with connect(target, self._timeout, self._hear_of_change) as client:
                    self._client = client
                    self._tools = await self._list(client)
                    limit.deadline = float("inf")
                    self._wake.clear()
                    self._up.set()
                    if not self._ready.done():
                        self._ready.set_result(self._tools)
                    while not self._leaving:
                        await self._wake.wait()
                        self._wake.clear()
                        if not self._changed:
                            return
                        self._changed = False
                        self._tools = await self._list(client)

    def _hear_of_change(self) -> None:
        self._changed = True
        self._wake.set()

    def _lose(self, client: Any) -> None:
        if client is self._client and self._up.is_set():
            self._up.clear()
            self._changed = False
            self._wake.set()

    async def _list(self, client: Any) -> tuple[ToolSpec, ...]:
        tools: list[Tool] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None:
                break
        names = _valid_names([self._prefix + tool.name for tool in tools])
        return tuple(map(self._spec, tools, names))

    def _spec(self, tool: Tool, name: str) -> ToolSpec:
        async def run(**arguments: Any) -> str:
            return await self._call(tool.name, arguments)

        effect = _hinted(tool) if self._effects == "hints" else self._effects.get(tool.name)
        return ToolSpec(name, tool.description or "", tool.input_schema, run, effect)

    async def _call(self, name: str, arguments: dict[str, Any]) -> str:
        if self._closing.is_set():
            raise self._closed()
        future = asyncio.run_coroutine_threadsafe(self._call_tool(name, arguments), self._loop)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closing.is_set() and task is not None and not task.cancelling():
                raise self._closed() from None
            raise

    async def _call_tool(self, name: str, arguments: dict[str, Any]) -> str:
        client = await self._connected()
        try:
            result = await client.call_tool(name, arguments)
        except Exception as error:
            failed = f"{self._label} failed: {message_of(error)}"
            if not is_lost(error):
                raise ToolError(failed) from error
            self._lose(client)
            raise InDoubtError(failed, hint="the connection is opened again") from error
        if result.is_error:
            raise ToolError(_content(result) or f"{self._label} failed without a reason")
        self._heard_at = self._loop.time()
        return _content(result)

    async def _connected(self) -> Any:
        """The client of a connection that was alive a moment ago, so that a call is not lost."""
        if self._up.is_set() and self._loop.time() - self._heard_at > _TRUSTED:
            client = self._client
            try:
                await client.send_ping()
                self._heard_at = self._loop.time()
            except Exception as error:  # noqa: BLE001 - whatever it is, the call itself will show it
                if is_lost(error):
                    self._lose(client)
        try:
            await asyncio.wait_for(self._up.wait(), self._timeout)
        except TimeoutError:
            raise ToolError(f"{self._label} is not connected") from None
        return self._client

    def _closed(self) -> ToolError:
        return ToolError(f"the connection to {self._label} is closed")

    def _unusable(self, error: BaseException) -> ToolError:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        why = f"no answer within {self._timeout:g} s" if isinstance(error, TimeoutError) else None
        unusable = ToolError(
            f"{self._label} cannot be used: {why or type(error).__name__}",
            hint="check the command or URL, and the server's own output on standard error",
        )
        unusable.__cause__ = error
        return unusable


def _target(
    server: Any,
    env: Mapping[str, str] | None,
    cwd: str | None,
    headers: Mapping[str, str] | None,
) -> tuple[str, Connect]:
    """A label without secrets, and a function that opens the SDK's target inside a loop."""
    if isinstance(server, str) and server.startswith(("http://", "https://")):
        label = f"the MCP server at {urlsplit(server).hostname}"
        if headers is None:
            return label, lambda: nullcontext(server)
        return label, lambda: nullcontext(open_url(server, headers))
    if isinstance(server, str | Sequence):
        words = _words(server) if isinstance(server, str) else [str(each) for each in server]
        if not words:
            raise ConfigurationError(
                "the command of the MCP server is empty",
                hint='give a command, such as "python server.py"',
            )
        label = f"the MCP server {PurePath(words[0]).name}"
        return label, lambda: _started(words, env, cwd)
    return f"the MCP server {type(server).__name__}", lambda: nullcontext(server)


def _hinted(tool: Tool) -> Effect | None:
    """What the server says about a second call of its tool."""
    hints = tool.annotations
    if hints is not None and hints.read_only_hint:
        return "none"
    return "idempotent" if hints is not None and hints.idempotent_hint else None


def _words(command: str) -> list[str]:
    if sys.platform == "win32":  # where a backslash separates folders
        return [word.strip('"') for word in shlex.split(command, posix=False)]
    return shlex.split(command)


@asynccontextmanager
async def _started(
    words: list[str], env: Mapping[str, str] | None, cwd: str | None
) -> AsyncIterator[Any]:
    from mcp import StdioServerParameters, stdio_client

    own = None if env is None else dict(env)
    command = StdioServerParameters(command=words[0], args=words[1:], env=own, cwd=cwd)
    async with stdio_client(command) as streams:
        yield nullcontext(streams)


def _valid_names(names: Sequence[str]) -> list[str]:
    """The names as every provider accepts them, each different.

    A name that would be too long, or the same as another, ends in a hash of the server's own, so
    that it does not depend on the other tools' order.
    """
    clean = [_INVALID_IN_NAME.sub("_", name) for name in names]
    count = Counter(clean)
    return [
        valid
        if len(valid) <= _NAME_LENGTH and (count[valid] == 1 or valid == name)
        else f"{valid[: _NAME_LENGTH - 9]}_{sha256(name.encode()).hexdigest()[:8]}"
        for name, valid in zip(names, clean, strict=True)
    ]


def _content(result: CallToolResult) -> str:
    """The parts of a result as text, images beside it; other parts are named by their type."""
    if not result.content and result.structured_content is not None:
        from pydantic_core import to_json

        return to_json(result.structured_content).decode()
    text = "\n".join(_part(part) for part in result.content)
    images = [
        {"type": "image", "data": part.data, "media_type": _media_type(part)}
        for part in result.content
        if part.type == "image"
    ]
    return TextWithMedia(text, images) if images else text


def _media_type(part: Any) -> str:
    """The media type; releases of the SDK before 2 name it as the protocol does."""
    return str(part.mime_type if hasattr(part, "mime_type") else part.mimeType)


def _part(part: Any) -> str:
    if part.type == "text":
        return str(part.text)
    if part.type == "resource" and hasattr(part.resource, "text"):
        return str(part.resource.text)
    if part.type == "resource_link":
        return str(part.uri)
    return f"[{part.type}]"
