"""Whatever is raised while an attempt is settled, nothing stays held; and rate limits that lie."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from agentkit import End, LLMManager, Response, RetryPolicy, Usage
from agentkit import errors as e
from agentkit.engine.exchange import StreamExchange
from agentkit.policy.budget import Budget
from agentkit.policy.target import Target
from agentkit.testing import Step, faults, rate_limited
from tests.engine.stage import Stage

pytestmark = pytest.mark.flows

ONCE = RetryPolicy(max_attempts=1)
UNCOUNTABLE: list[Any] = [
    Usage(None, None),  # type: ignore[arg-type]
    {"input_tokens": 1},
    Usage(-1, 0),
    Usage(math.nan, 0),  # type: ignore[arg-type]
    Usage(1, 1, cache_read_tokens=None),  # type: ignore[arg-type]
]


def assert_free(target: Target) -> None:
    assert target.pool is not None
    assert target.pool.in_use == 0
    assert target.breaker is not None
    permit = target.breaker.admit()
    assert permit is not None
    permit.abandoned()


class Stubborn(Exception):
    """Cannot be made from its `args`, as some SDKs' errors."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class TestReleased:
    def test_when_retry_on_raises(self) -> None:
        stage = Stage()
        target = stage.target(slots=1, retry=ONCE, retry_on=lambda exc: exc.status_code == 503)
        asked = stage.ask(target, script={"a": [ConnectionError("down")]})
        assert isinstance(asked.error, e.NetworkError)
        assert_free(target)

    def test_when_translate_raises(self) -> None:
        def broken(exc: Exception) -> e.LLMError:
            raise AttributeError("no such field")

        stage = Stage()
        target = stage.target(slots=1, retry=ONCE)
        target.endpoint = replace(target.endpoint, translate=broken)
        asked = stage.ask(target, script={"a": [ConnectionError("down")]})
        assert isinstance(asked.error, e.ProviderError)
        assert isinstance(asked.error.__cause__, ConnectionError)
        assert_free(target)

    @pytest.mark.parametrize("usage", UNCOUNTABLE)
    def test_when_the_usage_cannot_be_counted(self, usage: Any) -> None:
        stage = Stage()
        target = stage.target(slots=1, retry=ONCE)
        budget = Budget(tokens=10_000)
        asked = stage.ask(target, script={"a": [Response("hi", usage)]}, budget=budget)
        assert isinstance(asked.error, e.InvalidResponseError)
        assert "usage" in str(asked.error)
        assert_free(target)

    @pytest.mark.parametrize("usage", UNCOUNTABLE)
    def test_when_the_usage_of_a_stream_cannot_be_counted(self, usage: Any) -> None:
        """A negative count would give a budget tokens, and NaN would end it."""
        stage = Stage()
        target = stage.target(slots=1, retry=ONCE, stream=True)
        budget = Budget(tokens=10_000)
        asked = stage.ask(
            target,
            script={"a": [["hi", End("stop", usage=usage)]]},
            budget=budget,
            exchange=StreamExchange("raise"),
        )
        assert isinstance(asked.error, e.StreamInterruptedError)
        assert "usage" in str(asked.error)
        assert 0 < budget.spent_tokens < 10_000
        assert_free(target)

    @pytest.mark.parametrize("usage", UNCOUNTABLE)
    def test_when_the_usage_of_an_error_cannot_be_counted(self, usage: Any) -> None:
        stage = Stage()
        target = stage.target(slots=1, retry=ONCE)
        error = e.InvalidResponseError("empty")
        error.usage = usage
        asked = stage.ask(target, script={"a": [error]}, budget=Budget(tokens=10_000))
        assert asked.error is error
        assert_free(target)

    def test_when_ctrl_c_arrives_while_a_failure_is_settled(self) -> None:
        def interrupted(exc: BaseException) -> bool:
            raise KeyboardInterrupt

        stage = Stage()
        target = stage.target(slots=1, retry=ONCE, retry_on=interrupted)
        with pytest.raises(KeyboardInterrupt):
            stage.ask(target, script={"a": [ConnectionError("down")]})
        assert_free(target)

    def test_when_an_error_carries_a_retry_after_of_text(self) -> None:
        stage = Stage()
        target = stage.target(slots=1, retry=ONCE)
        error = e.RateLimitError("slow down", retry_after="5")  # type: ignore[arg-type]
        error.retry_after = "5"  # type: ignore[assignment]
        asked = stage.ask(target, script={"a": [error]})
        assert isinstance(asked.error, e.RateLimitError)
        assert asked.error.retry_after is None
        assert_free(target)


