"""An agent reasons through its manager, and what that took is the agent's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentkit.agent.agent import Agent
from agentkit.errors import ConfigurationError, RateLimitError
from agentkit.telemetry.recorder import Health
from tests.agent.fakes import FakeManager, running_agent


def aask(agent: Agent, prompt: str, **kwargs: Any) -> str:
    return asyncio.run(agent.aask(prompt, **kwargs))


sync_and_async = pytest.mark.parametrize("ask", [Agent.ask, aask])


@sync_and_async
def test_a_question_goes_to_the_manager_with_its_options(ask: Callable[..., str]) -> None:
    manager = FakeManager()
    agent = running_agent(manager)
    assert ask(agent, "why?", temperature=0.1, use_cache=False) == "answer to why?"
    assert manager.asked == [("why?", {"temperature": 0.1, "use_cache": False})]
    assert agent.get_performance_metrics()["successful_tasks"] == 1


@sync_and_async
def test_an_error_of_the_manager_is_raised_and_counted(ask: Callable[..., str]) -> None:
    error = RateLimitError("slow down", retry_after=3.0)
    agent = running_agent(FakeManager(error=error))
    with pytest.raises(RateLimitError) as caught:
        ask(agent, "why?")
    assert caught.value is error
    (failure,) = agent.error_log
    assert failure.exception_type == "RateLimitError"
    assert "generate" in failure.task


@sync_and_async
def test_without_a_manager_the_error_has_a_hint(ask: Callable[..., str]) -> None:
    agent = running_agent()
    with pytest.raises(ConfigurationError, match="no manager") as caught:
        ask(agent, "why?")
    assert "llm_manager" in str(caught.value.hint)
    assert agent.get_performance_metrics()["total_tasks"] == 0


def test_the_health_of_every_model_is_at_hand() -> None:
    good, bad = Health(1.0, 0.2, 0.4, 9), Health(0.1, 1.0, 2.0, 9)
    agent = running_agent(FakeManager(healths={"primary": bad, "backup": good}))
    assert agent.model_health() == {"primary": bad, "backup": good}
    assert max(agent.model_health().items(), key=lambda each: each[1].success_rate)[0] == "backup"


def test_a_model_that_is_unregistered_meanwhile_is_left_out() -> None:
    good = Health()
    agent = running_agent(FakeManager(healths={"kept": good}, forgotten=("gone",)))
    assert agent.model_health() == {"kept": good}


def test_health_without_a_manager_has_a_hint() -> None:
    with pytest.raises(ConfigurationError, match="no manager"):
        Agent("a", "b").model_health()
