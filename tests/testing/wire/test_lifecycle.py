"""The server starts at once, bears a crowd, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import openai
import pytest

from agentkit.testing import WireServer, faults
from tests.testing.wire.sdks import ASKED

pytestmark = pytest.mark.wire

CROWD = 500


def request(server: WireServer, *, stream: bool = False, extra: str = "") -> bytes:
    body = json.dumps({**ASKED, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def port(server: WireServer) -> int:
    return int(server.url.rpartition(":")[2])


def connect(server: WireServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port(server)), timeout=10)


def hung_up(client: socket.socket) -> bool:
    """Whether the server has left without a word; how is the kernel's choice."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture(autouse=True)
def _nothing_is_left(small_heap: None) -> Iterator[None]:
    before = servers()
    yield
    gc.collect()  # an unclosed socket or loop warns now, and a warning is an error
    assert servers() <= before


def servers() -> set[threading.Thread]:
    """The threads of wire servers; others may end or begin at any time."""
    return {each for each in threading.enumerate() if each.name.startswith("agentkit-wire-server")}


async def crowd(server: WireServer, *, stream: bool) -> list[bytes]:
    """What each of many clients receives, all of them connected before the first one asks."""

    async def one(gate: asyncio.Barrier) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(server))
        await gate.wait()
        writer.write(request(server, stream=stream, extra="Connection: close\r\n"))
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
        return received

    gate = asyncio.Barrier(CROWD)
    return await asyncio.gather(*(one(gate) for _ in range(CROWD)))


@pytest.mark.parametrize("stream", [False, True])
def test_five_hundred_clients_at_once_are_all_answered(stream: bool) -> None:
    with WireServer(reply="one two", chunk_delay=0.001) as server:
        answers = asyncio.run(crowd(server, stream=stream))
        assert [r.number for r in server.requests] == list(range(1, CROWD + 1))
    end = b"data: [DONE]\n\n\r\n0\r\n\r\n" if stream else b"}}"
    assert all(answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(end) for answer in answers)


def test_closing_ends_many_silent_connections() -> None:
    with ExitStack() as clients:
        with WireServer() as server:
            server.always(faults.silence())
            crowd = [clients.enter_context(connect(server)) for _ in range(100)]
            for client in crowd:
                client.sendall(request(server))
            server.wait_until(lambda s: len(s.requests) == 100)
            assert server.connections == 100
        assert server.connections == 0
        assert all(hung_up(client) for client in crowd)


def test_closing_ends_a_stalled_stream_of_an_sdk() -> None:
    with WireServer(reply="one two") as server:
        server.script(faults.stalled_stream(1))
        client = openai.OpenAI(base_url=server.openai_url, api_key="any", max_retries=0)
        with client, client.chat.completions.create(**ASKED, stream=True) as stream:
            pieces = [next(stream).choices[0].delta.content for _ in range(2)]
            server.close()
            with pytest.raises(openai.APIConnectionError):
                next(stream)
    assert pieces == ["", "one"]


def test_closing_while_clients_connect_leaks_no_socket() -> None:
    """A connection that is half accepted when the server closes is closed, too."""
    for _ in range(10):
        with ExitStack() as clients:
            server = WireServer().start()
            arriving = [clients.enter_context(connect(server)) for _ in range(50)]
            server.close()
            assert server.connections == 0
            assert all(hung_up(client) for client in arriving)


def test_a_client_that_disconnects_is_forgotten() -> None:
    with WireServer(reply="one two", chunk_delay=60) as server:
        for stream in (False, True):
            server.script(*[] if stream else [faults.latency(60)])
            with connect(server) as client:
                client.sendall(request(server, stream=stream))
                server.wait_until(lambda s: s.connections == 1 and bool(s.requests))
            server.wait_until(lambda s: s.connections == 0)


def test_close_is_idempotent_and_the_address_then_refuses() -> None:
    with WireServer() as server:
        server.close()
        server.close()
        with pytest.raises(ConnectionRefusedError) as raised:
            connect(server)
    assert raised.value.errno == errno.ECONNREFUSED


def test_a_server_that_was_never_started_can_be_closed_and_has_no_address() -> None:
    server = WireServer()
    server.close()
    with pytest.raises(RuntimeError, match="context manager"):
        _ = server.openai_url


def test_a_server_starts_once() -> None:
    with WireServer() as server, pytest.raises(RuntimeError, match="only once"):
        server.start()
    with pytest.raises(RuntimeError, match="only once"):
        server.start()


def test_recorded_requests_can_be_read_after_closing() -> None:
    with WireServer() as server:
        httpx2.post(f"{server.openai_url}/chat/completions", json=ASKED)
    assert [r.body for r in server.requests] == [ASKED]


def test_it_runs_beside_the_loop_of_async_code() -> None:
    async def main() -> Any:
        with WireServer(reply="Paris.") as server:
            async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="any") as client:
                answer = await client.chat.completions.create(**ASKED)
        return answer.choices[0].message.content

    assert asyncio.run(main()) == "Paris."


def test_a_connection_serves_one_request_after_the_other() -> None:
    with WireServer() as server, httpx2.Client() as client:
        for _ in range(3):
            client.post(f"{server.openai_url}/chat/completions", json=ASKED)
            client.post(f"{server.openai_url}/chat/completions", json={**ASKED, "stream": True})
            assert server.connections == 1


def test_requests_may_arrive_in_any_pieces() -> None:
    with WireServer(reply="Paris.") as server, connect(server) as client:
        twice = request(server) + request(server, extra="Connection: close\r\n")
        for index in range(0, len(twice), 7):
            client.sendall(twice[index : index + 7])
        received = b""
        while data := client.recv(65536):
            received += data
    assert received.count(b"HTTP/1.1 200 OK") == received.count(b"Paris.") == 2


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"POST /v1/messages HTTP/2\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nno colon\r\n\r\n",
    ],
)
def test_an_invalid_request_is_answered_with_400(head: bytes) -> None:
    with WireServer() as server, connect(server) as client:
        client.sendall(head)
        received = b""
        while data := client.recv(65536):
            received += data
    assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_wait_until_raises_after_its_timeout() -> None:
    with WireServer() as server, pytest.raises(TimeoutError, match="requests=0"):
        server.wait_until(lambda s: bool(s.requests), timeout=0.01)


@pytest.mark.processes
def test_the_interpreter_exits_although_the_server_was_not_closed() -> None:
    script = (
        "from agentkit.testing import WireServer, faults\n"
        "import socket\n"
        "server = WireServer().start()\n"
        "server.always(faults.silence())\n"
        "address = ('127.0.0.1', int(server.url.rpartition(':')[2]))\n"
        "client = socket.create_connection(address)\n"
        "body = b'{}'\n"
        "client.sendall(b'POST /v1/messages HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\n{}')\n"
        "server.wait_until(lambda s: len(s.requests) == 1)\n"
        "client.close()\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.processes
def test_it_needs_nothing_but_the_standard_library() -> None:
    script = (
        "import sys, agentkit.testing\n"
        "heavy = {'openai', 'anthropic', 'httpx2', 'pydantic', 'opentelemetry', 'pytest'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
