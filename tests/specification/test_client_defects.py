"""Each defect found in the systems the client documents describe: the same situation, put right.

The names carry the specification's ids, N1 to N15.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

import agentkit
from agentkit import (
    AuthenticationError,
    ConnectionPool,
    LLMConfig,
    LLMConnectionError,
    LLMManager,
    LLMPoolExhaustedError,
    LLMProvider,
    LLMTimeoutError,
    LoggingMiddleware,
    Message,
    MetricsMiddleware,
    Middleware,
    NetworkError,
    PoolConfig,
    RateLimitError,
    RateLimitMiddleware,
    RateLimits,
    RetryMiddleware,
    RetryPolicy,
    ServerError,
    get_llm_manager,
)
from agentkit.config import load_settings
from agentkit.testing import FakeClock, MockLLMClient, WireServer, faults
from agentkit.types import Request, Response, Usage
from tests.specification.clients import (
    PROMPT,
    Gathering,
    Keyed,
    anthropic,
    configured,
    key_of,
    openai_file,
    pooled,
)


class City(BaseModel):
    name: str


@pytest.mark.promise("N1")
@pytest.mark.wire
def test_n1_the_retry_middleware_retries(tmp_path: Path) -> None:
    again = RetryMiddleware(max_retries=3, base_delay=0.0)
    with (
        WireServer(reply="Paris.") as server,
        configured(tmp_path, anthropic(server), retry=None, middleware=[again]) as llm,
    ):
        server.script(faults.status(503), faults.reset())
        assert asyncio.run(llm.get_client().chat("hi")) == "Paris."
        assert len(server.requests) == 3


@pytest.mark.promise("N2")
@pytest.mark.wire
def test_n2_a_failure_reaches_metrics_and_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "agentkit.requests")
    metrics = MetricsMiddleware()
    layers = [LoggingMiddleware(), metrics]
    with (
        WireServer() as server,
        configured(tmp_path, anthropic(server), middleware=layers) as llm,
    ):
        server.always(faults.status(503))
        with pytest.raises(ServerError):
            asyncio.run(llm.get_client().chat("hi"))
        assert llm.get_status()["metrics"]["failed_requests"] == 1
    assert metrics.metrics["failed_requests"] == 3, "each attempt"
    assert [each.levelname for each in caplog.records].count("WARNING") == 3


@pytest.mark.promise("N3")
def test_n3_no_minute_holds_more_than_the_limit_however_often_a_caller_polls() -> None:
    clock = FakeClock()
    admitted: list[float] = []

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        admitted.append(clock())
        return "x"

    limits = RateLimitMiddleware(50, None, None, on_limit="raise")
    llm = LLMManager(enable_caching=False, clock=clock, middleware=[limits])
    llm.register_model("m", model)
    for number in range(1300):
        try:
            llm.generate(f"{number}")
        except LLMPoolExhaustedError:
            clock.advance(0.1)
    assert len(admitted) >= 100
    assert admitted[49] == admitted[0], "fifty at once"
    for index in range(len(admitted) - 50):
        assert admitted[index + 50] - admitted[index] >= 60.0


@pytest.mark.promise("N4")
def test_n4_real_usage_corrects_the_limiter_and_waiting_holds_no_lock() -> None:
    clock = FakeClock()

    def small(key: str) -> Response[Any]:
        return Response("x", Usage(5, 5))

    limits = RateLimits(output_tokens_per_minute=1000)
    llm = pooled(Keyed(small), 1, clock=clock, limits=limits)
    since = clock()
    for number in range(20):
        llm.complete(f"{number}", max_tokens=900)
    assert clock() == since

    async def main() -> None:
        llm = pooled(Keyed(small), 1, limits=RateLimits(requests_per_minute=1))
        llm.register_model("other", lambda prompt, kwargs: "free")
        client = llm.get_client("m")
        await client.chat("one")
        waiting = asyncio.create_task(client.chat("two"))
        while llm.get_status()["pools"]["m"]["waiting"] == 0:
            await asyncio.sleep(0)
        assert await llm.get_client("other").chat("hi") == "free"
        waiting.cancel()
        await asyncio.wait([waiting])
        assert llm.get_status()["pools"]["m"]["waiting"] == 0

    asyncio.run(main())


@pytest.mark.promise("N5")
@pytest.mark.wire
def test_n5_no_key_is_written_into_the_environment(tmp_path: Path) -> None:
    limited = "rate_limits: {requests_per_minute: 50}"
    with WireServer() as server:
        text = anthropic(server, "[secret-one]", limited)
        text += openai_file(server).partition("\n")[2]
        before = dict(os.environ)
        with configured(tmp_path, text) as llm:
            for name in ("anthropic", "openai"):
                asyncio.run(llm.get_client(name).chat("hi"))
        assert [key_of(each) for each in server.requests] == ["secret-one", "any"]
        assert dict(os.environ) == before


@pytest.mark.promise("N6")
def test_n6_concurrent_calls_spread_at_once_and_a_waiter_that_leaves_blocks_nobody() -> None:
    async def main() -> None:
        Gathering.here, Gathering.opened = Counter(), asyncio.Event()
        pool = PoolConfig(max_size=6)
        llm = pooled(Gathering(str), 3, max_connections_per_key=2, config=pool)
        client = llm.get_client()
        async with asyncio.timeout(20):
            six = [asyncio.create_task(client.chat(f"{number}")) for number in range(5)]
            while Gathering.here.total() < 5:
                await asyncio.sleep(0)
            six.append(asyncio.create_task(client.chat("sixth")))
            waiter = asyncio.create_task(client.chat("waits"))
            waiter.cancel()
            await asyncio.gather(*six)
            assert Gathering.here == {"k1": 2, "k2": 2, "k3": 2}
            assert await client.chat("after") in ("k1", "k2", "k3")

    asyncio.run(main())


@pytest.mark.promise("N7")
def test_n7_a_bad_key_leaves_a_failing_one_rests_and_no_check_is_paid_for() -> None:
    clock = FakeClock()
    failing = True

    def behave(key: str) -> str:
        if key == "k1":
            raise AuthenticationError("revoked", status=401)
        if key == "k2" and failing:
            raise ServerError("broken", status=500)
        return key

    provider = Keyed(behave)
    llm = pooled(provider, 3, clock=clock)
    assert {llm.generate(f"{number}") for number in range(20)} == {"k3"}
    assert (provider.asked["k1"], provider.asked["k2"]) == (1, 3)
    before = provider.asked.total()
    clock.advance(3600.0)
    assert provider.asked.total() == before
    failing = False
    assert {llm.generate(f"{number}") for number in range(4)} == {"k2", "k3"}
    assert provider.asked["k1"] == 1


@pytest.mark.promise("N7")
def test_n7_what_a_pools_configuration_says_is_done() -> None:
    clock = FakeClock()
    made: list[str] = []

    class Counted(Keyed):
        def with_key(self, key: str) -> Keyed:
            made.append(key)
            return super().with_key(key)

    def behave(key: str) -> str:
        raise NetworkError("down")

    config = PoolConfig(retry_on_error=False, idle_timeout=10.0, max_lifetime=15.0, min_size=2)
    provider = Counted(behave)
    llm = pooled(provider, 2, clock=clock, config=config)
    assert made == ["k1", "k2"], "min_size"
    with pytest.raises(NetworkError):
        llm.generate("hi")
    assert provider.asked.total() == 1, "retry_on_error"
    llm = LLMManager(enable_caching=False, clock=clock)
    pool = ConnectionPool(["k9"], config=config)
    llm.register_model("m", Counted(lambda key: key), pool=pool)
    for pause, clients in [(9.0, 1), (5.0, 1), (1.5, 2), (10.5, 3)]:
        llm.generate("hi")
        clock.advance(pause)
        llm.generate("hi")
        assert made.count("k9") == clients, pause


@pytest.mark.promise("N8")
def test_n8_the_metrics_of_the_status_are_flat() -> None:
    client = MockLLMClient(["x"])
    asyncio.run(client.chat("hi"))
    metrics = client._manager.get_status()["metrics"]
    assert metrics["total_requests"] == 1
    assert metrics["providers"]["mock"]["requests_by_model"] == {"mock": 1}


@pytest.mark.promise("N9")
@pytest.mark.wire
def test_n9_a_closed_manager_is_not_handed_out_again_nor_one_of_another_loop(
    tmp_path: Path,
) -> None:
    async def main() -> LLMManager:
        llm = await get_llm_manager(tmp_path / "llm.yaml")
        await llm.aclose()
        llm = await get_llm_manager(tmp_path / "llm.yaml")
        assert await llm.get_client().chat("hi") == "Paris."
        return llm

    with WireServer(reply="Paris.") as server:
        (tmp_path / "llm.yaml").write_text(anthropic(server), "utf-8")
        first, second = asyncio.run(main()), asyncio.run(main())
        assert first is not second
        for each in (first, second):
            each.close()


@pytest.mark.promise("N10")
@pytest.mark.wire
@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_n10_temperature_zero_stays_zero_and_none_is_not_made_up(
    provider: str, tmp_path: Path
) -> None:
    with WireServer() as server:
        text = (openai_file if provider == "openai" else anthropic)(server)
        with configured(tmp_path, text) as llm:
            client = llm.get_client()
            asyncio.run(client.complete(PROMPT, **LLMConfig(temperature=0).to_dict()))
            asyncio.run(client.complete(PROMPT, **LLMConfig().to_dict()))
        zero, none = (each.body for each in server.requests)
    assert zero["temperature"] == 0
    assert "temperature" not in none


@pytest.mark.promise("N11")
@pytest.mark.wire
def test_n11_a_typed_answer_takes_the_way_of_any_other(tmp_path: Path) -> None:
    """Retry, limits, metrics and each key's own model; the system prompt in its own place."""
    metrics = MetricsMiddleware()
    models = "models: [one, two]\nrate_limits: {requests_per_minute: 50}"
    with (
        WireServer(reply='{"name": "Paris"}') as server,
        configured(tmp_path, anthropic(server, "[k1, k2]", models), middleware=[metrics]) as llm,
    ):
        server.script(faults.status(503))
        client = llm.get_client(LLMProvider.ANTHROPIC)
        messages = [Message("system", "Be brief."), Message("user", "Which city?")]
        for _ in range(2):
            city = asyncio.run(client.complete(messages, response_model=City))
            assert city == City(name="Paris")
        asked = [(key_of(each), each.model) for each in server.requests]
        assert set(asked) == {("k1", "one"), ("k2", "two")}
        for each in server.requests:
            assert each.body["system"].startswith("Be brief.")
            assert [message["role"] for message in each.body["messages"]] == ["user"]
        used = [each["used"] for each in llm.get_status()["pools"]["anthropic"]["clients"]]
    assert (metrics.metrics["total_requests"], metrics.metrics["failed_requests"]) == (3, 1)
    assert sum(each["requests_per_minute"] for each in used) == 3


