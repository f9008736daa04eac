"""What an attempt cost is on its ledger entry: reported, estimated and marked so, or unknown."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import AllModelsFailedError, Budget, LLMManager, Response, RetryPolicy, Usage
from agentkit.errors import LLMError
from agentkit.policy.price import Price
from agentkit.testing import FakeClock, ScriptedModel, overloaded, timeout
from tests.helpers import Ask, agenerate, each_way, generate, stream

CACHED = Usage(10_000, 100, cache_read_tokens=9_000)
PRICES = {"m": Price(1.0, 10.0, cache_read=0.1)}
FULL_PRICE = (1_000 * 1.0 + 9_000 * 0.1 + 100 * 10.0) / 1000


def manager(*models: Any, attempts: int = 1, **options: Any) -> LLMManager:
    """A manager of models called ``m``, ``n``, … that are asked in this order."""
    options.setdefault("prices", PRICES)
    policy = RetryPolicy(max_attempts=attempts, jitter=0.0)
    llm = LLMManager(enable_caching=False, retry=policy, **{"clock": FakeClock()} | options)
    names = "mno"[: len(models)]
    for name, model in zip(names, models, strict=True):
        llm.register_model(name, model)
    if names:
        llm.set_fallback_chain(list(names))
    return llm


def costs(ledger: Any) -> list[Any]:
    return [(entry.cost, entry.cost_estimated) for entry in ledger]


def test_cached_tokens_have_their_own_rate_everywhere() -> None:
    budget = Budget(usd=100.0)
    llm = manager(ScriptedModel(then=Response("fine", CACHED)))
    response = llm.complete("hi", budget=budget)
    assert response.cost == response.ledger.cost == pytest.approx(FULL_PRICE)
    assert costs(response.ledger) == [(pytest.approx(FULL_PRICE), False)]
    assert budget.spent_usd == pytest.approx(FULL_PRICE)
    (entry,) = response.ledger
    assert (entry.cache_read_tokens, entry.model_id) == (9_000, "m")
    assert "2.9 USD" in response.ledger.explain()


def test_the_cost_of_a_stream_is_known_at_its_end() -> None:
    llm = manager(ScriptedModel(Response("fine", CACHED)).as_stream())
    with llm.stream("hi") as pieces:
        list(pieces)
    assert pieces.response.cost == pytest.approx(FULL_PRICE)


def test_a_rate_that_stands_in_is_marked() -> None:
    llm = manager(ScriptedModel(then=Response("fine", CACHED)), prices={"m": Price(1.0, 10.0)})
    response = llm.complete("hi")
    assert costs(response.ledger) == [(pytest.approx(11.0), True)]
    assert response.ledger.cost_estimated
    assert "about 11 USD" in response.ledger.explain()


def test_an_unknown_price_is_unknown() -> None:
    response = manager(ScriptedModel(then=Response("fine", CACHED)), prices={}).complete("hi")
    assert response.cost is None
    assert costs(response.ledger) == [(None, False)]
    assert Response("by hand").cost is None


def test_a_refusal_costs_nothing_at_any_price() -> None:
    models = ScriptedModel(overloaded()), ScriptedModel(Response("fine", Usage(5, 5)))
    response = manager(*models, prices={"n": Price(1.0, 1.0)}).complete("hi")
    assert costs(response.ledger) == [(0.0, False), (pytest.approx(0.01), False)]
    assert response.cost == pytest.approx(0.01)


def test_one_attempt_of_unknown_cost_makes_the_total_unknown() -> None:
    models = ScriptedModel(timeout()), ScriptedModel(Response("fine", Usage(5, 5)))
    response = manager(*models, prices={"n": Price(1.0, 1.0)}).complete("hi")
    assert costs(response.ledger) == [(None, False), (pytest.approx(0.01), False)]
    assert response.cost is None


@each_way
def test_an_attempt_that_timed_out_is_estimated(ask: Ask) -> None:
    llm = manager(ScriptedModel(then=timeout()), prices={"m": Price(1000.0, 1.0)})
    with pytest.raises(LLMError) as caught:
        ask(llm, max_tokens=50)
    ((cost, estimated),) = costs(caught.value.ledger)
    assert estimated
    assert cost == pytest.approx(5 + 0.05, abs=1.0), "the prompt and `max_tokens`"


@pytest.mark.parametrize("ask", [generate, agenerate])
def test_a_response_without_usage_is_estimated_by_its_length(ask: Ask) -> None:
    def model(prompt: str, options: dict[str, Any]) -> str:
        return "word " * 400

    llm = manager(model, prices={"m": Price(0.0, 1000.0)})
    ask(llm)
    entry = llm.complete("hi").ledger[0]
    assert entry.cost == pytest.approx(400, rel=0.3)
    assert entry.cost_estimated
    assert entry.output_tokens == 0, "the ledger shows what was reported"


def test_a_stream_that_is_closed_early_costs_what_was_shown() -> None:
    llm = manager(
        ScriptedModel(["word " * 400, "and more"]).as_stream(), prices={"m": Price(0.0, 1000.0)}
    )
    budget = Budget(usd=10_000_000.0)
    with llm.stream("hi", max_tokens=9_999, budget=budget) as pieces:
        next(pieces)
    assert budget.spent_usd == pytest.approx(400, rel=0.3)


def test_a_stream_that_breaks_costs_what_was_shown() -> None:
    broken = ScriptedModel(["word " * 400, ConnectionResetError()]).as_stream()
    budget = Budget(usd=10_000_000.0)
    llm = manager(broken, prices={"m": Price(0.0, 1000.0)})
    with pytest.raises(LLMError) as caught:
        stream(llm, budget=budget)
    ((cost, estimated),) = costs(caught.value.ledger)
    assert (cost, estimated) == (pytest.approx(400, rel=0.3), True)
    assert budget.spent_usd == cost


def test_a_lost_connection_is_free_but_not_certainly() -> None:
    llm = manager(ScriptedModel(then=ConnectionError("down")))
    with pytest.raises(LLMError) as caught:
        llm.complete("hi")
    assert costs(caught.value.ledger) == [(0.0, True)]


def test_rejected_responses_and_retries_add_up() -> None:
    no, yes = Response("no", Usage(10, 10)), Response("7", Usage(10, 10))
    model = ScriptedModel(no, overloaded(), yes)
    llm = manager(model, attempts=3, prices={"m": Price(1.0, 1.0)})
    response = llm.complete("a number", response_model=int)
    assert response.parsed == 7
    assert [cost for cost, _ in costs(response.ledger)] == [0.02, 0.0, 0.02]
    assert response.cost == pytest.approx(0.04)


def test_the_response_cache_is_free() -> None:
    llm = LLMManager(cache="memory", prices=PRICES)
    llm.register_model("m", ScriptedModel(Response("fine", CACHED)))
    assert llm.complete("hi").cost == pytest.approx(FULL_PRICE)
    again = llm.complete("hi")
    assert (again.cached, again.cost, again.ledger.cost_estimated) == (True, 0.0, False)


def test_metadata_comes_before_the_list_of_prices() -> None:
    llm = manager()
    model = ScriptedModel(then=Response("fine", Usage(500, 500)))
    llm.register_model("m", model, {"cost_per_1k_tokens": 7.0})
    llm.register_model("smart", model, {"model": "m"})
    assert llm.complete("hi", model="m").cost == 7.0
    response = llm.complete("hi", model="smart")
    assert response.cost == pytest.approx(5.5), "priced by the provider's own name"
    assert response.ledger[0].model_id == "m"


def test_skips_have_no_cost() -> None:
    llm = manager(ScriptedModel(), ScriptedModel())
    with pytest.raises(AllModelsFailedError) as caught:
        llm.complete("hi", budget=Budget(tokens=1))
    ledger = caught.value.ledger
    assert ledger is not None
    assert ledger.cost == 0.0