class TestRateLimits:
    @pytest.mark.parametrize("after", [0, 0.001])
    def test_a_retry_after_of_nothing_still_backs_off(self, after: float) -> None:
        stage = Stage()
        asked = stage.ask(stage.target(), script={"a": [rate_limited(retry_after=after)] * 3})
        assert asked.played.sleeps == (1.0, 2.0)

    def test_honoured_in_vain_it_opens_the_breaker(self) -> None:
        stage = Stage()
        target = stage.target()
        sent = 0
        for _ in range(20):
            script = {"a": [rate_limited(retry_after=0)] * 3}
            sent += len(stage.ask(target, script=script).played.requests)
        assert sent <= 3 * 3 + 1, "two failures a request, five open it"
        assert target.breaker_state == "open"

    @pytest.mark.parametrize("after", [946_080_000.0, 1e9, math.inf])
    def test_no_retry_after_benches_a_model_for_more_than_an_hour(self, after: float) -> None:
        stage = Stage()
        target = stage.target()
        asked = stage.ask(target, script={"a": [rate_limited(retry_after=after)]})
        assert isinstance(asked.error, e.RateLimitError)
        assert target.rate_limited_for(stage.clock()) == 3600.0


class TestInvalidAfterAnOutage:
    def test_a_fallback_that_rejects_the_request_does_not_hide_it(self) -> None:
        stage = Stage()
        models = stage.target("a", retry=ONCE), stage.target("b"), stage.target("c")
        down, refused = faults.status(503), faults.status(400)
        script: dict[str, list[Step]] = {"a": [down], "b": [refused], "c": ["fine"]}
        assert stage.ask(*models, script=script).text == "fine"

    def test_at_the_end_of_the_route_both_are_reported(self) -> None:
        stage = Stage()
        models = stage.target("a", retry=ONCE), stage.target("b")
        script = {"a": [faults.status(503)], "b": [faults.status(400)]}
        error = stage.ask(*models, script=script).error
        assert isinstance(error, e.AllModelsFailedError)
        assert [type(each) for each in error.exceptions] == [e.ServerError, e.InvalidRequestError]
        assert error.message.startswith("all 2 models failed")

    def test_without_an_outage_it_ends_the_request(self) -> None:
        stage = Stage()
        script: dict[str, list[Step]] = {"a": [faults.status(400)], "b": ["never"]}
        asked = stage.ask(stage.target("a"), stage.target("b"), script=script)
        assert isinstance(asked.error, e.InvalidRequestError)


async def _cancels_itself(prompt: str, options: dict[str, Any]) -> str:
    raise asyncio.CancelledError


async def _cancels_its_task(prompt: str, options: dict[str, Any]) -> str:
    """As a cancel scope does that is left in the wrong task."""
    _cancel_this_task()
    await asyncio.sleep(0)
    return "never"


async def _cancels_its_task_between_chunks(
    prompt: str, options: dict[str, Any]
) -> AsyncIterator[str]:
    yield "shown"
    _cancel_this_task()
    await asyncio.sleep(0)


def _cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


def _blocking(prompt: str, options: dict[str, Any]) -> str:
    raise asyncio.CancelledError


def _chunks(prompt: str, options: dict[str, Any]) -> Iterator[str]:
    yield "shown"
    raise asyncio.CancelledError


async def _async_chunks(prompt: str, options: dict[str, Any]) -> AsyncIterator[str]:
    yield "shown"
    raise asyncio.CancelledError


async def _errors_of(llm: LLMManager) -> list[e.ProviderError]:
    """The errors of a complete answer and of a stream."""
    with pytest.raises(e.ProviderError) as complete:
        await llm.acomplete("hi")
    with pytest.raises(e.ProviderError) as stream:
        async for _ in llm.astream("hi"):
            pass
    return [complete.value, stream.value]


