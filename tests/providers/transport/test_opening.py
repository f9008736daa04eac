"""Connections are opened in time or not at all, and ahead of the first call where that is asked."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from agentkit import (
    ConfigurationError,
    ConnectionPool,
    LLMManager,
    NetworkError,
    UnknownModelError,
)
from agentkit.providers.registry import provider_for
from agentkit.providers.transport.http.failures import HttpTimeoutError
from agentkit.providers.transport.http.resolver import Resolver
from agentkit.providers.transport.options import ConnectionOptions
from tests.forks import forks, in_child
from tests.helpers import until
from tests.providers.transport.servers import (
    ANSWER,
    PATIENCE,
    Link,
    answering,
    asking,
    calling,
    either_way,
    http,
    serving,
)

pytestmark = pytest.mark.wire
HOST = "api.example.test"
SHORT = 0.05


class Names:
    """A resolver of the system that knows `HOST` as this machine, once it `answers`."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = 0
        self.exists = True
        self._system = socket.getaddrinfo

    def getaddrinfo(self, host: str, *args: Any, **options: Any) -> Any:
        if host != HOST:
            return self._system(host, *args, **options)
        if options.get("flags") == socket.AI_NUMERICHOST:
            raise socket.gaierror("it is a name")
        self.asked += 1
        assert self.answers.wait(PATIENCE)
        if not self.exists:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._system("127.0.0.1", *args, **options)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    found = Names()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    yield found
    found.answers.set()
    until(lambda: not any(each.name == "agentkit-dns" for each in threading.enumerate()))


@either_way
def test_a_name_that_is_not_found_in_time(way: str, names: Names) -> None:
    with calling(
        way, f"http://{HOST}/v1", options=ConnectionOptions(connect_timeout=SHORT)
    ) as caller:
        for _ in range(2):
            with pytest.raises(HttpTimeoutError) as caught:
                caller.post()
            message = f"DNS: no address of {HOST} was found within {SHORT} s"
            assert str(caught.value) == message
    assert names.asked == 1  # the second request joins the lookup of the first


@either_way
def test_a_name_that_is_found_late_is_found(way: str, names: Names) -> None:
    later = threading.Timer(SHORT, names.answers.set)
    later.start()
    with (
        serving(answering(http(b"{}"))) as server,
        calling(way, f"http://{HOST}:{server.port}") as caller,
    ):
        assert caller.post() == b"{}"
    later.join()


@either_way
def test_the_end_of_an_event_loop_does_not_wait_for_a_name(way: str, names: Names) -> None:
    """The lookup of asyncio runs in the loop's own pool of threads, which its end waits for."""
    adapter = provider_for("openai:m", api_key="k", base_url=f"http://{HOST}", transport="native")
    with asking(way, adapter) as asker:
        error = asker.error(timeout=SHORT)
    assert f"DNS: no address of {HOST} was found in the " in str(error)
    assert not names.answers.is_set()


@either_way
def test_a_name_that_does_not_exist_is_a_failed_connection(way: str, names: Names) -> None:
    names.exists = False
    names.answers.set()
    adapter = provider_for("openai:m", api_key="k", base_url=f"http://{HOST}", transport="native")
    with asking(way, adapter) as asker:
        error = asker.error()
    assert isinstance(error, NetworkError)
    assert f"at http://{HOST} (Name or service not known)" in str(error)


def test_lookups_at_the_same_time_are_one(names: Names) -> None:
    async def ask() -> None:
        tasks = [asyncio.create_task(resolver.afind((HOST, 80))) for _ in range(50)]
        await asyncio.sleep(0)
        tasks[0].cancel()  # the others keep their lookup
        names.answers.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert {each[0][4] for each in found[1:]} == {("127.0.0.1", 80)}  # type: ignore[index]

    resolver = Resolver()
    asyncio.run(ask())
    assert names.asked == 1
    resolver.find((HOST, 80), PATIENCE)
    assert names.asked == 2  # nothing is kept: what the system caches, it caches


@forks
def test_a_forked_child_does_not_wait_for_the_lookup_of_its_parent(names: Names) -> None:
    resolver = Resolver()
    with pytest.raises(TimeoutError):
        resolver.find((HOST, 80), SHORT)

    def ask() -> int:
        names.answers.set()
        resolver.find((HOST, 80), PATIENCE)
        return names.asked

    assert in_child(ask) == "2"


