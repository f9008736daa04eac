"""What is paid for twice, and what is not asked again."""

from __future__ import annotations

import threading
from typing import Any

import pytest

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
            held.wait(5.0)
        ended.append(region)
        return f"from {region}"

    how: dict[str, Any] = {"hedge_after_seconds": 0.05, "request_timeout_seconds": 5.0}
    clients = FakeClients(then=step)
    run = carry_out(crew(clients, [EAST, WEST], **how), jobs(1), mode)
    assert ended == [WEST], "nothing waits for the slow one"
    held.set()
    assert run.request_responses["r0"].get_content() == f"from {WEST}"
    assert clients.order == [EAST, WEST]
    quick = FakeClients(then="x")
    carry_out(crew(quick, [EAST, WEST], hedge_after_seconds=5.0), jobs(1), mode)
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
