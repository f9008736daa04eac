"""Batches, slots and the route order that looks at health."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from agentkit import BatchResult, ConfigurationError, HealthAware, LLMError, LLMManager, RetryPolicy
from agentkit.testing import FakeClock
from tests.helpers import until


def model(prompt: str, kwargs: dict[str, Any]) -> str:
    if prompt == "bad":
        raise ValueError("no")
    return prompt.upper()


@pytest.fixture
def llm() -> LLMManager:
    manager = LLMManager(enable_caching=False, retry=RetryPolicy(max_attempts=1))
    manager.register_model("m", model)
    return manager


def batched(llm: LLMManager, kind: str, requests: list[Any], **options: Any) -> BatchResult:
    if kind == "sync":
        return llm.batch(requests, **options)
    return asyncio.run(llm.abatch(requests, **options))


both = pytest.mark.parametrize("kind", ["sync", "async"])


@both
def test_order_and_failures_are_kept(llm: LLMManager, kind: str) -> None:
    seen: list[tuple[int, int]] = []
    requests = ["a", "bad", {"prompt": "c"}, {"x": 1}, [{"role": "user", "content": "e"}]]
    result = batched(
        llm, kind, requests, on_progress=lambda done, total: seen.append((done, total))
    )
    assert [str(each) if not isinstance(each, LLMError) else None for each in result] == [
        "A", None, "C", None, "E",
    ]  # fmt: skip
    assert (len(result.responses), len(result.errors)) == (3, 2)
    assert seen == [(number, 5) for number in range(1, 6)]
    with pytest.raises(ExceptionGroup):
        result.raise_for_errors()


@pytest.mark.promise("S2-37")
@both
def test_no_more_than_max_concurrency_at_once(llm: LLMManager, kind: str) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def counting(prompt: str, kwargs: dict[str, Any]) -> str:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.005)
        with lock:
            now -= 1
        return "x"

    llm.register_model("counting", counting)
    llm.set_active_model("counting")
    result = batched(llm, kind, [str(number) for number in range(12)], max_concurrency=3)
    assert (len(result.responses), most) == (12, 3)


@both
def test_an_empty_batch_is_empty_and_zero_workers_are_refused(llm: LLMManager, kind: str) -> None:
    assert len(batched(llm, kind, [])) == 0
    with pytest.raises(ConfigurationError, match="max_concurrency"):
        batched(llm, kind, ["a"], max_concurrency=0)


@both
def test_an_error_outside_the_tree_stops_the_batch(llm: LLMManager, kind: str) -> None:
    def fatal(done: int, total: int) -> None:
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="own"):
        batched(llm, kind, ["a", "b"], on_progress=fatal)


@both
def test_a_models_slots_bound_it_and_waiting_is_in_the_ledger(kind: str) -> None:
    clock = FakeClock()  # a thread that the machine starts late has not waited for a slot
    llm = LLMManager(enable_caching=False, clock=clock)
    now: list[str] = []
    most = asked = 0

    def slow(prompt: str, kwargs: dict[str, Any]) -> str:
        nonlocal most, asked
        now.append(prompt)
        most = max(most, len(now))
        asked += 1
        if asked == 1:
            until(lambda: llm.get_status()["pools"]["slow"]["waiting"] == 2)
            clock.advance(1.0)
        now.remove(prompt)
        return prompt

    llm.register_model("slow", slow, max_concurrency=1)
    result = batched(llm, kind, ["0", "1", "2"], max_concurrency=3)
    assert most == 1
    first, *others = sorted(reply.ledger.waited for reply in result.responses)
    assert first == 0.0
    assert min(others) >= 1.0
    llm.close()


def test_healthy_and_fast_models_are_asked_first() -> None:
    clock = FakeClock()
    llm = LLMManager(
        enable_caching=False, clock=clock, retry=RetryPolicy(max_attempts=1),
        route_order=HealthAware(min_samples=2),
    )  # fmt: skip
    pace = {"slow": 9.0, "sick": 1.0, "fast": 1.0}

    def paced(name: str) -> Any:
        def answer(prompt: str, kwargs: dict[str, Any]) -> str:
            clock.advance(pace[name])
            if name == "sick":
                raise ConnectionError
            return name

        return answer

    for name in pace:
        llm.register_model(name, paced(name))
    llm.set_fallback_chain(list(pace))
    assert llm.generate("unknown yet: the given order") == "slow"
    for name in pace:
        for _ in range(2):
            try:
                llm.complete("warm up", model=name)
            except LLMError:
                continue
    assert llm.health("sick").success_rate == 0.0
    assert llm.generate("hi") == "fast"
    assert llm.complete("hi").ledger[0].model == "fast"
