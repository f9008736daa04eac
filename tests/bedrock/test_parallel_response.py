"""A parallel run keeps every answer and every failure, and counts as its documents print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit.bedrock import (
    BedrockResponse,
    ParallelExecutionStats,
    ParallelResponse,
    RequestAttempt,
)
from agentkit.errors import AuthenticationError, RateLimitError


def answered(region: str, duration: float, **usage: int) -> BedrockResponse:
    data: dict[str, Any] = {"usage": usage, "metrics": {"latencyMs": duration / 2}}
    return BedrockResponse(
        True, data, region_used=region, total_duration_ms=duration, access_method_used="direct"
    )


def failed(error: Exception | None, duration: float = 40.0) -> BedrockResponse:
    attempts = [RequestAttempt("m", "us-east-1", "direct", 1, error=error)] if error else []
    return BedrockResponse(False, attempts=attempts, total_duration_ms=duration)


@pytest.fixture
def run() -> ParallelResponse:
    responses = {
        "a": answered("us-east-1", 10.0, inputTokens=10, outputTokens=5, totalTokens=15),
        "b": answered("us-west-2", 20.0, inputTokens=10, cacheReadInputTokens=30, totalTokens=40),
        "c": failed(RateLimitError("slow down")),
        "d": answered("us-west-2", 30.0),
    }
    responses["d"].parameters_removed.append("top_k")
    return ParallelResponse(
        responses,
        total_duration_ms=50.0,
        parallel_execution_stats=ParallelExecutionStats.of(responses.values(), 3),
        warnings=["one"],
        original_requests={id_: f"request {id_}" for id_ in responses},
    )


@pytest.mark.promise("B26", "S1-47")
def test_three_of_four_is_three_quarters(run: ParallelResponse) -> None:
    assert run.get_success_rate() == 0.75
    assert f"{run.get_success_rate():.1%}" == "75.0%"
    assert run.parallel_execution_stats.success_rate == 0.75
    assert not run.success


@pytest.mark.promise("S1-48")
def test_statistics_are_over_what_really_happened(run: ParallelResponse) -> None:
    stats = run.parallel_execution_stats
    assert stats.average_request_duration_ms == 25.0
    assert (stats.min_request_duration_ms, stats.max_request_duration_ms) == (10.0, 40.0)
    assert stats.region_distribution == {"us-east-1": 1, "us-west-2": 2}
    assert (stats.total_requests, stats.failed_requests_count) == (4, 1)
    assert stats.concurrent_executions == 3


@pytest.mark.promise("S1-49")
def test_answers_and_failures_are_found_by_id_in_order(run: ParallelResponse) -> None:
    assert list(run.get_successful_responses()) == run.successful_request_ids == ["a", "b", "d"]
    assert run.failed_request_ids == ["c"]


def test_a_failure_keeps_its_exception(run: ParallelResponse) -> None:
    run.request_responses["e"] = failed(AuthenticationError("no"))
    run.request_responses["f"] = failed(None)
    assert run.get_failed_by_exception_type() == {
        "RateLimitError": ["c"],
        "AuthenticationError": ["e"],
        "unknown": ["f"],
    }
    assert run.get_failed_by_exception_type(RateLimitError) == {"RateLimitError": ["c"]}
    assert run.get_failed_by_exception_type("AuthenticationError") == {"AuthenticationError": ["e"]}


def test_failed_requests_can_be_sent_again(run: ParallelResponse) -> None:
    assert run.filter_failed_requests() == {"c": "request c"}
    assert run.filter_failed_requests(retryable=True) == {"c": "request c"}
    assert run.filter_failed_requests(retryable=False) == {}


def test_warnings_are_those_of_the_run(run: ParallelResponse) -> None:
    assert run.get_warnings() == ["one"]


def test_an_empty_run_is_not_a_success_and_divides_by_nothing() -> None:
    empty = ParallelResponse(parallel_execution_stats=ParallelExecutionStats.of([]))
    assert not empty.success
    assert empty.get_success_rate() == 0.0
    assert empty.parallel_execution_stats.success_rate == 0.0
    assert empty.parallel_execution_stats.average_request_duration_ms == 0.0


def test_a_run_of_answers_only_is_a_success() -> None:
    assert ParallelResponse({"a": answered("us-east-1", 1.0)}).success


def test_a_run_is_json(run: ParallelResponse) -> None:
    result = json.loads(run.to_json(indent=2))
    assert result["parallel_execution_stats"]["success_rate"] == 0.75
    assert result["request_responses"]["c"]["attempts"][0]["error"]["type"] == "RateLimitError"
