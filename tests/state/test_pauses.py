"""The pauses that providers ask for, known to processes with and without limits."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from agentkit.errors import RateLimitError
from agentkit.policy.classification import classify
from agentkit.policy.limits import RateLimits
from agentkit.state.pauses import SharedPause
from agentkit.state.quota_questions import QuotaKeys
from tests.state.fleets import Process, ScriptedFleet, Store

pytestmark = pytest.mark.flows
KEYS = QuotaKeys.of("group", "line")


class Unlimited:
    """A process that uses the key without limits."""

    def __init__(self, store: Store, name: str) -> None:
        self.heard: list[float] = []
        self.fleet = ScriptedFleet(store, name)
        self.pause = SharedPause(self.fleet, KEYS, "key0", self.heard.append)
        self.fleet.deliver()


def start(store: Store, name: str) -> Process:
    process = Process(store, name, RateLimits(requests_per_minute=5))
    settle(process)
    return process


def settle(*processes: Any) -> None:
    for _ in range(5):
        for each in processes:
            each.fleet.deliver()


def test_processes_with_and_without_limits_hear_of_it() -> None:
    store = Store()
    limited, asked, other = start(store, "p0"), Unlimited(store, "p1"), Unlimited(store, "p2")
    asked.pause.report(30.0)
    settle(limited, asked, other)
    assert other.heard == limited.pauses == [30.0]


def test_processes_without_limits_hear_of_one_with_limits() -> None:
    store = Store()
    limited, other = start(store, "p0"), Unlimited(store, "p1")
    lease = limited.call()
    settle(limited)
    limited.look()
    error = RateLimitError("slow down", retry_after=30.0)
    lease.failed(error, classify(error), store.now)
    settle(limited, other)
    assert other.heard == [30.0]


def test_a_process_that_starts_during_a_pause_hears_of_what_is_left() -> None:
    store = Store()
    asked = Unlimited(store, "p1")
    asked.pause.report(30.0)
    settle(asked)
    store.now += 10.0
    assert Unlimited(store, "p2").heard == start(store, "p3").pauses == [20.0]
    store.now += 21.0
    assert Unlimited(store, "p4").heard == start(store, "p5").pauses == []


def test_a_process_that_missed_a_message_asks_when_it_is_back() -> None:
    store = Store()
    asked, other = Unlimited(store, "p1"), Unlimited(store, "p2")
    other.fleet.reaches_store = False
    asked.pause.report(30.0)
    settle(asked, other)
    other.fleet.reaches_store, other.fleet.session = True, 1
    store.now += 10.0
    for _ in range(3):
        other.fleet.beat()
        settle(other)
    assert other.heard == [20.0]


def test_a_forked_child_hears_of_it() -> None:
    store = Store()
    asked, child = Unlimited(store, "p1"), Unlimited(store, "p2")
    child.fleet.become("child")
    child.fleet.beat()
    settle(child)
    asked.pause.report(30.0)
    settle(asked, child)
    assert child.heard == [30.0]


def test_no_pause_is_longer_than_an_hour() -> None:
    store = Store()
    asked, other = Unlimited(store, "p1"), Unlimited(store, "p2")
    asked.pause.report(float("inf"))
    settle(asked, other)
    assert other.heard == [3600.0]


def test_a_model_that_is_gone_asks_nothing() -> None:
    store = Store()
    gone = Unlimited(store, "p1")
    fleet = gone.fleet
    del gone
    gc.collect()
    fleet.session += 1
    fleet.asked.clear()
    fleet.beat()
    assert not fleet.deliver()
