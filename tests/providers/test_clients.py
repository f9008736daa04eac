"""Clients: one for blocking calls, one for each event loop, new after a fork, none left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentkit import ConnectionPool, LLMManager
from agentkit.providers.registry import provider_for
from agentkit.providers.transport.clients import SdkClients
from agentkit.testing import WireServer


class Blocking:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Async:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed_in: list[asyncio.AbstractEventLoop] = []

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed_in.append(asyncio.get_running_loop())


def clients() -> SdkClients[Blocking, Async]:
    return SdkClients(Blocking, Async)


def test_sync_calls_share_one_client_across_threads() -> None:
    held = clients()
    barrier = threading.Barrier(8)

    def ask() -> Blocking:
        barrier.wait()
        return held.sync()

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(ask) for _ in range(8)]
    assert len({id(each.result()) for each in futures}) == 1


def test_an_event_loop_has_one_client_of_its_own() -> None:
    held = clients()

    async def main() -> Async:
        first = held.of_loop()
        assert held.of_loop() is first
        return first

    first, second = asyncio.run(main()), asyncio.run(main())
    assert first is not second
    assert first.loop is not second.loop


def test_the_end_of_an_event_loop_closes_its_client_in_it() -> None:
    held = clients()

    async def main() -> Async:
        return held.of_loop()

    client = asyncio.run(main())
    assert client.closed_in == [client.loop]


def test_a_loop_closed_without_shutdown_leaves_no_client_behind() -> None:
    held = clients()

    async def main() -> weakref.ref[Async]:
        return weakref.ref(held.of_loop())

    def run_in_a_loop_of_its_own() -> weakref.ref[Async]:
        loop = asyncio.new_event_loop()
        client = loop.run_until_complete(main())
        loop.close()
        return client

    made = [*(run_in_a_loop_of_its_own() for _ in range(5)), asyncio.run(main())]
    gc.collect()
    assert [client() for client in made] == [None] * 6
    held.close()


def test_close_closes_each_client_once_and_the_next_call_gets_new_ones() -> None:
    held = clients()
    blocking = held.sync()

    async def main() -> tuple[Async, Async]:
        mine = held.of_loop()
        await held.aclose()
        assert mine.closed_in == [asyncio.get_running_loop()]
        return mine, held.of_loop()

    mine, later = asyncio.run(main())
    assert later is not mine
    held.close()
    assert blocking.closed == 1
    assert held.sync() is not blocking
    assert (len(mine.closed_in), len(later.closed_in)) == (1, 1)


def test_close_from_another_thread_closes_a_client_in_its_own_loop() -> None:
    held = clients()

    async def main() -> tuple[Async, Async]:
        mine = held.of_loop()
        await asyncio.to_thread(held.close)
        successor = held.of_loop()
        while not mine.closed_in:
            await asyncio.sleep(0)
        assert held.of_loop() is successor
        return mine, successor

    mine, successor = asyncio.run(main())
    assert mine.closed_in == [mine.loop]
    assert successor.closed_in == [mine.loop]


def test_close_closes_the_client_of_a_loop_that_is_not_running() -> None:
    held = clients()

    async def main() -> Async:
        return held.of_loop()

    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(main())
    held.close()
    loop.close()
    assert client.closed_in == [loop]


def test_an_error_while_closing_a_client_is_ignored() -> None:
    class Stubborn(Blocking):
        def close(self) -> None:
            raise OSError

    class AsyncStubborn(Async):
        async def close(self) -> None:
            raise OSError

    held = SdkClients(Stubborn, AsyncStubborn)
    held.sync()

    async def main() -> None:
        held.of_loop()
        await held.aclose()
        held.of_loop()

    asyncio.run(main())
    held.close()


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_gets_new_clients_and_leaves_the_parents_open() -> None:
    held = clients()
    before = held.sync()
    child = os.fork()
    if child == 0:
        new = held.sync() is not before
        held.close()
        os._exit(0 if new and before.closed == 0 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert held.sync() is before


@pytest.mark.wire
@pytest.mark.parametrize("provider", ["openai", "openai-responses", "groq", "anthropic"])
def test_many_short_event_loops_leave_no_connection_open(provider: str) -> None:
    """`asyncio.run` around each call, as scripts do; a leak would be a ResourceWarning, too."""
    with WireServer(reply="Paris.") as server, LLMManager(enable_caching=False) as llm:
        urls = {"groq": server.groq_url, "anthropic": server.anthropic_url}
        url = urls.get(provider, server.openai_url)
        llm.register_model("m", provider_for(f"{provider}:some", api_key="k", base_url=url))

        async def leave_early() -> None:
            async with llm.astream("capital?") as stream:
                async for _ in stream:
                    break

        for _ in range(3):
            assert asyncio.run(llm.acomplete("capital?")).text == "Paris."
            asyncio.run(leave_early())
        server.wait_until(lambda each: each.connections == 0)
    gc.collect()


@pytest.mark.wire
@pytest.mark.parametrize("keys", [None, ["a", "b"]], ids=["no pool", "keys"])
@pytest.mark.parametrize("change", ["replaced", "unregistered"])
def test_a_replaced_model_is_closed_with_its_last_call(
    keys: list[str] | None, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WireServer(reply="Paris, in France.") as server, LLMManager(enable_caching=False) as llm:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")

        def register() -> None:
            pool = None if keys is None else ConnectionPool(keys)
            llm.register_model("m", "openai:some", pool=pool, replace=True)

        register()
        assert llm.complete("capital?").text
        for _ in range(2):
            with llm.stream("capital?", model="m") as stream:
                next(stream)
                if change == "replaced":
                    register()
                else:
                    llm.unregister_model("m")
                    register()
                assert server.connections > 0
                assert "".join(stream) == " in France."
            del stream
            server.wait_until(lambda each: each.connections == 0)


@pytest.mark.wire
def test_an_idle_model_is_closed_when_it_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with WireServer() as server, LLMManager(enable_caching=False) as llm:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        for _ in range(3):
            llm.register_model("m", "openai:some", replace=True)
            server.wait_until(lambda each: each.connections == 0)
            llm.complete("capital?")
            assert server.connections == 1
