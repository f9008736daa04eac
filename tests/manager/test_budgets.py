"""What does not fit into a budget is not sent."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agentkit import (
    AllModelsFailedError,
    Budget,
    BudgetExceededError,
    ConfigurationError,
    LLMManager,
    NetworkError,
    RetryPolicy,
)
from agentkit.testing import FakeClock, ScriptedModel
from agentkit.types import Response, Usage

PRICE = {"cost_per_1k_tokens": 1.0}
SMALL: Response[Any] = Response("x", Usage(10, 10))


def priced(model: Any, metadata: dict[str, Any] | None = None, **how: Any) -> LLMManager:
    llm = LLMManager(enable_caching=False, clock=FakeClock(), retry=RetryPolicy(jitter=0.0), **how)
    llm.register_model("m", model, PRICE if metadata is None else metadata)
    return llm


@pytest.mark.promise("S4-47")
def test_a_managers_tokens_end() -> None:
    budget = Budget(tokens=500)
    model = ScriptedModel(then=SMALL)
    llm = priced(model, budget=budget)
    for _ in range(20):
        llm.complete("hi", max_tokens=50)
    assert budget.spent_tokens == 400
    with pytest.raises(BudgetExceededError, match="100 of 500") as caught:
        llm.complete("hi", max_tokens=100)
    assert len(model.calls) == 20
    assert [entry.reason for entry in caught.value.ledger or ()] == ["budget"]


def test_a_calls_money_ends_and_a_cheaper_fallback_may_fit() -> None:
    dear, cheap = ScriptedModel(then=SMALL), ScriptedModel(then=SMALL)
    llm = priced(dear, {"cost_per_1k_input_tokens": 1.0, "cost_per_1k_output_tokens": 100.0})
    llm.register_model("cheap", cheap, {"cost_per_1k_tokens": 0.001})
    llm.set_fallback_chain(["m", "cheap"])
    budget = Budget(usd=0.5)
    assert llm.complete("hi", max_tokens=100, budget=budget).model == "cheap"
    assert not dear.calls
    assert budget.spent_usd == pytest.approx(20 * 0.001 / 1000)


@pytest.mark.promise("S4-47")
def test_both_budgets_hold() -> None:
    wide, narrow = Budget(tokens=10_000), Budget(tokens=10)
    llm = priced(ScriptedModel(then=SMALL), budget=wide)
    with pytest.raises(BudgetExceededError):
        llm.complete("hi", max_tokens=100, budget=narrow)
    assert (wide.spent_tokens, narrow.spent_tokens) == (0, 0)


def test_what_failed_costs_nothing_and_what_is_unknown_is_estimated_by_its_length() -> None:
    budget = Budget(tokens=100_000)
    llm = priced(ScriptedModel(then=ConnectionError("down")), budget=budget)
    with pytest.raises(NetworkError):
        llm.complete("hi", max_tokens=50)
    assert budget.spent_tokens == 0
    estimated = Budget(tokens=100_000)
    priced(ScriptedModel(then="no usage reported"), budget=estimated).complete("hi", max_tokens=50)
    assert 5 <= estimated.spent_tokens <= 15, "of both texts, not of max_tokens"


def test_money_needs_a_price() -> None:
    llm = priced(ScriptedModel(then=SMALL), {})
    with pytest.raises(ConfigurationError, match="no price"):
        llm.complete("hi", budget=Budget(usd=1.0))


def test_models_that_are_all_too_expensive_raise_one_error() -> None:
    llm = priced(ScriptedModel(then=SMALL))
    llm.register_model("n", ScriptedModel(then=SMALL), PRICE)
    llm.set_fallback_chain(["m", "n"])
    with pytest.raises(AllModelsFailedError) as caught:
        llm.complete("hi", budget=Budget(usd=0.0001))
    assert all(isinstance(each, BudgetExceededError) for each in caught.value.exceptions)


def test_threads_together_stay_within_it() -> None:
    budget = Budget(tokens=1000)
    llm = LLMManager(enable_caching=False, budget=budget)
    model = ScriptedModel(then=SMALL)
    llm.register_model("m", model)
    refused = []

    def calls() -> None:
        for _ in range(20):
            try:
                llm.complete("hi", max_tokens=10)
            except BudgetExceededError:
                refused.append(1)

    threads = [threading.Thread(target=calls) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.spent_tokens <= 1000
    assert len(model.calls) + len(refused) == 160


@pytest.mark.parametrize("wrong", [{}, {"tokens": 0}, {"usd": 0.0}, {"usd": -1.0}, {"tokens": 1.5}])
def test_what_bounds_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Budget(**wrong)


def test_one_budget_for_a_manager_and_a_call_is_charged_once() -> None:
    budget = Budget(tokens=500)
    priced(ScriptedModel(then=SMALL), budget=budget).complete("hi", max_tokens=50, budget=budget)
    assert budget.spent_tokens == 20