@pytest.mark.promise("N12")
@pytest.mark.wire
def test_n12_errors_are_told_apart_by_type_and_no_sdk_retries_underneath(tmp_path: Path) -> None:
    raised: list[Exception] = []

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        raise raised[-1]

    llm = LLMManager(enable_caching=False, retry=RetryPolicy(max_attempts=1), breaker=False)
    llm.register_model("m", model)
    request: Any = None
    table: list[tuple[Exception, type[Exception]]] = [
        (openai.APITimeoutError(request), LLMTimeoutError),
        (openai.APIConnectionError(request=request), LLMConnectionError),
        (RuntimeError("rate limit, timeout, connection and 401 are only words"), RuntimeError),
    ]
    assert str(table[0][0]) == "Request timed out."
    for error, kind in table[:2]:
        raised.append(error)
        with pytest.raises(kind):
            asyncio.run(llm.get_client().chat("hi"))
    raised.append(table[2][0])
    with pytest.raises(agentkit.ProviderError) as told:
        asyncio.run(llm.get_client().chat("hi"))
    assert type(told.value) is agentkit.ProviderError
    with WireServer() as server, configured(tmp_path, anthropic(server)) as wired:
        server.script(*[faults.reset()] * 3)
        with pytest.raises(LLMConnectionError) as caught:
            asyncio.run(wired.get_client().chat("hi"))
        assert len(server.requests) == len(caught.value.ledger or ()) == 3


