"""A batch from file to file waits for models that are down, and stops at a spent budget."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentkit import (
    AuthenticationError,
    BreakerPolicy,
    Budget,
    BudgetExceededError,
    ConfigurationError,
    LLMError,
    LLMManager,
    Response,
    RetryPolicy,
    Usage,
    complete_file,
)
from agentkit.manager.batch_file import Progress
from agentkit.testing import FakeClock, ScriptedModel, faults, overloaded, server_error

Model = Callable[[str, dict[str, Any]], Any]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Batch:
    """A file of prompts, and runs over it."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.source, self.target = folder / "in.jsonl", folder / "out.jsonl"
        self.clock = clock
        self.seen: list[Progress] = []

    def write(self, *items: Any) -> None:
        objects = [item if isinstance(item, dict) else {"prompt": item} for item in items]
        self.source.write_text("".join(f"{json.dumps(each)}\n" for each in objects))

    def run(self, model: Any, *, manager: dict[str, Any] | None = None, **options: Any) -> Progress:
        settings: dict[str, Any] = {
            "enable_caching": False,
            "clock": self.clock,
            "retry": RetryPolicy(max_attempts=6),
            **(manager or {}),
        }
        with LLMManager(**settings) as llm:
            llm.register_model("m", model, {"cost_per_1k_tokens": 1.0})
            self.seen.clear()
            return asyncio.run(
                complete_file(
                    llm, self.source, self.target, on_progress=self.seen.append, **options
                )
            )

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.target.read_text().splitlines()]


@pytest.fixture
def batch(tmp_path: Path, clock: FakeClock) -> Batch:
    return Batch(tmp_path, clock)