_CANCELLING = [_cancels_itself, _blocking, _chunks, _async_chunks]


class TestModelThatCancelsItself:
    """It is a failed attempt, and no cancellation of its caller."""

    def test_sync(self) -> None:
        with LLMManager(cache=None, retry=ONCE) as llm:
            llm.register_model("m", _cancels_itself)
            with pytest.raises(e.ProviderError, match="cancelled itself"):
                llm.generate("hi")

    @pytest.mark.parametrize("timeout", [None, 20.0])
    @pytest.mark.parametrize("model", [_cancels_its_task, _cancels_its_task_between_chunks])
    def test_the_whole_task_on_the_loop_of_the_manager(
        self, model: Any, timeout: float | None
    ) -> None:
        with LLMManager(cache=None, retry=ONCE) as llm:
            llm.register_model("m", model, timeout=timeout)
            with pytest.raises(e.ProviderError, match="cancelled itself"):
                llm.complete("hi")
            with pytest.raises(e.ProviderError, match="cancelled itself"):
                list(llm.stream("hi"))

    def test_the_whole_task_in_a_batch(self) -> None:
        """Each call fails on its own; the next call of the same worker is made."""

        async def main() -> None:
            async with LLMManager(cache=None, retry=ONCE, breaker=False) as llm:
                llm.register_model("m", _cancels_its_task, timeout=20.0)
                llm.register_model("n", lambda prompt, options: "fine")
                llm.set_active_model("m")
                result = await llm.abatch(["a", "b", "c"], max_concurrency=1)
                assert [type(error) for error in result.errors] == [e.ProviderError] * 3
                llm.set_fallback_chain(["m", "n"])
                result = await llm.abatch(["a", "b"])
                assert [each.text for each in result.responses] == ["fine", "fine"]

        asyncio.run(main())

    def test_async(self) -> None:
        async def main() -> None:
            async with LLMManager(cache=None, retry=ONCE) as llm:
                llm.register_model("m", _cancels_itself)
                llm.register_model("n", lambda prompt, options: "fine")
                llm.set_fallback_chain(["m", "n"])
                assert await llm.agenerate("hi") == "fine"
                result = await llm.abatch(["a", "b"])
                assert [each.text for each in result.responses] == ["fine", "fine"]

        asyncio.run(main())

    @pytest.mark.parametrize("timeout", [None, 20.0])
    @pytest.mark.parametrize("model", _CANCELLING)
    def test_every_kind_of_function(self, model: Any, timeout: float | None) -> None:
        with LLMManager(cache=None, retry=ONCE) as llm:
            llm.register_model("m", model, timeout=timeout)
            errors = asyncio.run(_errors_of(llm))
            with pytest.raises(e.ProviderError, match="cancelled itself"):
                llm.complete("hi")
            with pytest.raises(e.ProviderError) as caught:
                list(llm.stream("hi"))
            for error in (*errors, caught.value):
                own = error.__cause__ if isinstance(error, e.StreamInterruptedError) else error
                assert "cancelled itself" in str(own)


def test_an_error_with_required_arguments_reaches_every_follower() -> None:
    async def main() -> list[BaseException]:
        gate = asyncio.Event()

        async def fails(prompt: str, options: dict[str, Any]) -> str:
            await gate.wait()
            raise Stubborn("no", 7)

        def raising(request: Any) -> Any:
            try:
                return (yield request)
            except e.LLMError as error:
                raise error.__cause__ or error from None

        raising.level = "attempt"  # type: ignore[attr-defined]
        async with LLMManager(cache="memory", retry=ONCE, middleware=[raising]) as llm:
            llm.register_model("m", fails)
            calls = [asyncio.ensure_future(llm.agenerate("hi")) for _ in range(3)]
            await asyncio.sleep(0)
            gate.set()
            return await asyncio.gather(*calls, return_exceptions=True)  # type: ignore[return-value]

    errors = asyncio.run(main())
    assert [(type(each), each.args, each.code) for each in errors] == [(Stubborn, ("no",), 7)] * 3  # type: ignore[attr-defined]