@pytest.mark.promise("N13")
@pytest.mark.parametrize("level", ["request", "attempt"])
def test_n13_streams_pass_all_of_the_middleware_and_its_errors_surface(level: Any) -> None:
    told: list[str] = []

    class Told(Middleware):
        def process_response(self, request: Request, response: Response[Any]) -> Response[Any]:
            told.append(response.text)
            if response.text == "bad answer":
                raise ZeroDivisionError
            return response

        def process_error(self, request: Request, error: Exception) -> Response[Any]:
            told.append(type(error).__name__)
            raise error

    answers: list[Any] = ["a b", NetworkError("down"), "bad answer", "bad answer"]

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    layer = Told()
    layer.level = level  # type: ignore[misc]
    retry = RetryPolicy(max_attempts=1)
    llm = LLMManager(enable_caching=False, retry=retry, middleware=[layer])
    llm.register_model("m", model)
    client = llm.get_client()

    async def streamed() -> str:
        return "".join([chunk async for chunk in client.stream_chat("hi")])

    assert asyncio.run(streamed()) == "a b"
    with pytest.raises(NetworkError):
        asyncio.run(streamed())
    with pytest.raises(ZeroDivisionError):
        asyncio.run(streamed())
    with pytest.raises(ZeroDivisionError):
        asyncio.run(client.chat("hi"))
    assert told == ["a b", "NetworkError", "bad answer", "bad answer"]