def asynchronous(model: Model) -> Any:
    async def call(prompt: str, options: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return model(prompt, options)

    return call


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("failures", [5, 40, 200])
def test_a_hiccup_fails_no_item(batch: Batch, failures: int, concurrency: int) -> None:
    """Five 500s open the breaker; the items under way wait for its next probe."""
    batch.write(*(f"question {number}" for number in range(20)))
    model = ScriptedModel(*[server_error()] * failures, then="fine")
    done = batch.run(model.as_async(), max_concurrency=concurrency)
    assert done == Progress(total=20, answered=20)
    assert not [each for each in batch.results() if "error" in each]


@pytest.mark.parametrize("hours", [1, 11])
def test_an_outage_of_hours_costs_no_item(batch: Batch, clock: FakeClock, hours: int) -> None:
    batch.write(*(f"question {number}" for number in range(20)))
    back = clock.now() + hours * 3600

    def model(prompt: str, options: dict[str, Any]) -> str:
        clock.advance(1.0)
        if clock.now() < back:
            raise ConnectionRefusedError
        return "fine"

    policy = BreakerPolicy(recovery_timeout=30.0)
    done = batch.run(asynchronous(model), manager={"breaker": policy}, max_concurrency=4)
    assert done == Progress(total=20, answered=20)


def test_progress_says_why_it_waits_and_until_when(batch: Batch) -> None:
    batch.write("one", "two")
    model = ScriptedModel(*[overloaded()] * 6, then="fine")
    batch.run(model.as_async(), manager={"retry": RetryPolicy(max_attempts=1)})
    outages = [each.outage for each in batch.seen if each.outage is not None]
    assert any("circuit breaker of m is open" in str(each) for each in outages)
    assert all("next try at" in str(each) and "giving up at" in str(each) for each in outages)
    assert all(each.retry_at < each.give_up_at for each in outages)
    assert batch.seen[-1].outage is None
    assert batch.seen[-1].held == 0


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_an_item_that_always_fails_ends_alone(batch: Batch, place: int, concurrency: int) -> None:
    """The model answers the others, so that this is not an outage."""
    prompts = [f"question {number}" for number in range(5)]
    prompts[place] = "poison"
    batch.write(*prompts)

    def model(prompt: str, options: dict[str, Any]) -> str:
        if prompt == "poison":
            raise ConnectionResetError
        return "fine"

    done = batch.run(asynchronous(model), max_concurrency=concurrency)
    assert done == Progress(total=5, answered=4, failed=1)
    [failed] = [each for each in batch.results() if "error" in each]
    assert (failed["index"], failed["error"]["type"]) == (place, "NetworkError")
    assert batch.clock.elapsed < 1800


def test_the_run_gives_up_after_its_patience_and_writes_no_item_off(batch: Batch) -> None:
    batch.write(*(f"question {number}" for number in range(20)))
    down = ScriptedModel("fine", "fine", then=overloaded())
    with pytest.raises(LLMError) as caught:
        batch.run(down.as_async(), patience=600.0, max_concurrency=4)
    assert caught.value.retryable
    assert "patience" in str(caught.value.hint)
    assert batch.clock.elapsed >= 600
    assert len(batch.results()) == 2
    done = batch.run(ScriptedModel(then="fine").as_async())
    assert done == Progress(total=20, kept=2, answered=18)


def test_without_patience_an_outage_is_final(batch: Batch) -> None:
    batch.write("one", "two")
    done = batch.run(ScriptedModel(then=overloaded()).as_async(), patience=0)
    assert done == Progress(total=2, failed=2)


def test_an_items_own_deadline_is_final(batch: Batch, clock: FakeClock) -> None:
    batch.write({"prompt": "one", "deadline": 5})

    def slow(prompt: str, options: dict[str, Any]) -> str:
        clock.advance(6.0)
        raise TimeoutError

    assert batch.run(asynchronous(slow)) == Progress(total=1, failed=1)
    assert clock.elapsed < 20


@pytest.mark.parametrize("status", [401, 402])
def test_refused_keys_stop_the_run(batch: Batch, status: int) -> None:
    batch.write(*(f"question {number}" for number in range(20)))
    model = ScriptedModel("fine", then=faults.Status(status))
    with pytest.raises(AuthenticationError):
        batch.run(model.as_async(), max_concurrency=2)
    assert len(batch.results()) == 1
    done = batch.run(ScriptedModel(then="fine").as_async())
    assert done == Progress(total=20, kept=1, answered=19)


def test_access_that_one_item_lacks_fails_its_line(batch: Batch) -> None:
    batch.write("one", "two")
    model = ScriptedModel(faults.Status(403), then="fine")
    assert batch.run(model.as_async(), max_concurrency=1) == Progress(2, answered=1, failed=1)


class TestABudget:
    @staticmethod
    def model(tokens: int = 100) -> tuple[list[str], Any]:
        asked: list[str] = []

        def answer(prompt: str, options: dict[str, Any]) -> Any:
            asked.append(prompt)
            return Response("fine", Usage(tokens // 2, tokens - tokens // 2))

        return asked, asynchronous(answer)

    @staticmethod
    def items(number: int) -> list[dict[str, Any]]:
        return [{"prompt": f"question {each}", "max_tokens": 100} for each in range(number)]

    @pytest.mark.parametrize("limit", [{"tokens": 1000}, {"usd": 1.0}], ids=["tokens", "usd"])
    def test_the_run_stops_before_the_limit_and_loses_no_item(
        self, batch: Batch, limit: dict[str, Any]
    ) -> None:
        batch.write(*self.items(20))
        asked, model = self.model()
        with pytest.raises(BudgetExceededError) as caught:
            batch.run(model, budget=Budget(**limit), max_concurrency=4)
        assert "raise the budget" in str(caught.value.hint)
        # An item reserves about 105 tokens, so that nine of 100 leave too little for the next one.
        assert len(asked) == 9
        assert len(batch.results()) == 9
        assert not [each for each in batch.results() if "error" in each]

    def test_spending_continues_in_the_next_run(self, batch: Batch) -> None:
        batch.write(*self.items(20))
        asked, model = self.model()
        for limit in (1000, 1000, 1500):
            with pytest.raises(BudgetExceededError):
                batch.run(model, budget=Budget(tokens=limit))
        assert len(asked) == 14
        done = batch.run(model, budget=Budget(tokens=10_000))
        assert (done.tokens, done.answered, done.kept) == (2000, 6, 14)
        assert done.cost == pytest.approx(2.0)

    def test_what_failed_items_took_counts_in_the_next_run(self, batch: Batch) -> None:
        """An answer that cannot be used is paid for; its line is replaced, its cost is not lost."""
        batch.write(*self.items(1))
        asked, model = self.model()
        batch.run(model)
        [result] = batch.results()
        failed = {name: result[name] for name in ("index", "id", "digest")}
        failed |= {"error": {}, "tokens": 300, "cost": 0.3, "cost_estimated": True}
        batch.target.write_text(json.dumps(failed) + "\n")
        with pytest.raises(BudgetExceededError):
            batch.run(model, budget=Budget(tokens=350))
        done = batch.run(model, budget=Budget(tokens=1000))
        assert done.tokens == 400
        assert done.cost == pytest.approx(0.4)
        [result] = batch.results()
        assert (result["tokens"], result["cost_estimated"]) == (400, True)
        assert len(asked) == 2

    def test_the_managers_own_budget_stops_the_run_too(self, batch: Batch) -> None:
        batch.write(*self.items(20))
        asked, model = self.model()
        with pytest.raises(BudgetExceededError):
            batch.run(model, manager={"budget": Budget(tokens=1000)})
        assert len(batch.results()) == len(asked) == 9

    def test_unknown_prices_are_refused_before_anything_is_sent(self, batch: Batch) -> None:
        batch.write(*self.items(2))
        asked, model = self.model()
        with LLMManager(enable_caching=False) as llm:
            llm.register_model("free", model)
            with pytest.raises(ConfigurationError, match="has no price"):
                asyncio.run(complete_file(llm, batch.source, batch.target, budget=Budget(usd=1)))
            assert asked == []
            asyncio.run(complete_file(llm, batch.source, batch.target))
        assert [each["cost"] for each in batch.results()] == [None, None]
        with pytest.raises(ConfigurationError, match="unknown cost"):
            batch.run(model, budget=Budget(usd=1))
