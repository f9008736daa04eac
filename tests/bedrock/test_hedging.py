"""What is paid for twice, and what is not asked again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentkit.bedrock.hedge import ahedged, hedged
from tests.bedrock.crews import carry_out, crew, echo, jobs, text_of
from tests.bedrock.runtime import FakeClients, refused

EAST, WEST = "us-east-1", "us-west-2"
INVALID = refused("ValidationException", "messages: wrong")

both = pytest.mark.parametrize("mode", ["sync", "async"])


@both
def test_a_slow_request_is_sent_twice_only_when_asked(mode: str) -> None:
    held = threading.Event()
    ended: list[str] = []

    def step(region: str, arguments: dict[str, Any]) -> str:
        if region == EAST:
            held.wait(30.0)
        ended.append(region)
        return f"from {region}"

    how: dict[str, Any] = {"hedge_after_seconds": 0.05, "request_timeout_seconds": 30.0}
    clients = FakeClients(then=step)
    run = carry_out(crew(clients, [EAST, WEST], **how), jobs(1), mode)
    assert ended == [WEST], "nothing waits for the slow one"
    held.set()
    assert run.request_responses["r0"].get_content() == f"from {WEST}"
    assert clients.order == [EAST, WEST]
    quick = FakeClients(then="x")
    carry_out(crew(quick, [EAST, WEST], hedge_after_seconds=30.0), jobs(1), mode)
    assert quick.order == [EAST]


@both
def test_a_run_continues_where_an_earlier_one_ended(mode: str) -> None:
    first = carry_out(crew(FakeClients(then=unlucky)), jobs(5), mode)
    assert first.failed_request_ids == ["r1", "r3"]
    clients = FakeClients(then=echo)
    again = carry_out(crew(clients), jobs(5), mode, resume_from=first)
    assert again.success
    assert list(again.request_responses) == ["r0", "r1", "r2", "r3", "r4"]
    assert sorted(text_of(sent) for _, sent in clients.asked) == ["1", "3"]
    nothing = FakeClients()
    assert carry_out(crew(nothing), jobs(5), mode, resume_from=again).success
    assert nothing.asked == []


def unlucky(region: str, arguments: dict[str, Any]) -> Any:
    return INVALID if text_of(arguments) in "13" else echo(region, arguments)


def is_good(result: str) -> bool:
    return result == "good"


FIRST_ENDS: dict[str, Callable[[], str]] = {"bad": lambda: "bad", "raises": lambda: 1 // 0 * ""}


@pytest.mark.parametrize("first", FIRST_ENDS)
def test_a_failure_waits_for_the_other_call(first: str) -> None:
    both_run = threading.Barrier(2, timeout=10)
    failed = threading.Event()

    def fail() -> str:
        both_run.wait()
        failed.set()
        return FIRST_ENDS[first]()

    def succeed() -> str:
        both_run.wait()
        failed.wait(10)
        return "good"

    assert hedged(fail, succeed, 0.0, is_good) == "good"
    assert hedged(succeed, fail, 0.0, is_good) == "good"


@pytest.mark.parametrize("first", FIRST_ENDS)
def test_of_two_that_end_together_the_good_one_counts(first: str) -> None:
    async def main() -> str:
        gate = asyncio.Event()

        async def fail() -> str:
            await gate.wait()
            return FIRST_ENDS[first]()

        async def succeed() -> str:
            asyncio.get_running_loop().call_soon(gate.set)  # when both wait
            await gate.wait()
            return "good"

        return await ahedged(fail, succeed, 0.0, is_good)

    assert {asyncio.run(main()) for _ in range(20)} == {"good"}


def test_the_last_failure_counts_if_both_fail() -> None:
    async def main() -> str:
        async def fail(result: str) -> str:
            await asyncio.sleep(0.001)
            return result

        return await ahedged(lambda: fail("first"), lambda: fail("second"), 0.0, is_good)

    assert asyncio.run(main()) in {"first", "second"}
    assert hedged(lambda: "only", lambda: "never", 5.0, is_good) == "only"
