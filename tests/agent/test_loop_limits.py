"""A run stays within its steps, tokens, money and time, and reports what it used."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentkit.agent.agent import Agent
from agentkit.agent.toolbox import MAX_CONCURRENT_CALLS
from agentkit.errors import (
    AgentError,
    ConfigurationError,
    DeadlineExceededError,
    StepLimitError,
)
from agentkit.manager.manager import LLMManager
from agentkit.policy.budget import Budget
from agentkit.testing import FakeClock
from agentkit.types import Response, ToolCall, Usage
from tests.agent.runs import (
    Go,
    Model,
    agent_of,
    each_way,
    response_with,
    tool_texts,
    want,
    weather,
)


def again() -> None:
    """Again."""


@each_way
def test_a_run_ends_after_its_steps_without_running_the_last_tools(go: Go) -> None:
    ran: list[int] = []

    def again() -> None:
        """Again."""
        ran.append(1)

    model = Model(then=want("again"))
    agent = agent_of(model)
    with pytest.raises(StepLimitError, match="within 3 steps") as caught:
        go(agent, "Loop", tools=[again], max_steps=3)
    assert len(model.requests) == 3
    assert len(ran) == 2, "no request would send the results of the third"
    assert caught.value.hint
    assert caught.value.ledger is not None
    assert agent.get_performance_metrics()["failed_tasks"] == 1


@each_way
@pytest.mark.parametrize(
    ("limit", "unit"), [({"max_cost": 0.02}, "USD"), ({"max_tokens": 20}, "tokens")]
)
def test_a_run_that_used_its_budget_stops(go: Go, limit: dict[str, Any], unit: str) -> None:
    usage = Usage(6, 4)
    ran: list[int] = []

    def again() -> None:
        """Again."""
        ran.append(1)

    model = Model(then=response_with(ToolCall("1", "again"), usage=usage))
    with pytest.raises(AgentError, match=unit) as caught:
        go(agent_of(model), "Loop", tools=[again], **limit)
    assert not isinstance(caught.value, StepLimitError)
    assert len(model.requests) == 2
    assert len(ran) == 1
    assert caught.value.hint


@each_way
def test_a_result_has_usage_and_cost(go: Go) -> None:
    model = Model(
        response_with(ToolCall("1", "weather", {"city": "Paris"}), usage=Usage(100, 20, 50)),
        Response("ok", Usage(200, 30, reasoning_tokens=7)),
    )
    result = go(agent_of(model), "Try", tools=[weather], max_cost=1.0, max_tokens=300)
    assert result.usage == Usage(300, 50, 50, 0, 7)
    assert result.cost == pytest.approx(0.35)


def test_answers_of_the_response_cache_are_free() -> None:
    model = Model(then=Response("ok", Usage(100, 20)))
    manager = LLMManager(cache="memory")
    manager.register_model("m", model, {"cost_per_1k_tokens": 1.0})
    agent = Agent("helper", "tester", config={"llm_manager": manager})
    agent.start()
    assert agent.run("Same").cost == pytest.approx(0.12)
    again = agent.run("Same")
    assert (again.usage, again.cost) == (Usage(), 0.0)
    manager.close()


def test_rejected_answers_count_too() -> None:
    model = Model(Response("no", Usage(10, 10)), Response("7", Usage(10, 10)))
    result = agent_of(model, attempts=2).run("A number", response_model=int)
    assert result.parsed == 7
    assert result.usage.total_tokens == 40
    assert result.cost == pytest.approx(0.04)


def test_a_budget_in_money_needs_prices_before_anything_is_sent() -> None:
    model = Model(then="ok")
    agent = agent_of(model)
    manager = agent.llm_manager
    assert manager is not None
    manager.register_model("free", model)
    with pytest.raises(ConfigurationError, match="'free' has no price"):
        agent.run("Try", max_cost=1.0, model="free")
    assert model.requests == []
    result = agent.run("Try", max_cost=1.0)
    assert result.cost == pytest.approx(0.006)
    assert result.cost_estimated, "the model reported no tokens"
    assert agent.run("Try", model="free").cost is None, "an unknown price is not zero"


@each_way
def test_a_run_has_the_prices_of_a_budget(go: Go) -> None:
    model = Model(
        response_with(ToolCall("1", "again"), usage=Usage(200, 100)),
        then=Response("ok", Usage(10, 1)),
    )
    manager = LLMManager(enable_caching=False)
    prices = {"cost_per_1k_input_tokens": 1.0, "cost_per_1k_output_tokens": 10.0}
    manager.register_model("m", model, prices)
    agent = Agent("helper", "tester", config={"llm_manager": manager})
    agent.start()
    budget = Budget(usd=100.0)
    result = go(agent, "Try", tools=[again], max_cost=2.0, max_tokens=1000, budget=budget)
    assert result.cost == pytest.approx(1.22)
    assert result.cost == pytest.approx(budget.spent_usd)
    model.script.script(response_with(ToolCall("1", "again"), usage=Usage(200, 100)))
    with pytest.raises(AgentError, match=r"1\.2 of 1\.1 USD"):
        go(agent, "Try", tools=[again], max_cost=1.1)


def test_without_a_pair_of_prices_there_is_no_limit_in_money() -> None:
    manager = LLMManager(enable_caching=False)
    manager.register_model("m", Model(then="ok"), {"cost_per_1k_input_tokens": 1.0})
    agent = Agent("helper", "tester", config={"llm_manager": manager})
    agent.start()
    with pytest.raises(ConfigurationError, match="'m' has no price"):
        agent.run("Try", max_cost=1.0)


@each_way
def test_one_deadline_bounds_asks_and_tools(go: Go) -> None:
    clock = FakeClock()

    def slow() -> str:
        """Slow."""
        clock.advance(6.0)
        return "late"

    model = Model(want("slow"), want("slow", "call-2"), "too late")
    with pytest.raises(DeadlineExceededError, match="deadline of 10 s"):
        go(agent_of(model, clock=clock), "Try", tools=[slow], deadline=10.0)
    assert len(model.requests) == 2
    assert tool_texts(model) == ["late"]


def test_calls_that_wait_their_turn_get_what_is_left_of_the_deadline() -> None:
    clock = FakeClock()
    ran: list[int] = []

    async def slow() -> None:
        """Slow."""
        ran.append(1)
        clock.advance(1.0)

    calls = [ToolCall(str(index), "slow") for index in range(2 * MAX_CONCURRENT_CALLS)]
    model = Model(response_with(*calls), "too late")
    with pytest.raises(DeadlineExceededError):
        agent_of(model, clock=clock).run("Try", tools=[slow], deadline=40.0)
    assert len(ran) == 40


@each_way
def test_a_tool_gets_no_more_time_than_the_run_has(go: Go) -> None:
    async def hang() -> None:
        """Hang."""
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceededError):
        go(agent_of(Model(want("hang"), "ok")), "Try", tools=[hang], deadline=0.1)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_steps": 0},
        {"max_steps": 1.5},
        {"deadline": 0},
        {"deadline": float("nan")},
        {"max_cost": 0},
        {"max_cost": "1"},
        {"max_tokens": 0},
        {"tool_timeout": 0},
        {"tool_timeout": float("inf")},
        {"max_tool_output": 0},
    ],
)
def test_a_limit_that_cannot_work_is_refused_before_anything_is_sent(
    limits: dict[str, Any],
) -> None:
    model = Model(then="ok")
    with pytest.raises(ConfigurationError):
        agent_of(model).run("Try", **limits)
    assert model.requests == []