@pytest.mark.promise("N14")
def test_n14_what_was_promised_and_absent_is_there(tmp_path: Path) -> None:
    for name in ("LLMError", "RateLimitError", "InvalidRequestError", "NetworkError"):
        assert issubclass(getattr(agentkit, name), agentkit.LLMError)
    assert RateLimitError("slow", retry_after=7.0).retry_after == 7.0
    assert {*LLMProvider} >= {"google", "groq", "local"}
    assert "system_prompt" in LLMConfig(system_prompt="Be brief.").to_dict()
    assert len(ConnectionPool(api_keys=["a", "b"])) == 2
    assert asyncio.run(MockLLMClient(responses=["x"]).chat("hi")) == "x"
    settings = load_settings(None, {"ANTHROPIC_API_KEYS": "k1,k2"})
    assert len(settings.providers["anthropic"].keys) == 2
    clock = FakeClock()
    errors = [RateLimitError("slow", retry_after=4.0)]

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        if errors:
            raise errors.pop()
        return "x"

    llm = LLMManager(enable_caching=False, clock=clock)
    llm.register_model("m", model)
    llm.generate("hi")
    assert clock.sleeps[0] >= 4.0


@pytest.mark.promise("N15", "S4-21")
def test_n15_the_documents_own_configuration_loads(tmp_path: Path) -> None:
    """Three keys, three models and one entry of limits, which holds for each key."""
    document = (Path(__file__).parent / "llm_architecture.md").read_text("utf-8")
    text = re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)[0]
    with configured(tmp_path, text) as llm:
        clients = llm.get_status()["pools"]["anthropic"]["clients"]
    assert [each["limits"]["requests_per_minute"] for each in clients] == [50, 50, 50]
