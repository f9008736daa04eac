"""The pooled client document's promises, S4-01 to S4-50, where no other test proves them."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentkit import (
    ConnectionPool,
    LLMAuthenticationError,
    LLMConfigurationError,
    LLMConnectionError,
    LLMException,
    LLMManager,
    LLMPoolExhaustedError,
    LLMProviderError,
    LLMRateLimitError,
    LLMTimeoutError,
    Middleware,
    RateLimitMiddleware,
    RateLimits,
    RetryPolicy,
)
from agentkit.testing import FakeClock, WireServer, faults
from agentkit.types import Request, Response
from tests.specification.clients import PROMPT, Keyed, anthropic, configured, pooled

SECRET = "made-up-key-4711"
CANARY = "canary-prompt"


def scripted(error: BaseException) -> LLMManager:
    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        raise error

    llm = LLMManager(enable_caching=False, clock=FakeClock())
    llm.register_model("m", model)
    return llm


@pytest.mark.promise("S4-09")
@pytest.mark.wire
def test_s4_09_a_third_provider_stands_beside_the_two(tmp_path: Path) -> None:
    """Its client is found by its own name, and it may be what the others fall back on."""
    with WireServer(reply="Paris.") as server, configured(tmp_path, anthropic(server)) as llm:
        llm.register_model("third", lambda prompt, kwargs: "by the third", {"provider": "mine"})
        assert asyncio.run(llm.get_client("mine").chat("hi")) == "by the third"
        assert asyncio.run(llm.get_client("anthropic").chat("hi")) == "Paris."
        llm.set_fallback_chain(["anthropic", "third"])
        server.always(faults.status(401))
        assert asyncio.run(llm.get_client().chat("hi")) == "by the third"


@pytest.mark.promise("S4-11")
@pytest.mark.parametrize("level", ["request", "attempt"])
def test_s4_11_middleware_sees_request_response_and_error(level: Any) -> None:
    told: list[str] = []

    class Told(Middleware):
        def process_request(self, request: Request) -> Request:
            told.append(f"asked {request.text}")
            return request

        def process_response(self, request: Request, response: Response[Any]) -> Response[Any]:
            told.append(f"answered {response.text}")
            return response

        def process_error(self, request: Request, error: Exception) -> Response[Any]:
            told.append(type(error).__name__)
            raise error

    answers: list[Any] = ["fine", ConnectionError("down")]

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
    asyncio.run(client.chat("one"))
    with pytest.raises(LLMConnectionError):
        asyncio.run(client.chat("two"))
    assert told == ["asked one", "answered fine", "asked two", "NetworkError"]


@pytest.mark.promise("S4-25")
@pytest.mark.wire
def test_s4_25_temperature_zero_and_the_token_limit_reach_the_provider(tmp_path: Path) -> None:
    with WireServer() as server, configured(tmp_path, anthropic(server)) as llm:
        client = llm.get_client()
        asyncio.run(client.complete(messages=PROMPT, temperature=0, max_tokens=100))
        body = server.requests[0].body
    assert (body["temperature"], body["max_tokens"]) == (0, 100)


@pytest.mark.promise("S4-26")
@pytest.mark.wire
def test_s4_26_a_stream_left_early_gives_slot_and_connection_back(tmp_path: Path) -> None:
    one = "max_concurrency: 1"
    with (
        WireServer(reply="one two three four") as server,
        configured(tmp_path, anthropic(server, more=one)) as llm,
    ):

        async def main() -> list[str]:
            chunks = []
            client = llm.get_client()
            async with client.stream_complete(PROMPT) as stream:
                async for chunk in stream:
                    assert isinstance(chunk, str)
                    chunks.append(chunk)
                    break
            assert llm.get_status()["pools"]["anthropic"]["in_use_clients"] == 0
            return [*chunks, "".join([c async for c in client.stream_complete(PROMPT)])]

        first, whole = asyncio.run(main())
        assert whole.startswith(first)
        assert whole == "one two three four"
    server.wait_until(lambda each: each.connections == 0)


def _no_pool() -> LLMManager:
    llm = LLMManager(enable_caching=False, middleware=[RateLimitMiddleware(1, on_limit="raise")])
    llm.register_model("m", lambda prompt, kwargs: "x")
    llm.generate("the only one of this minute")
    return llm


class Refused(Exception):
    status_code = 401


class Throttled(Exception):
    status_code = 429


class Broken(Exception):
    status_code = 500


EIGHT: dict[type[Exception], Callable[[], LLMManager]] = {
    LLMProviderError: lambda: scripted(Broken()),
    LLMConnectionError: lambda: scripted(ConnectionResetError()),
    LLMRateLimitError: lambda: scripted(Throttled()),
    LLMAuthenticationError: lambda: scripted(Refused()),
    LLMTimeoutError: lambda: scripted(TimeoutError()),
    LLMPoolExhaustedError: _no_pool,
    LLMConfigurationError: lambda: LLMManager(enable_caching=False),
}


@pytest.mark.promise("S4-27")
@pytest.mark.parametrize("kind", EIGHT, ids=lambda kind: kind.__name__)
def test_s4_27_each_of_the_eight_exceptions_is_raised_and_is_an_llm_exception(
    kind: type[Exception],
) -> None:
    assert issubclass(kind, LLMException)
    llm = EIGHT[kind]()
    with pytest.raises(kind):
        asyncio.run(llm.get_client().chat("hi"))


@pytest.mark.promise("S4-31", "S4-32")
@pytest.mark.wire
def test_s4_31_and_32_no_key_is_in_logs_errors_or_the_environment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "agentkit")
    before = dict(os.environ)
    with (
        WireServer() as server,
        configured(tmp_path, anthropic(server, f"[{SECRET}]")) as llm,
    ):
        server.script(faults.status(503), "an answer", faults.status(401, message=SECRET[:4]))
        client = llm.get_client()
        asyncio.run(client.chat(CANARY))
        with pytest.raises(LLMAuthenticationError) as told:
            asyncio.run(client.chat(CANARY))
        shown = [repr(llm), repr(client), str(llm.get_status()), caplog.text, repr(told.value)]
        shown += [str(vars(record)) for record in caplog.records]
        pool = ConnectionPool([SECRET])
        for each in (pool, llm):
            with pytest.raises(TypeError):
                pickle.dumps(each)
    shown += traceback.format_exception(told.value)
    assert len(caplog.records) >= 3
    assert SECRET not in "".join(shown) + repr(pool)
    assert CANARY not in caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert dict(os.environ) == before


@pytest.mark.promise("S4-33")
def test_s4_33_a_blocking_model_does_not_stop_the_loop() -> None:
    """The model waits for something that only the running loop can do."""
    moved = threading.Event()

    def blocking(prompt: str, kwargs: dict[str, Any]) -> str:
        return "free" if moved.wait(5.0) else "stuck"

    llm = LLMManager(enable_caching=False)
    llm.register_model("m", blocking)

    async def main() -> str:
        asking = asyncio.create_task(llm.get_client().chat("hi"))
        await asyncio.sleep(0)
        moved.set()
        return await asking

    assert asyncio.run(main()) == "free"
    llm.close()


@pytest.mark.promise("S4-36")
def test_s4_36_a_failed_check_brings_a_new_client_and_none_is_paid_for() -> None:
    clock = FakeClock()
    made: list[str] = []

    class Counted(Keyed):
        def with_key(self, key: str) -> Keyed:
            made.append(key)
            return super().with_key(key)

    pool = ConnectionPool(["k1", "k2"], health_check=lambda provider: provider.key != "k2")
    unchecked = ConnectionPool(["k3"])
    provider = Counted(lambda key: key)
    llm = LLMManager(enable_caching=False, clock=clock)
    llm.register_model("m", provider, pool=pool)
    llm.register_model("n", provider, pool=unchecked)
    for model in ("m", "m", "n"):
        llm.complete("x", model=model)
    clock.advance(61.0)
    assert len(pool.check_health(clock())) == 1
    assert unchecked.check_health(clock()) == []
    assert provider.asked.total() == 3
    for _ in range(2):
        llm.complete("x", model="m")
    assert made == ["k1", "k2", "k3", "k2"]


@pytest.mark.promise("S4-39")
def test_s4_39_providers_scale_on_their_own() -> None:
    """One provider's exhausted quota leaves the other's alone."""
    clock = FakeClock()
    llm = pooled(Keyed(lambda key: key), clock=clock, limits=RateLimits(1))
    many = ConnectionPool(["k1", "k2", "k3"], limits=RateLimits(100))
    llm.register_model("large", Keyed(lambda key: key), pool=many)
    since = clock()
    for number in range(2):
        llm.complete(f"{number}", model="m")
    for number in range(300):
        llm.complete(f"{number}", model="large")
    assert clock() == since
    llm.complete("one more", model="m")
    assert clock() - since == 60.0


@pytest.mark.promise("S4-40")
@pytest.mark.parametrize("leaving", ["error", "cancelled"])
def test_s4_40_leaving_a_context_in_any_way_gives_everything_back(leaving: str) -> None:
    entered: list[str] = []

    async def hangs(prompt: str, kwargs: dict[str, Any]) -> str:
        entered.append(prompt)
        await asyncio.Event().wait()
        return "never"

    async def main() -> LLMManager:
        async with LLMManager(enable_caching=False) as llm:
            llm.register_model("m", hangs, max_concurrency=1)

            async def inside() -> None:
                async with llm.get_client() as client:
                    asked = asyncio.create_task(client.chat("hi"))
                    while not entered:
                        await asyncio.sleep(0)
                    if leaving == "error":
                        asked.cancel()
                        raise RuntimeError("the caller's own")
                    await asked

            task = asyncio.create_task(inside())
            while not entered:
                await asyncio.sleep(0)
            if leaving == "cancelled":
                task.cancel()
            await asyncio.wait([task])
            await asyncio.sleep(0)
            assert task.cancelled() == (leaving == "cancelled")
            assert llm.get_status()["pools"]["m"]["in_use_clients"] == 0
        if leaving == "error":
            assert isinstance(task.exception(), RuntimeError)
        return llm

    assert asyncio.run(main()).closed


@pytest.mark.promise("S4-43")
def test_s4_43_a_provider_and_each_of_its_keys_are_kept_from_calls_that_fail() -> None:
    """A key alone rests after three failures; the provider's breaker opens when all fail."""
    down = {"k1"}

    def behave(key: str) -> str:
        if key in down:
            raise Broken
        return key

    provider = Keyed(behave)
    llm = pooled(provider, clock=FakeClock())
    answers = [llm.generate(f"{number}") for number in range(20)]
    assert set(answers) == {"k2"}
    assert provider.asked["k1"] == 3
    assert llm.get_model_info("m")["circuit_breaker_state"] == "closed"
    down.add("k2")
    for number in range(3):
        with pytest.raises(LLMException):
            llm.generate(f"{number}")
    assert llm.get_model_info("m")["circuit_breaker_state"] == "open"


@pytest.mark.promise("S4-49")
def test_s4_49_who_has_priority_goes_first() -> None:
    order: list[str] = []
    gate = asyncio.Event()

    async def model(prompt: str, kwargs: dict[str, Any]) -> str:
        order.append(prompt)
        await gate.wait()
        return prompt

    llm = LLMManager(enable_caching=False)
    llm.register_model("m", model, max_concurrency=1)

    async def main() -> None:
        client = llm.get_client()
        asked = []
        for text, priority in [("first", 0), ("usual", 0), ("urgent", 5)]:
            asked.append(asyncio.create_task(client.complete(text, priority=priority)))
            while not order or llm.get_status()["pools"]["m"]["waiting"] < len(asked) - 1:
                await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*asked)

    asyncio.run(main())
    assert order == ["first", "urgent", "usual"]