@either_way
def test_a_server_that_accepts_no_connection(way: str, deaf: str) -> None:
    with (
        calling(way, deaf, options=ConnectionOptions(connect_timeout=SHORT)) as caller,
        pytest.raises(HttpTimeoutError) as caught,
    ):
        caller.post()
    place = urlsplit(deaf).netloc
    message = f"connect: {place} did not accept a connection within {SHORT} s"
    assert str(caught.value) == message


@either_way
def test_connections_that_are_opened_ahead_are_used(way: str) -> None:
    with serving(answering(http(b"{}"))) as server, calling(way, server.url) as caller:
        caller.open_idle(3)
        until(lambda: server.accepted == 3)
        caller.open_idle(3)
        assert [caller.post() for _ in range(5)] == [b"{}"] * 5
        assert (server.accepted, server.open) == (3, 3)


@either_way
def test_a_connection_that_was_opened_ahead_and_closed_by_the_server_is_replaced(way: str) -> None:
    left = iter([True])

    def talk(link: Link) -> None:
        if not next(left, False):
            answering(http(b"{}"))(link)

    with serving(talk) as server, calling(way, server.url) as caller:
        caller.open_idle(1)
        until(lambda: server.accepted == 1)
        server.wait_until_all_left()
        assert caller.post() == b"{}"
        assert server.accepted == 2


@either_way
def test_opening_ahead_fails_as_a_call_does(way: str, deaf: str) -> None:
    options = ConnectionOptions(connect_timeout=SHORT)
    with calling(way, deaf, options=options) as caller, pytest.raises(HttpTimeoutError):
        caller.open_idle(2)


def warm_up(llm: LLMManager, way: str, **options: Any) -> Any:
    if way == "sync":
        return llm.warm_up(**options)
    return asyncio.run(llm.awarm_up(**options))


@either_way
def test_a_manager_opens_connections_for_each_key_of_each_model(way: str) -> None:
    with serving(answering(http(ANSWER))) as server, LLMManager(enable_caching=False) as llm:
        native: dict[str, Any] = {"api_key": "k", "base_url": server.url, "transport": "native"}
        models = {
            "one": provider_for("openai:m", **native),
            "keys": provider_for("groq:m", **native),
            "sdk": provider_for("openai:m", **{**native, "transport": "sdk"}),
            "down": provider_for("openai:m", **{**native, "base_url": "http://127.0.0.1:1"}),
        }
        for name, adapter in models.items():
            pool = ConnectionPool(["a", "b"]) if name == "keys" else None
            llm.register_model(name, adapter, pool=pool)
        llm.register_model("function", lambda prompt, kwargs: "ok")
        failed = warm_up(llm, way, connections=2)
        until(lambda: server.accepted == 2 + 2 * 2)
        assert list(failed) == ["down"]
        assert isinstance(failed["down"], NetworkError)
        assert llm.get_model_info("down")["circuit_breaker_state"] == "closed"
        assert not llm.get_metrics()["total_requests"]
        for adapter in models.values():
            adapter.close()


def test_the_first_calls_use_what_was_opened_ahead() -> None:
    with serving(answering(http(ANSWER))) as server, LLMManager(enable_caching=False) as llm:
        adapter = provider_for("openai:m", api_key="k", base_url=server.url, transport="native")
        llm.register_model("m", adapter)

        async def main() -> None:
            assert not await llm.awarm_up("m", connections=2)
            await asyncio.gather(*(llm.acomplete("q") for _ in range(2)))
            assert server.accepted == 2

        assert not llm.warm_up(["m"])
        llm.complete("q")
        assert server.accepted == 1
        server.accepted = 0
        asyncio.run(main())
        adapter.close()


@either_way
def test_what_cannot_be_opened_ahead(way: str) -> None:
    llm = LLMManager(enable_caching=False)
    with pytest.raises(UnknownModelError):
        warm_up(llm, way, model="unknown")
    with pytest.raises(ConfigurationError, match="connections must be at least 1"):
        warm_up(llm, way, connections=0)
    llm.close()
    with pytest.raises(ConfigurationError, match="closed"):
        warm_up(llm, way)
