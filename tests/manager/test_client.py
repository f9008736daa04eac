"""`get_client` and what the specification prints about it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import (
    ConfigurationError,
    DeadlineExceededError,
    LLMAuthenticationError,
    LLMClient,
    LLMConfig,
    LLMConfigurationError,
    LLMConnectionError,
    LLMException,
    LLMManager,
    LLMPoolExhaustedError,
    LLMProvider,
    LLMProviderError,
    LLMRateLimitError,
    LLMTimeoutError,
    Message,
    MessageRole,
    NetworkError,
    RateLimitMiddleware,
    RetryPolicy,
    UnknownModelError,
)
from agentkit.testing import FakeClock, MockLLMClient, ScriptedModel, faults
from agentkit.types import Request, Response, ToolCall
from tests.helpers import City, manager_of


def anthropic(model: Any, clock: FakeClock | None = None, **how: Any) -> LLMManager:
    llm = LLMManager(enable_caching=False, clock=clock, retry=RetryPolicy(jitter=0.0))
    llm.register_model("anthropic", model, {"provider": "anthropic"}, **how)
    return llm


MESSAGES = [
    Message(MessageRole.SYSTEM, "You are a helpful assistant"),
    Message(MessageRole.USER, "What is the capital of France?"),
]


@pytest.mark.promise("S2-20", "S2-41", "S4-24")
def test_complete_chat_and_streams() -> None:
    client = anthropic(ScriptedModel(then="Paris, France")).get_client(LLMProvider.ANTHROPIC)

    async def main() -> None:
        assert (await client.complete(MESSAGES)).content == "Paris, France"
        assert (await client.complete(messages=MESSAGES, temperature=0.7)).text
        assert await client.chat("Hello") == "Paris, France"
        assert "".join([chunk async for chunk in client.stream_complete(MESSAGES)])
        assert "".join([chunk async for chunk in client.stream_chat("Hello")])

    asyncio.run(main())


def test_a_response_model_gives_the_instance_itself() -> None:
    client = anthropic(ScriptedModel(then='{"name": "Paris"}')).get_client()
    assert asyncio.run(client.complete(MESSAGES, response_model=City)) == City(name="Paris")


def test_a_tool_call_is_returned_as_the_response() -> None:
    """A tool call is not an answer of the type; a None that the type allows is returned."""
    tool_call: Response[Any] = Response(
        "", tool_calls=(ToolCall("1", "look_up", {"city": "Paris"}),)
    )
    client = MockLLMClient([tool_call, City(name="Paris"), {"value": None}])

    def look_up(city: str) -> str:
        return city

    async def main() -> None:
        first = await client.complete(MESSAGES, response_model=City, tools=[look_up])
        assert isinstance(first, Response)
        assert first.tool_calls == tool_call.tool_calls
        then = await client.complete(MESSAGES, response_model=City, tools=[look_up])
        assert then == City(name="Paris")
        maybe: Any = City | None
        assert await client.complete(MESSAGES, response_model=maybe, tools=[look_up]) is None

    asyncio.run(main())


@pytest.mark.promise("S2-23")
def test_the_options_of_a_config_reach_engine_and_model() -> None:
    seen: list[Request] = []

    class Seen:
        capabilities = frozenset({"messages"})

        def send(self, request: Request) -> str:
            seen.append(request)
            raise ConnectionError("down")

    clock = FakeClock()
    client = anthropic(Seen(), clock).get_client(LLMProvider.ANTHROPIC)
    config = LLMConfig(
        temperature=0, max_tokens=2000, max_retries=2, retry_delay=3.0, timeout=30.0,
        system_prompt="You are a technical assistant",
    )  # fmt: skip
    since = clock()
    with pytest.raises(NetworkError):
        asyncio.run(client.complete(MESSAGES, **config.to_dict()))
    assert len(seen) == 2
    assert 2.25 <= clock() - since <= 3.75
    assert seen[0].params == {"temperature": 0, "max_tokens": 2000}
    assert seen[0].messages[0].text == "You are a technical assistant"
    assert len(seen[0].messages) == 3


@pytest.mark.promise("S4-41")
def test_a_timeout_spans_the_retries() -> None:
    clock = FakeClock()
    since = clock()
    client = anthropic(ScriptedModel(then=ConnectionError("down")), clock).get_client()
    with pytest.raises(DeadlineExceededError):
        asyncio.run(client.complete(MESSAGES, max_retries=9, retry_delay=1.0, timeout=5.0))
    assert clock() - since <= 5.0


@pytest.mark.promise("N10", "S2-23")
def test_a_config_leaves_out_what_is_not_set() -> None:
    assert LLMConfig().to_dict() == {"max_retries": 3, "retry_delay": 1.0, "timeout": 30.0}


@pytest.mark.promise("S2-13", "S4-09")
def test_a_client_by_provider_asks_every_model_of_it_in_order() -> None:
    llm = LLMManager(enable_caching=False, retry=RetryPolicy(max_attempts=1))
    llm.register_model("big", ScriptedModel(then=ConnectionError()), {"provider": "openai"})
    llm.register_model("other", ScriptedModel(then="other"), {"provider": "google"})
    llm.register_model("small", ScriptedModel(then="small"), {"provider": "openai"})
    assert asyncio.run(llm.get_client("openai").chat("x")) == "small"
    assert asyncio.run(llm.get_client("other").chat("x")) == "other"
    with pytest.raises(UnknownModelError):
        llm.get_client("groq")


@pytest.mark.promise("S4-23")
def test_without_a_model_there_is_no_client() -> None:
    with pytest.raises(ConfigurationError, match="no model"):
        LLMManager(enable_caching=False).get_client()


def test_a_client_works_in_two_event_loops_and_as_a_context_manager() -> None:
    client = anthropic(ScriptedModel(then="x")).get_client()

    async def main() -> str:
        async with client as same:
            assert isinstance(same, LLMClient)
            return await same.chat("hi")

    assert [asyncio.run(main()), asyncio.run(main())] == ["x", "x"]


@pytest.mark.promise("N8", "S4-29")
def test_the_status_holds_the_metrics_that_the_specification_names() -> None:
    llm = anthropic(ScriptedModel(ConnectionError("down"), then="a b c"), FakeClock())
    asyncio.run(llm.get_client().chat("hi"))
    metrics = llm.get_status()["metrics"]
    assert metrics["total_requests"] == metrics["successful_requests"] == 1
    assert metrics["failed_requests"] == 0
    assert metrics["total_retries"] == 1
    assert set(metrics["tokens"]) == {"total_input", "total_output", "total"}
    assert set(metrics["latency"]) == {
        "average_seconds", "min_seconds", "max_seconds", "total_seconds",
    }  # fmt: skip
    assert metrics["errors_by_type"] == {"connection_error": 1}
    assert metrics["requests_by_model"] == {"anthropic": 2}
    assert metrics["providers"]["anthropic"]["requests_by_model"] == {"anthropic": 2}


@pytest.mark.promise("S2-09")
def test_a_client_follows_what_is_registered_under_its_name() -> None:
    llm = manager_of()
    with pytest.raises(UnknownModelError):
        llm.get_client("mine")
    llm.register_model("mine", ScriptedModel("old"))
    client = llm.get_client("mine")
    llm.register_model("mine", ScriptedModel("new"), replace=True)
    assert asyncio.run(client.chat("hi")) == "new"
    llm.unregister_model("mine")
    with pytest.raises(UnknownModelError):
        llm.get_client("mine")


@pytest.mark.promise("S2-10")
def test_closing_a_client_twice_is_harmless_and_the_next_one_works() -> None:
    llm = manager_of(ScriptedModel(then="x"))

    async def main() -> str:
        client = llm.get_client()
        await client.close()
        await client.close()
        assert await client.chat("hi") == "x"
        answered = await llm.get_client().chat("hi")
        assert await llm.aclose() == await llm.aclose() == []
        with pytest.raises(ConfigurationError, match="closed"):
            await client.chat("hi")
        return answered

    assert asyncio.run(main()) == "x"


@pytest.mark.promise("S2-38")
def test_a_model_that_hangs_is_cancelled_at_the_timeout() -> None:
    ended: list[str] = []

    async def hangs(prompt: str, kwargs: dict[str, Any]) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "never"

    llm = LLMManager(enable_caching=False)
    llm.register_model("m", hangs)
    with pytest.raises(DeadlineExceededError):
        asyncio.run(llm.get_client().complete("hi", timeout=0.02))
    assert ended == ["cancelled"]


@pytest.mark.promise("S4-33")
def test_a_blocking_model_does_not_stop_the_loop() -> None:
    """The model waits for something that only the running loop can do."""
    moved = threading.Event()

    def blocking(prompt: str, kwargs: dict[str, Any]) -> str:
        return "free" if moved.wait(30.0) else "stuck"

    with LLMManager(enable_caching=False) as llm:
        llm.register_model("m", blocking)

        async def main() -> str:
            asking = asyncio.create_task(llm.get_client().chat("hi"))
            await asyncio.sleep(0)
            moved.set()
            return await asking

        assert asyncio.run(main()) == "free"


@pytest.mark.promise("S4-40")
@pytest.mark.parametrize("leaving", ["error", "cancelled"])
def test_leaving_a_context_in_any_way_gives_everything_back(leaving: str) -> None:
    entered = asyncio.Event()
    calls: list[asyncio.Task[str]] = []

    async def hangs(prompt: str, kwargs: dict[str, Any]) -> str:
        entered.set()
        await asyncio.Event().wait()
        return "never"

    async def main() -> LLMManager:
        async with LLMManager(enable_caching=False) as llm:
            llm.register_model("m", hangs, max_concurrency=1)

            async def inside() -> None:
                async with llm.get_client() as client:
                    calls.append(asyncio.create_task(client.chat("hi")))
                    await entered.wait()
                    if leaving == "error":
                        calls[0].cancel()
                        raise RuntimeError("the caller's own")
                    await calls[0]

            task = asyncio.create_task(inside())
            await entered.wait()
            await asyncio.sleep(0)  # now the task waits for its call
            if leaving == "cancelled":
                task.cancel()
            await asyncio.wait([task, *calls])
            assert task.cancelled() == (leaving == "cancelled")
            assert llm.get_status()["pools"]["m"]["in_use_clients"] == 0
        if leaving == "error":
            assert isinstance(task.exception(), RuntimeError)
        return llm

    assert asyncio.run(main()).closed


@pytest.mark.promise("S4-49")
def test_requests_with_a_higher_priority_go_first() -> None:
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


def limited(llm: LLMManager) -> LLMManager:
    llm.generate("the only one of this minute")
    return llm


EXCEPTIONS: dict[type[Exception], Callable[[], LLMManager]] = {
    LLMProviderError: lambda: manager_of(ScriptedModel(then=faults.status(500))),
    LLMConnectionError: lambda: manager_of(ScriptedModel(then=ConnectionResetError())),
    LLMRateLimitError: lambda: manager_of(ScriptedModel(then=faults.status(429))),
    LLMAuthenticationError: lambda: manager_of(ScriptedModel(then=faults.status(401))),
    LLMTimeoutError: lambda: manager_of(ScriptedModel(then=TimeoutError())),
    LLMPoolExhaustedError: lambda: limited(
        manager_of(ScriptedModel("x"), middleware=[RateLimitMiddleware(1, on_limit="raise")])
    ),
    LLMConfigurationError: manager_of,
}


@pytest.mark.promise("S4-27")
@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_each_exception_of_the_specification_is_raised(kind: type[Exception]) -> None:
    assert issubclass(kind, LLMException)
    llm = EXCEPTIONS[kind]()
    with pytest.raises(kind):
        asyncio.run(llm.get_client().chat("hi"))
