"""`generate` takes the arguments of `complete`, and returns what people want to print."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from agentkit import Budget as SpendingBudget
from agentkit import (
    BudgetExceededError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidResponseError,
    LLMError,
    LLMManager,
    Response,
    RetryPolicy,
    ToolCall,
)
from agentkit.testing import FakeClock, ScriptedModel
from tests.helpers import City, manager_of


def options_as_text(prompt: str, kwargs: dict[str, Any]) -> str:
    return repr(kwargs)


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def test_generate_takes_what_complete_takes() -> None:
    generate = inspect.signature(LLMManager.generate).parameters
    complete = inspect.signature(LLMManager.complete).parameters
    assert list(generate)[:3] == ["self", "prompt", "use_cache"]
    assert {name: each.default for name, each in generate.items()} == {
        name: each.default for name, each in complete.items()
    }


@pytest.mark.promise("S3-06", "S3-07")
def test_the_models_parameters_reach_it_and_the_arguments_do_not() -> None:
    llm = manager_of(options_as_text)
    text = llm.generate("hi", model="m0", deadline=5.0, retry=RetryPolicy(), priority=1, top_p=1)
    assert text == "{'top_p': 1}"


def test_params_reach_the_model_under_the_names_of_arguments() -> None:
    llm = manager_of(options_as_text)
    params = {"model": "mine", "tools": ["hammer"]}
    expected = "{'model': 'mine', 'tools': ['hammer'], 'top_p': 1}"
    assert llm.generate("hi", params=params, top_p=1) == expected
    assert asyncio.run(llm.agenerate("hi", params=params, top_p=1)) == expected
    assert llm.complete("hi", params=params, top_p=1).text == expected
    assert "".join(llm.stream("hi", params=params, top_p=1)) == expected


@pytest.mark.parametrize("params", [3, "top_p", [("top_p", 1)], {"top_p": 1}])
def test_params_that_are_wrong_or_contradict_a_keyword_are_refused(params: Any) -> None:
    llm = manager_of(options_as_text)
    with pytest.raises(ConfigurationError, match=r"params must be a mapping|'top_p' is set twice"):
        llm.generate("hi", params=params, top_p=0)


def test_generate_asks_the_model_that_it_names() -> None:
    llm = manager_of(ScriptedModel(then="default"), ScriptedModel(then="smart"))
    assert (llm.generate("hi"), llm.generate("hi", model="m1")) == ("default", "smart")


def test_generate_keeps_the_deadline_the_retries_and_the_budget_of_the_call() -> None:
    model = ScriptedModel(then=ConnectionError("down"))
    llm = manager_of(model, clock=FakeClock())
    with pytest.raises(LLMError) as caught:
        llm.generate("hi", retry=RetryPolicy(max_attempts=2))
    assert len(caught.value.ledger or ()) == 2
    with pytest.raises(DeadlineExceededError):
        llm.generate("hi", deadline=0.5)
    with pytest.raises(BudgetExceededError):
        llm.generate("hi", budget=SpendingBudget(tokens=1))


def test_generate_returns_an_instance_of_the_response_model() -> None:
    llm = manager_of(ScriptedModel(then='{"name": "Paris"}'))
    assert llm.generate("capital?", response_model=City) == City(name="Paris")
    assert asyncio.run(llm.agenerate("capital?", response_model=City)) == City(name="Paris")


class Caller:
    """A model that calls a tool."""

    provider = "caller"
    capabilities = frozenset({"messages", "tools"})

    def send(self, request: Any) -> Response[Any]:
        return Response(
            "Let me look.", tool_calls=(ToolCall("1", "get_weather", {"city": "Rome"}),)
        )


def test_generate_does_not_hide_a_tool_call_behind_its_text() -> None:
    llm = manager_of(Caller())
    with pytest.raises(InvalidResponseError, match="calls get_weather") as caught:
        llm.generate("weather?", tools=[get_weather])
    assert (caught.value.retryable, len(caught.value.ledger or ())) == (False, 1)
    assert llm.complete("weather?", tools=[get_weather]).tool_calls
