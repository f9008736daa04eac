"""What users set of the connections: where, what it does, and what is refused."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import (
    BreakerPolicy,
    ConfigurationError,
    ConnectionOptions,
    DeadlineExceededError,
    LLMManager,
    NetworkError,
    RetryPolicy,
    provider_for,
)
from agentkit.bedrock import LLMManager as BedrockManager
from agentkit.manager.targets import ProviderSpec
from tests.forks import forks, in_child
from tests.helpers import until
from tests.providers.transport.servers import (
    ANSWER,
    KEY,
    PATIENCE,
    Link,
    answering,
    calling,
    either_way,
    http,
    native,
    serving,
)

OPTIONS = ConnectionOptions(connect_timeout=2.5, max_keepalive_connections=3)


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"connect_timeout": 0}, "connect_timeout must be greater than 0, got 0", "finite number"),
        ({"keepalive_expiry": float("inf")}, "keepalive_expiry must be", "finite number"),
        ({"max_keepalive_connections": -1}, "must be at least 0, got -1", "whole number"),
        ({"max_keepalive_connections": 1.5}, "must be a whole number, got 1.5", "whole number"),
        ({"ca_bundle": ""}, "ca_bundle must be a path, got ''", "file or a folder"),
        ({"ca_bundle": False}, "ca_bundle must be a path, got False", "file or a folder"),
        ({"verify": False}, "no argument verify=", "ca_bundle="),
        ({"max_connections": 5}, "no argument max_connections=", "max_keepalive_connections="),
    ],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ConnectionOptions(**options)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


def register(**options: Any) -> None:
    with LLMManager(enable_caching=False) as llm:
        llm.register_model("gpt", "openai:m", **options)


def registered_bedrock(**options: Any) -> None:
    BedrockManager(["Claude 3 Haiku"], ["us-east-1"], **options).close()


DOORS: dict[str, Callable[..., Any]] = {
    "provider_for": lambda **options: provider_for("openai:m", api_key=KEY, **options),
    "google": lambda **options: provider_for("google:m", api_key=KEY, **options),
    "bedrock": lambda **options: provider_for("bedrock:Claude 3 Haiku@us-east-1", **options),
    "register_model": register,
    "agentkit.bedrock": registered_bedrock,
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_options_are_taken_with_the_native_transport_alone(
    door: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTKIT_TRANSPORT", raising=False)
    with pytest.raises(ConfigurationError, match="native transport") as caught:
        door(connections=OPTIONS)
    assert "transport='native'" in str(caught.value.hint)
    with pytest.raises(ConfigurationError, match="connections must be a ConnectionOptions, got 5"):
        door(connections=5, transport="native")
    door(connections=OPTIONS, transport="native")
    monkeypatch.setenv("AGENTKIT_TRANSPORT", "native")
    door(connections=OPTIONS)


def test_options_are_those_of_every_key_and_no_part_of_what_is_cached() -> None:
    adapter = native("http://127.0.0.1:1/v1", connections=OPTIONS)
    assert adapter.with_key("another").connections is OPTIONS
    plain = ProviderSpec("openai:m", {"max_tokens": 5})
    given = {"max_tokens": 5, "transport": "native", "connections": OPTIONS}
    assert ProviderSpec("openai:m", given).identity == plain.identity


@pytest.mark.wire
@either_way
def test_an_idle_connection_expires_as_the_options_say(way: str) -> None:
    now = [1000.0]
    with (
        serving(answering(http(b"{}"))) as server,
        calling(
            way,
            server.url,
            options=ConnectionOptions(keepalive_expiry=5),
            clock=lambda: now[0],
        ) as caller,
    ):
        caller.post()
        now[0] += 4
        caller.post()
        assert server.accepted == 1
        now[0] += 6
        caller.post()
        assert server.accepted == 2


@pytest.mark.wire
@either_way
@pytest.mark.parametrize("most", [0, 2])
def test_no_more_idle_connections_are_kept_than_the_options_say(way: str, most: int) -> None:
    options = ConnectionOptions(max_keepalive_connections=most)
    with (
        serving(answering(http(b"{}"))) as server,
        calling(way, server.url, options=options) as caller,
    ):
        caller.open_idle(5)
        until(lambda: server.open == most)
        caller.post()
        caller.post()
        until(lambda: server.open == most)
        assert server.accepted == (most or 2)


def hold_until(enough: threading.Event) -> Callable[[Link], None]:
    def talk(link: Link) -> None:
        while link.request() is not None:
            assert enough.wait(PATIENCE)
            link.send(http(ANSWER))

    return talk


def manager(url: str, **options: Any) -> LLMManager:
    llm = LLMManager(enable_caching=False, breaker=False)
    adapter = native(url)
    llm.register_model("gpt", adapter, retry=RetryPolicy(max_attempts=1), **options)
    return llm


@pytest.mark.wire
def test_callers_beyond_max_concurrency_wait_for_a_connection() -> None:
    enough = threading.Event()

    async def ask(llm: LLMManager) -> list[str]:
        asked = [asyncio.create_task(llm.agenerate("q", use_cache=False)) for _ in range(7)]
        while server.accepted < 2:
            await asyncio.sleep(0)
        enough.set()
        answers = await asyncio.gather(*asked)
        await llm.aclose()
        return [str(each) for each in answers]

    with serving(hold_until(enough)) as server:
        assert asyncio.run(ask(manager(server.url, max_concurrency=2))) == ["Paris"] * 7
        assert server.accepted == 2


@pytest.mark.wire
def test_the_error_of_a_caller_that_gets_no_connection_in_time_names_the_limit() -> None:
    enough = threading.Event()

    async def ask(llm: LLMManager) -> BaseException:
        first = asyncio.create_task(llm.agenerate("first"))
        while not server.accepted:
            await asyncio.sleep(0)
        try:
            await llm.agenerate("second", deadline=0.05)
        except DeadlineExceededError as error:
            return error
        finally:
            enough.set()
            await first
            await llm.aclose()
        pytest.fail("it answered")

    with serving(hold_until(enough)) as server:
        error = asyncio.run(ask(manager(server.url, max_concurrency=1)))
        assert "no slot of gpt (max_concurrency, limits) becomes free in time" in str(error)
        assert server.accepted == 1


def use_the_last_file_descriptor() -> None:
    """Have the system refuse the next one."""
    resource = pytest.importorskip("resource")
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))


@pytest.mark.wire
@forks
@either_way
def test_a_machine_without_file_descriptors_blames_no_provider(way: str) -> None:
    """The error says so, after three attempts; the circuit breaker of the model stays closed."""

    def ask() -> str:
        retry = RetryPolicy(max_attempts=3, base_delay=0.001, max_delay=0.001)
        llm = LLMManager(enable_caching=False, breaker=BreakerPolicy(failure_threshold=1))
        options = ConnectionOptions(max_keepalive_connections=0)
        llm.register_model("gpt", native(server.url, connections=options), retry=retry)
        with asyncio.Runner() as runner:

            def generate() -> str:
                return runner.run(llm.agenerate("q")) if way == "async" else llm.generate("q")

            generate()  # imports what it needs
            use_the_last_file_descriptor()
            with pytest.raises(NetworkError) as caught:
                generate()
        state = llm.get_model_info("gpt")["circuit_breaker_state"]
        return f"{caught.value}; {state}; {llm.get_model_info('gpt')['stats']['requests']}"

    with serving(answering(http(ANSWER))) as server:
        outcome = in_child(ask)
    assert "(Too many open files)" in outcome
    assert "set max_concurrency=, or raise its limit of open files" in outcome
    assert outcome.endswith("; closed; 4")  # the first was answered
