"""The four ready-made middleware classes over the engine's one loop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from agentkit import (
    ConfigurationError,
    LLMManager,
    LoggingMiddleware,
    MetricsMiddleware,
    Middleware,
    NetworkError,
    PoolExhaustedError,
    RateLimitMiddleware,
    RetryMiddleware,
    RetryPolicy,
)
from agentkit.testing import FakeClock, ScriptedModel
from agentkit.types import Request, Response
from tests.helpers import manager_of

DOWN = ConnectionError("down")


def layered(*middleware: Any, clock: FakeClock | None = None) -> LLMManager:
    return LLMManager(enable_caching=False, middleware=middleware, clock=clock)


@pytest.mark.promise("N1", "S4-14")
def test_transient_failures_are_retried_by_the_schedule() -> None:
    clock = FakeClock()
    model = ScriptedModel(DOWN, DOWN, "fine")
    llm = layered(RetryMiddleware(max_retries=3, base_delay=2.0, jitter=0.0), clock=clock)
    llm.register_model("m", model)
    since = clock()
    assert llm.generate("x") == "fine"
    assert len(model.calls) == 3
    assert clock() - since == 2.0 + 4.0


@pytest.mark.promise("N3", "S4-13")
def test_limits_wait_or_raise() -> None:
    for on_limit in ("wait", "raise"):
        clock = FakeClock()
        llm = layered(
            RateLimitMiddleware(2, None, None, on_limit=on_limit),
            clock=clock,
        )
        llm.register_model("m", ScriptedModel(then="x"))
        since = clock()
        llm.generate("a")
        llm.generate("b")
        if on_limit == "raise":
            with pytest.raises(PoolExhaustedError):
                llm.generate("c")
            assert clock() == since
        else:
            llm.generate("c")
            assert clock() - since == 60.0


def test_every_attempt_takes_from_the_limits_again() -> None:
    clock = FakeClock()
    llm = layered(
        RateLimitMiddleware(2, None, None),
        RetryMiddleware(max_retries=3, base_delay=0.0, jitter=0.0),
        clock=clock,
    )
    llm.register_model("m", ScriptedModel(DOWN, DOWN, "fine"))
    since = clock()
    response = llm.complete("x")
    assert clock() - since == 60.0
    assert [entry.waited for entry in response.ledger] == [0.0, 0.0, 60.0]


@pytest.mark.promise("S4-12")
def test_the_documented_order_holds(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    class Recording(Middleware):
        level = "attempt"

        def __init__(self, name: str) -> None:
            self.name = name

        def process_request(self, request: Request) -> Request:
            seen.append(f"{self.name} →")
            return request

        def process_response(self, request: Request, response: Response[Any]) -> Response[Any]:
            seen.append(f"← {self.name}")
            return response

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        seen.append("provider")
        if seen.count("provider") == 1:
            raise DOWN
        return "x"

    llm = layered(
        RateLimitMiddleware(),
        RetryMiddleware(base_delay=0.0),
        Recording("logging"),
        Recording("metrics"),
    )
    llm.register_model("m", model)
    llm.generate("x")
    once = ["logging →", "metrics →", "provider"]
    assert seen == [*once, *once, "← metrics", "← logging"]


@pytest.mark.promise("N2", "S4-15")
def test_logging_contains_sizes_and_no_content(caplog: pytest.LogCaptureFixture) -> None:
    llm = layered(LoggingMiddleware(), RetryMiddleware(base_delay=0.0))
    llm.register_model("m", ScriptedModel(DOWN, "secret answer"))
    with caplog.at_level(logging.DEBUG, logger="agentkit.requests"):
        llm.generate("secret prompt")
    lines = [each.getMessage() for each in caplog.records if each.name == "agentkit.requests"]
    assert len(lines) == 4
    assert "failed" in lines[1]
    assert "13 characters" in lines[3]
    assert "secret" not in "".join(lines)


@pytest.mark.promise("N2", "S4-16")
def test_metrics_count_after_success_failure_and_retry() -> None:
    metrics = MetricsMiddleware()
    llm = layered(metrics, RetryMiddleware(max_retries=2, base_delay=0.0))
    llm.register_model("m", ScriptedModel(DOWN, "fine", DOWN, DOWN))
    llm.generate("x")
    with pytest.raises(NetworkError):
        llm.generate("y")
    counts = metrics.metrics
    assert (counts["total_requests"], counts["successful_requests"]) == (4, 1)
    assert counts["errors_by_type"] == {"connection_error": 3}


def test_streams_are_counted_too() -> None:
    metrics = MetricsMiddleware()
    llm = layered(metrics)
    llm.register_model("m", ScriptedModel(then="a b c"))
    assert "".join(llm.stream("x")) == "a b c"
    assert metrics.metrics["successful_requests"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: layered(RetryMiddleware(), RetryMiddleware()),
        lambda: layered(RateLimitMiddleware(), RateLimitMiddleware()),
        lambda: LLMManager(middleware=[RetryMiddleware()], retry=RetryPolicy()),
        lambda: RateLimitMiddleware(0),
        lambda: RateLimitMiddleware(on_limit="maybe"),  # type: ignore[arg-type]
        lambda: RetryMiddleware(max_retries=0),
    ],
)
def test_contradictions_and_bad_values_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        wrong()


class Seen(Middleware):
    """Notes what passes, and fails over one answer."""

    def __init__(self, level: Any) -> None:
        self.level = level  # type: ignore[misc]
        self.seen: list[str] = []

    def process_request(self, request: Request) -> Request:
        self.seen.append(f"asked {request.text}")
        return request

    def process_response(self, request: Request, response: Response[Any]) -> Response[Any]:
        self.seen.append(f"answered {response.text}")
        if response.text == "bad answer":
            raise ZeroDivisionError
        return response

    def process_error(self, request: Request, error: Exception) -> Response[Any]:
        self.seen.append(type(error).__name__)
        raise error


@pytest.mark.promise("N13", "S4-11")
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("level", ["request", "attempt"])
def test_a_layer_sees_request_response_and_error(level: Any, streamed: bool) -> None:
    layer = Seen(level)
    model = ScriptedModel("fine", DOWN, "bad answer")
    llm = manager_of(model, middleware=[layer], retry=RetryPolicy(max_attempts=1))
    client = llm.get_client()

    async def ask(text: str) -> str:
        if not streamed:
            return await client.chat(text)
        return "".join([chunk async for chunk in client.stream_chat(text)])

    assert asyncio.run(ask("one")) == "fine"
    with pytest.raises(NetworkError):
        asyncio.run(ask("two"))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask("three"))
    assert layer.seen == [
        *("asked one", "answered fine"),
        *("asked two", "NetworkError"),
        *("asked three", "answered bad answer"),
    ]
