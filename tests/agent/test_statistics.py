"""The numbers of an agent add up, and its memory of errors is bounded."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.agent.callables import name_of
from agentkit.agent.statistics import KEPT_FAILURES, KEPT_TEXT, Performance
from tests.agent.fakes import HandClock, running_agent


def test_before_any_task_the_rate_is_one_and_the_rest_is_zero() -> None:
    assert running_agent().get_performance_metrics() == {
        "total_tasks": 0,
        "successful_tasks": 0,
        "failed_tasks": 0,
        "total_execution_time": 0.0,
        "average_execution_time": 0.0,
        "success_rate": 1.0,
        "error_count": 0,
    }


def test_times_are_taken_from_the_agents_clock() -> None:
    clock = HandClock()
    agent = running_agent(clock=clock)

    def fail() -> None:
        clock.pass_(1.0)
        raise ValueError("no")

    async def work() -> None:
        clock.pass_(2.0)

    agent.execute_task(clock.pass_, 6.0)
    asyncio.run(agent.aexecute_task(work))
    with pytest.raises(ValueError, match="no"):
        agent.execute_task(fail)
    metrics = agent.get_performance_metrics()
    assert metrics["total_execution_time"] == 9.0
    assert metrics["average_execution_time"] == 3.0
    assert metrics["success_rate"] == pytest.approx(2 / 3)


@given(st.lists(st.sampled_from(["success", "failure", "cancelled"]), max_size=30))
def test_successes_and_failures_and_interruptions_add_up(ends: list[str]) -> None:
    errors: dict[str, BaseException | None] = {
        "success": None,
        "failure": ValueError(),
        "cancelled": asyncio.CancelledError(),
    }
    performance = Performance()
    for end in ends:
        performance.record("task", 0.5, errors[end])
    metrics = performance.metrics()
    assert metrics["total_tasks"] == len(ends)
    assert metrics["successful_tasks"] == ends.count("success")
    assert metrics["failed_tasks"] == metrics["error_count"] == ends.count("failure")
    assert metrics["total_execution_time"] == 0.5 * len(ends)
    assert metrics["average_execution_time"] == (0.5 if ends else 0.0)
    settled = len(ends) - ends.count("cancelled")
    assert metrics["success_rate"] == (ends.count("success") / settled if settled else 1.0)


def test_a_cancelled_task_is_neither_success_nor_failure() -> None:
    agent = running_agent()

    async def main() -> None:
        task = asyncio.ensure_future(agent.aexecute_task(asyncio.Event().wait))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    metrics = agent.get_performance_metrics()
    assert metrics["total_tasks"] == 1
    assert metrics["successful_tasks"] == metrics["failed_tasks"] == 0
    assert metrics["success_rate"] == 1.0
    assert agent.error_log == ()


def test_a_failure_is_logged_with_time_task_type_and_text() -> None:
    agent = running_agent()

    def fetch_page() -> None:
        raise OSError("disk is full")

    before = datetime.now(UTC)
    with pytest.raises(OSError, match="full"):
        agent.execute_task(fetch_page)
    (failure,) = agent.error_log
    assert before <= failure.timestamp <= datetime.now(UTC)
    assert failure.task.endswith("fetch_page")
    assert failure.exception_type == "OSError"
    assert failure.message == "disk is full"


def test_no_argument_of_a_task_is_logged() -> None:
    agent = running_agent()

    def fail(prompt: str) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        agent.execute_task(fail, "canary-4711")
    assert "canary" not in repr(agent.error_log)


def test_only_the_last_failures_are_kept_but_all_are_counted() -> None:
    performance = Performance()
    for number in range(KEPT_FAILURES + 5):
        performance.record("task", 0.0, ValueError(str(number)))
    assert len(performance.failures) == KEPT_FAILURES
    assert performance.failures[0].message == "5"
    assert performance.metrics()["error_count"] == KEPT_FAILURES + 5


def test_a_long_text_is_truncated() -> None:
    performance = Performance()
    performance.record("task", 0.0, ValueError("x" * 5000))
    assert performance.failures[0].message == "x" * KEPT_TEXT


def test_an_exception_without_text_hides_nothing() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("cannot say")

    def fail() -> None:
        raise MuteError

    agent = running_agent()
    with pytest.raises(MuteError):
        agent.execute_task(fail)
    assert agent.error_log[0].exception_type == "MuteError"


def test_a_task_whose_name_cannot_be_had_still_succeeds() -> None:
    class Secretive:
        def __call__(self) -> str:
            return "done"

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    agent = running_agent()
    assert agent.execute_task(Secretive()) == "done"
    assert name_of(Secretive()) == "task"


def test_counters_lose_nothing_between_threads() -> None:
    agent = running_agent()
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for _ in range(200):
            agent.execute_task(int)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agent.get_performance_metrics()["successful_tasks"] == 1600
