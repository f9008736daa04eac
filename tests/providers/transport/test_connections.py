"""Connections are used again only if that is safe, and none is left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from typing import Any

import pytest

from agentkit import LLMManager, RetryPolicy
from agentkit.providers.transport.connection import CancelScope
from agentkit.testing import WireServer, faults
from agentkit.types import Request
from tests.forks import forks, in_child
from tests.helpers import until
from tests.providers.transport.servers import (
    ANSWER,
    CHUNK,
    DONE,
    LAST,
    PATIENCE,
    Link,
    Server,
    answering,
    answering_once,
    asking,
    calling,
    chunked,
    complete_and_stream,
    either_way,
    http,
    native,
    serving,
)

pytestmark = pytest.mark.wire


def talk_of_everything(link: Link) -> None:
    """Answers what is asked: a complete answer, a stream, or an error."""
    while (request := link.request()) is not None:
        if b'"refuse"' in request:
            link.send(http(b"{}", status="429 Too Many Requests"))
        elif b'"stream":true' in request:
            # At once: a client that is faster than the end of a stream opens another connection.
            link.send(b"".join(chunked(CHUNK, LAST, DONE)))
        else:
            link.send(http(ANSWER))


@either_way
def test_one_connection_carries_calls_and_streams_one_after_another(way: str) -> None:
    sent = threading.Semaphore(0)

    def talk(link: Link) -> None:
        while (request := link.request()) is not None:
            streaming = b'"stream":true' in request
            link.send(*(chunked(CHUNK, LAST, DONE) if streaming else [http(ANSWER)]))
            sent.release()

    with serving(talk) as server, asking(way, native(server.url)) as asker:
        for number in range(8):
            assert asker.ask(stream=bool(number % 2)) == "Paris"
            assert sent.acquire(timeout=PATIENCE)
        assert server.accepted == 1


@either_way
def test_a_request_waits_for_the_end_of_the_response_before_it(way: str) -> None:
    """Its last event has been read; the last bytes follow in a packet of their own."""
    asked = threading.Event()

    def talk(link: Link) -> None:
        while link.request() is not None:
            *pieces, end = chunked(DONE)
            link.send(*pieces)
            assert asked.wait(PATIENCE)
            link.send(end)

    with serving(talk) as server, calling(way, server.url, end_timeout=PATIENCE) as caller:
        caller.post(last=DONE)
        later = threading.Timer(0.05, asked.set)
        later.start()
        caller.post()
        later.join()
        assert server.accepted == 1


@either_way
def test_a_response_that_does_not_end_delays_the_next_request_for_a_moment_only(way: str) -> None:
    def talk(link: Link) -> None:
        link.request()
        link.send(*chunked(DONE)[:-1])
        link.wait()

    with serving(talk) as server, calling(way, server.url, end_timeout=0.01) as caller:
        for number in range(1, 4):
            caller.post(last=DONE)
            assert server.accepted == number
            until(lambda: server.open == 1)


@either_way
def test_the_end_of_a_response_is_not_awaited_if_its_connection_ends_too(way: str) -> None:
    head, *pieces, _ = chunked(DONE)
    head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)

    def talk(link: Link) -> None:
        link.request()
        link.send(head, *pieces)
        link.wait()

    with serving(talk) as server, calling(way, server.url) as caller:
        caller.post(last=DONE)
        server.wait_until_all_left()


@either_way
@complete_and_stream
def test_an_error_keeps_the_connection(way: str, stream: bool) -> None:
    with serving(talk_of_everything) as server, asking(way, native(server.url)) as asker:
        for _ in range(3):
            asker.error(stream=stream, refuse=True)
        assert asker.ask() == "Paris"
        assert server.accepted == 1


@pytest.mark.parametrize("together", [True, False], ids=["in one packet", "in two"])
@either_way
def test_what_follows_a_response_never_answers_the_next_request(way: str, together: bool) -> None:
    followed = threading.Event()
    number = iter(range(10))

    def talk(link: Link) -> None:
        link.request()
        answer, extra = http(b"answer %d" % next(number)), http(b"poison")
        link.send(answer + extra) if together else link.send(answer, extra)
        followed.set()
        link.wait()

    with serving(talk) as server, calling(way, server.url) as caller:
        for each in range(3):
            assert caller.post() == b"answer %d" % each
            assert followed.wait(PATIENCE)
            followed.clear()
        assert server.accepted == 3


@either_way
@complete_and_stream
def test_a_connection_closed_while_idle_costs_no_attempt(way: str, stream: bool) -> None:
    pieces = chunked(CHUNK, LAST, DONE) if stream else [http(ANSWER)]
    with serving(answering_once(*pieces)) as server, asking(way, native(server.url)) as asker:
        for _ in range(3):
            assert asker.ask(stream=stream) == "Paris"
            server.wait_until_all_left()
        assert server.accepted == 3


def test_a_connection_closed_while_idle_is_one_attempt_of_a_call() -> None:
    with (
        serving(answering_once(http(ANSWER))) as server,
        LLMManager(enable_caching=False, retry=RetryPolicy(max_attempts=1)) as llm,
    ):
        llm.register_model("m", native(server.url))
        for _ in range(3):
            assert len(llm.complete("q").ledger.sent) == 1
            server.wait_until_all_left()


def test_a_client_that_is_dropped_closes_its_connections() -> None:
    with serving(answering(http(ANSWER))) as server:
        native(server.url).send(Request(prompt="q"))
        gc.collect()
        server.wait_until_all_left()


@either_way
def test_a_connection_that_was_idle_for_long_is_not_trusted(way: str) -> None:
    """Half-open ones look fine: after a suspend, only their age shows it."""
    now = [1000.0]
    with (
        serving(answering(http(b"{}"))) as server,
        calling(way, server.url, clock=lambda: now[0]) as caller,
    ):
        caller.post()
        now[0] += 59
        caller.post()
        assert server.accepted == 1
        now[0] += 61
        caller.post()
        assert server.accepted == 2
        until(lambda: server.open == 1)


@either_way
def test_the_answer_to_a_request_that_was_not_read_arrives(way: str) -> None:
    """A server that refuses a large request need not read it, and closes."""
    refused = http(b"too large", "Connection: close", status="413 Content Too Large")

    def talk(link: Link) -> None:
        link.connection.recv(1000)
        link.send(refused)
        link.connection.shutdown(1)
        link.wait()

    with serving(talk) as server, asking(way, native(server.url)) as asker:
        error = asker.error(large="x" * 5_000_000)
        assert getattr(error, "status", None) == 413


@pytest.mark.parametrize("streaming", [False, True], ids=["complete", "stream"])
def test_hundreds_of_silent_connections_are_closed_at_once_when_cancelled(streaming: bool) -> None:
    fault = faults.stalled_stream(1) if streaming else faults.silence()
    with WireServer() as server:
        server.always(fault)
        adapter = native(server.openai_url)

        async def ask() -> None:
            if not streaming:
                await adapter.asend(Request(prompt="q"))
            async for _ in adapter.astream(Request(prompt="q")):
                pass

        async def main() -> None:
            tasks = [asyncio.create_task(ask()) for _ in range(200)]
            await asyncio.to_thread(until, lambda: server.connections == 200)
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(each) for each in done} == {asyncio.CancelledError}
            await asyncio.to_thread(until, lambda: server.connections == 0)

        asyncio.run(main())


@either_way
def test_abandoning_a_stream_closes_its_connection(way: str) -> None:
    def talk(link: Link) -> None:
        link.request()
        link.send(*chunked(CHUNK)[:-1])
        link.wait()

    with serving(talk) as server:
        adapter = native(server.url)

        async def leave() -> None:
            events = adapter.astream(Request(prompt="q"))
            await anext(events)
            await events.aclose()
            await asyncio.to_thread(server.wait_until_all_left)

        if way == "async":
            asyncio.run(leave())
        else:
            events = adapter.stream(Request(prompt="q"))
            next(events)
            events.close()
            server.wait_until_all_left()


@complete_and_stream
def test_an_event_loop_that_ends_leaves_no_connection(stream: bool) -> None:
    with serving(talk_of_everything) as server:
        adapter = native(server.url)

        async def ask() -> None:
            await adapter.asend(Request(prompt="q"))
            if stream:
                await anext(adapter.astream(Request(prompt="q")))  # and no further

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(3):
                asyncio.run(ask())
            gc.collect()
        server.wait_until_all_left()
        adapter.close()


@either_way
def test_closing_leaves_no_connection_and_the_next_call_opens_one(way: str) -> None:
    with serving(answering(http(ANSWER))) as server, asking(way, native(server.url)) as asker:
        asker.ask()
        asker.aclose()
        server.wait_until_all_left()
        assert asker.ask() == "Paris"
        assert server.accepted == 2


@forks
@either_way
def test_a_forked_child_opens_connections_of_its_own(way: str) -> None:
    with serving(answering(http(ANSWER))) as server:
        adapter = native(server.url)

        def ask() -> str:
            if way == "sync":
                return str(adapter.send(Request(prompt="q")).text)
            return str(asyncio.run(adapter.asend(Request(prompt="q"))).text)

        with asking(way, adapter) as parent:
            parent.ask()
            assert in_child(ask) == "Paris"
            assert parent.ask() == "Paris"
            assert server.accepted == 2


@forks
@either_way
def test_a_forked_child_disturbs_no_stream_of_its_parent(way: str) -> None:
    forked = threading.Event()
    answers = iter([True])

    def talk(link: Link) -> None:
        while link.request() is not None:
            if next(answers, False):
                *start, middle, last, done, end = chunked(CHUNK, CHUNK, LAST, DONE)
                link.send(*start)
                assert forked.wait(PATIENCE)
                link.send(middle + last + done + end)
            else:
                link.send(http(ANSWER))

    with serving(talk) as server, asyncio.Runner() as runner:
        adapter = native(server.url)
        request = Request(prompt="q", timeout=PATIENCE)

        def ask() -> str:
            if way == "sync":
                return str(adapter.send(request).text)
            return str(asyncio.run(adapter.asend(request)).text)

        events: Any = adapter.stream(request) if way == "sync" else adapter.astream(request)

        def step() -> Any:
            return next(events) if way == "sync" else runner.run(anext(events))

        assert step().text == "Paris"
        assert in_child(ask) == "Paris"
        forked.set()
        assert step().text == "Paris"
        assert step().finish_reason == "stop"
        runner.run(adapter.aclose())
        if way == "sync":
            events.close()
        else:
            runner.run(events.aclose())
        server.wait_until_all_left()


@complete_and_stream
def test_a_sync_request_is_cancelled_while_it_waits(stream: bool) -> None:
    reached = threading.Event()

    def talk(link: Link) -> None:
        link.request()
        reached.set()
        link.wait()

    scope = CancelScope()
    with serving(talk) as server, asking("sync", native(server.url)) as asker:

        def cancel() -> None:
            assert reached.wait(PATIENCE)
            scope.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with scope:
            assert type(asker.error(stream=stream)).__name__ == "NetworkError"
        thread.join()
        server.wait_until_all_left()


@either_way
def test_a_stream_that_is_dropped_closes_its_connection_without_the_garbage_collector(
    way: str,
) -> None:
    left = threading.Event()

    def talk(link: Link) -> None:
        link.request()
        link.send(*chunked(CHUNK)[:-1])
        link.connection.settimeout(5.0)
        link.wait()
        left.set()

    async def drop(server: Server) -> None:
        async for _ in llm.astream("capital?"):
            break
        await asyncio.to_thread(server.wait_until_all_left)

    with serving(talk) as server, LLMManager(enable_caching=False) as llm:
        llm.register_model("m", native(server.url))
        gc.disable()
        try:
            if way == "async":
                asyncio.run(drop(server))
            else:
                for _ in llm.stream("capital?"):
                    break
                server.wait_until_all_left()
        finally:
            gc.enable()
    assert left.is_set()


@either_way
def test_a_slow_consumer_stops_the_reading(way: str) -> None:
    blocked = threading.Event()
    sent = [0]
    flood = chunked(b": " + b"x" * 65_536 + b"\n")[1]

    def talk(link: Link) -> None:
        link.request()
        link.send(*chunked(CHUNK)[:-1])
        link.connection.settimeout(0.3)
        try:
            while sent[0] < 60_000_000:
                sent[0] += link.connection.send(flood)
        except TimeoutError:
            blocked.set()
        link.wait()

    with serving(talk) as server:
        adapter = native(server.url)

        async def rest() -> None:
            events = adapter.astream(Request(prompt="q"))
            await anext(events)
            assert await asyncio.to_thread(blocked.wait, PATIENCE)
            await events.aclose()

        if way == "async":
            asyncio.run(rest())
        else:
            events = adapter.stream(Request(prompt="q"))
            next(events)
            assert blocked.wait(PATIENCE)
            events.close()
    assert sent[0] < 20_000_000
