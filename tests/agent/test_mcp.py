"""An MCP server's tools run like any others, from sync and async code, and leave nothing behind."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from mcp.types import ImageContent, TextContent

from agentkit.agent.calls import ToolResult
from agentkit.agent.mcp import mcp_tools
from agentkit.errors import (
    ConfigurationError,
    InDoubtError,
    MissingDependencyError,
    ToolError,
)
from agentkit.types import ToolCall, ToolSpec
from tests.agent.mcp_server import MCPServer
from tests.agent.mcp_server import server as in_process
from tests.agent.runs import Go, Model, agent_of, each_way, response_with, tool_texts, want

OF_THE_SDK = [sys.executable, str(Path(__file__).with_name("mcp_server.py"))]
COMMAND = [sys.executable, str(Path(__file__).with_name("mcp_process.py"))]


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [each for each in threading.enumerate() if each not in before and each.is_alive()]
    assert not [each.name for each in left if each.name == "agentkit-mcp"]


def by_name(tools: Sequence[ToolSpec]) -> dict[str, Callable[..., Any]]:
    return {tool.name: tool.fn for tool in tools if tool.fn is not None}


def call(tools: Sequence[ToolSpec], name: str, /, **arguments: Any) -> str:
    async def main() -> str:
        return str(await by_name(tools)[name](**arguments))

    return asyncio.run(main())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_servers_tools_are_specs_with_its_own_schemas() -> None:
    with mcp_tools(in_process) as tools:
        add = tools[0]
        assert (add.name, add.description) == ("add", "Add two numbers.")
        assert add.parameters["properties"]["b"]["default"] == 2
        assert add.parameters["required"] == ["a"]
        assert call(tools, "add", a=1) == "3"
        assert call(tools, "add", a=1, b=5) == "6"


def test_a_command_is_started_and_has_ended_with_the_context(tmp_path: Path) -> None:
    with mcp_tools(COMMAND, env={"SPECIAL": "yes"}, cwd=str(tmp_path)) as tools:
        pid = int(call(tools, "pid"))
        assert is_alive(pid)
        assert call(tools, "variable", name="SPECIAL") == "yes"
    assert not is_alive(pid)


def test_a_command_may_be_one_line() -> None:
    with mcp_tools(f"'{OF_THE_SDK[0]}' '{OF_THE_SDK[1]}'") as tools:
        assert call(tools, "add", a=2) == "4"


def test_on_windows_a_backslash_separates_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    server = mcp_tools(r'"C:\My Tools\server.exe" --data C:\data')
    assert repr(server).removesuffix(">").endswith(r"My Tools\server.exe")


def test_the_context_is_async_too() -> None:
    async def main() -> int:
        async with mcp_tools(COMMAND) as tools:
            functions = by_name(tools)
            sums = await asyncio.gather(*(functions["add"](a=each) for each in range(20)))
            assert sums == [str(each + 2) for each in range(20)]
            return int(await functions["pid"]())

    assert not is_alive(asyncio.run(main()))


@each_way
def test_an_agent_runs_them_like_its_own(go: Go) -> None:
    def double(a: int) -> int:
        """Double a number."""
        return 2 * a

    model = Model(
        response_with(ToolCall("1", "add", {"a": 1}), ToolCall("2", "double", {"a": 4})), "3 and 8"
    )
    with mcp_tools(in_process) as tools:
        assert go(agent_of(model), "Count", tools=[*tools, double]).text == "3 and 8"
    assert tool_texts(model) == ["3", "8"]


@each_way
def test_what_goes_wrong_goes_back_to_the_model(go: Go) -> None:
    model = Model(response_with(ToolCall("1", "fail"), ToolCall("2", "add", {"a": "x"})), "Sorry.")
    with mcp_tools(in_process) as tools:
        assert go(agent_of(model), "Try", tools=tools).text == "Sorry."
    failed, wrong = tool_texts(model)
    assert failed.startswith("ToolError: Error executing tool fail")  # release 1 says why, too
    assert "valid integer" in wrong


@each_way
def test_a_tool_that_gives_no_result_in_time_goes_back_to_the_model(go: Go) -> None:
    model = Model(want("hang"), "Sorry.")
    with mcp_tools(in_process) as tools:
        assert go(agent_of(model), "Try", tools=tools, tool_timeout=0.1).text == "Sorry."
    assert tool_texts(model) == ["ToolError: hang gave no result within 0.1 s"]


def test_the_connections_own_timeout_bounds_a_call() -> None:
    with mcp_tools(in_process, timeout=1.0) as tools:
        with pytest.raises(ToolError, match=r"(?i)timed out"):
            call(tools, "hang")
        assert call(tools, "add", a=1) == "3", "the connection stays open"


def test_a_cancelled_call_ends_and_the_connection_stays_open() -> None:
    async def main() -> None:
        async with mcp_tools(in_process) as tools:
            functions = by_name(tools)
            task = asyncio.ensure_future(functions["hang"]())
            await functions["add"](a=1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await functions["add"](a=1) == "3"

    asyncio.run(main())


def test_a_server_that_dies_is_started_again_and_the_lost_call_is_in_doubt() -> None:
    with mcp_tools(COMMAND) as tools:
        before = call(tools, "pid")
        with pytest.raises(InDoubtError, match="closed"):
            call(tools, "die")
        assert call(tools, "add", a=1) == "3"
        assert call(tools, "pid") != before


@pytest.mark.parametrize(
    ("effects", "text", "in_doubt"),
    [
        ({"die_once": "idempotent"}, "alive", False),
        ({"die_once": "once"}, "InDoubt: die_once was started", True),
        (None, "InDoubtError: the MCP server python", True),
    ],
)
def test_a_call_under_way_when_the_server_dies_follows_its_effect(
    effects: Any, text: str, in_doubt: bool, tmp_path: Path
) -> None:
    marker = str(tmp_path / "died")
    model = Model(want("die_once", marker=marker), want("add", "call-2", a=1), "done")
    with mcp_tools(COMMAND, effects=effects) as tools:
        result = agent_of(model).run("Go", tools=tools)
    died, added = (step.results[0] for step in result.steps[:2])
    assert died.content.startswith(text)
    assert died.in_doubt is in_doubt
    assert added.content == "3", "the other tools are still there"


def test_a_changed_list_of_tools_is_read_again() -> None:
    server = MCPServer("changing")
    server.add_tool(str.lower, name="first")
    connection = mcp_tools(server)
    with connection as tools:
        assert connection.tools == tools
        server.add_tool(str.upper, name="second")
        assert [each.name for each in connection.refresh()] == ["first", "second"]
        assert asyncio.run(connection.arefresh()) == connection.tools
    with pytest.raises(ToolError, match="closed"):
        connection.refresh()


def test_a_server_that_reports_a_change_is_asked_for_its_tools_again() -> None:
    releases = pytest.importorskip("mcp.server.mcpserver", reason="mcp 1 cannot report it here")
    listed = threading.Semaphore(0)

    class Growing(MCPServer):
        async def list_tools(self) -> Any:
            tools = await super().list_tools()
            if len(tools) > 1:
                listed.release()
            return tools

    server = Growing("growing", log_level="CRITICAL")

    async def grow(context: Any) -> str:
        server.add_tool(str.upper, name="second")
        await context.notify_tools_changed()
        return "grown"

    grow.__annotations__["context"] = releases.Context
    server.add_tool(grow)
    connection = mcp_tools(server)
    with connection:
        assert [each.name for each in connection.tools] == ["grow"]
        assert call(connection.tools, "grow") == "grown"
        assert listed.acquire(timeout=10), "the list was not read again"


def test_what_a_server_says_about_its_tools_is_believed_on_request() -> None:
    from mcp.types import ToolAnnotations

    server = MCPServer("hints")
    hints = {"look": {"readOnlyHint": True}, "put": {"idempotentHint": True}, "send": {}}
    for name, given in hints.items():
        server.add_tool(str.lower, name=name, annotations=ToolAnnotations.model_validate(given))
    with mcp_tools(server, effects="hints") as tools:
        assert [each.effect for each in tools] == ["none", "idempotent", None]
    with mcp_tools(server) as tools:
        assert {each.effect for each in tools} == {None}


def test_a_server_that_is_not_required_may_come_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    connection = mcp_tools(f"http://127.0.0.1:{port}/mcp", required=False)
    with connection as tools:
        assert tools == ()
        for _ in range(2):  # it comes, goes, and comes again, with other sessions
            with serving(port):
                answer = None
                while answer is None:
                    with suppress(KeyError, ToolError):  # not there yet, or lost with the server
                        answer = call(connection.tools, "add", a=1)
                assert answer == "3"


@contextmanager
def serving(port: int) -> Iterator[None]:
    import uvicorn

    server = MCPServer("numbers", log_level="CRITICAL")
    server.add_tool(lambda a: a + 2, name="add", description="Add.")
    app = server.streamable_http_app()
    web = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="critical", lifespan="on", ws="none")
    )
    thread = threading.Thread(target=web.run)
    thread.start()
    yield
    web.should_exit = web.force_exit = True
    thread.join()


def test_after_the_context_the_tools_say_that_it_is_closed() -> None:
    with mcp_tools(in_process) as tools:
        pass
    with pytest.raises(
        ToolError, match=f"connection to the MCP server {type(in_process).__name__} is closed"
    ):
        call(tools, "add", a=1)


@pytest.mark.parametrize("server", [in_process, COMMAND])
def test_a_call_under_way_when_the_context_ends_is_an_error(server: Any) -> None:
    async def main() -> None:
        async with mcp_tools(server) as tools:
            functions = by_name(tools)
            task = asyncio.ensure_future(functions["hang"]())
            await functions["add"](a=1)
        with pytest.raises(ToolError, match="closed"):
            await task

    asyncio.run(main())


@pytest.fixture
def over_http() -> Iterator[tuple[str, list[str]]]:
    """The URL of a server, and the ``Authorization`` headers it saw."""
    import uvicorn

    inner = in_process.streamable_http_app()
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if b"authorization" in headers:
            seen.append(headers[b"authorization"].decode())
        await inner(scope, receive, send)

    web = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: web.run(sockets=[listening]))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp", seen
        web.should_exit = True
        thread.join()


def test_a_url_is_spoken_to_over_http_with_the_given_headers(
    over_http: tuple[str, list[str]],
) -> None:
    url, seen = over_http
    with mcp_tools(url) as tools:
        assert call(tools, "add", a=1) == "3"
    assert seen == []
    with mcp_tools(url, headers={"Authorization": "Bearer made-up"}) as tools:
        assert call(tools, "add", a=1) == "3"
    assert set(seen) == {"Bearer made-up"}


def test_tool_names_are_made_valid_and_get_a_prefix() -> None:
    with mcp_tools(in_process, prefix="mine.") as tools:
        assert {"mine_add", "mine_dotted_name_tool"} <= {tool.name for tool in tools}
        assert call(tools, "mine_dotted_name_tool") == "dotted"


def named_tool(name: str) -> Callable[[], str]:
    def tool() -> str:
        return name

    return tool


def test_long_and_colliding_names_become_different_valid_ones() -> None:
    names = ["a.b", "a/b", "a_b", "x" * 80 + "1", "x" * 80 + "2", "c d"]

    def named(order: list[str]) -> dict[str, str]:
        server = MCPServer("names", log_level="CRITICAL")
        for name in order:
            server.add_tool(named_tool(name), name=name, description="Its own name.")
        with mcp_tools(server) as tools:
            return {tool.name: call(tools, tool.name) for tool in tools}

    found = named(names)
    assert sorted(found.values()) == sorted(names), "each tool is called by its own name"
    assert {found["a_b"], found["c_d"]} == {"a_b", "c d"}
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", name) for name in found)
    assert named(names[::-1]) == found, "the order of the tools does not matter"


def test_an_image_of_a_server_reaches_the_model() -> None:
    server = MCPServer("camera", log_level="CRITICAL")

    coded = base64.b64encode(b"png-bytes").decode()

    def photo() -> list[TextContent | ImageContent]:
        """A photo and what is on it."""
        image = ImageContent(type="image", data=coded, mime_type="image/png")
        return [TextContent(type="text", text="a cat"), image]

    server.add_tool(photo, structured_output=False)
    model = Model(want("photo"), "A cat.")
    with mcp_tools(server) as tools:
        result = agent_of(model).run("Look!", tools=list(tools))
    (shown,) = result.steps[0].results
    assert shown.content == "a cat\n[image]"
    assert ToolResult.from_dict(json.loads(json.dumps(shown.to_dict()))) == shown
    assert model.requests[-1].messages[-1].content == [
        {"type": "text", "text": "a cat\n[image]"},
        {"type": "image", "data": coded, "media_type": "image/png"},
    ]


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("/no/such/program --token=s3cret", "the MCP server program cannot be used: FileNotFound"),
        ([sys.executable, "-c", "pass", "s3cret"], "cannot be used"),
        ("http://user:s3cret@127.0.0.1:9/mcp?key=s3cret", "at 127.0.0.1 cannot be used: Connect"),
        (object(), "the MCP server object cannot be used"),
    ],
)
@pytest.mark.parametrize("headers", [None, {"Authorization": "s3cret"}])
def test_a_server_that_cannot_be_used_is_an_error_without_secrets(
    server: Any, message: str, headers: dict[str, str] | None
) -> None:
    with pytest.raises(ToolError, match=message) as caught, mcp_tools(server, headers=headers):
        raise AssertionError("it cannot be used")
    assert "s3cret" not in str(caught.value)
    assert caught.value.hint


def test_a_server_that_says_nothing_is_given_up_and_ended(tmp_path: Path) -> None:
    written = tmp_path / "pid"
    silent = (
        "import os, pathlib, sys, threading\n"
        f"pathlib.Path({str(written)!r}).write_text(str(os.getpid()))\n"
        "sys.stdin.read()\n"
    )
    with (
        pytest.raises(ToolError, match="no answer within 1 s"),
        mcp_tools([sys.executable, "-c", silent], timeout=1.0),
    ):
        raise AssertionError("it says nothing")
    assert not is_alive(int(written.read_text()))


def test_leaving_while_it_connects_leaves_nothing_behind() -> None:
    async def main() -> None:
        waiting = mcp_tools([sys.executable, "-c", "import sys; sys.stdin.read()"])
        task = asyncio.ensure_future(waiting.__aenter__())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("server", ["", "   ", []])
def test_an_empty_command_is_refused(server: Any) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        mcp_tools(server)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "30"])
def test_a_timeout_that_cannot_work_is_refused(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        mcp_tools("server", timeout=timeout)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.agent.mcp.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError) as caught:
        mcp_tools("server")
    assert caught.value.hint == 'pip install "agentkit-llms[mcp]"'


@pytest.mark.processes
def test_the_sdk_is_loaded_by_the_first_connection_only() -> None:
    code = (
        "import sys, agentkit.agent.mcp as m, agentkit.agent.agent; m.mcp_tools('server');"
        "sys.exit('mcp' in sys.modules or 'pydantic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
