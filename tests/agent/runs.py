"""What tests of an agent's runs share: a model that calls tools, and the three ways to run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentkit.agent.agent import Agent
from agentkit.agent.result import AgentResult
from agentkit.manager.manager import LLMManager
from agentkit.testing import ScriptedModel
from agentkit.types import MessageRole, Request, Response, ToolCall, Usage


class Model:
    """A provider that can use tools, answers by its script and keeps the requests."""

    capabilities = frozenset({"messages", "tools", "json_schema"})

    def __init__(self, *steps: Any, then: Any = None) -> None:
        self.script = ScriptedModel(*steps, then=then)
        self.requests: list[Request] = []

    def send(self, request: Request) -> Any:
        self.requests.append(request)
        return self.script(request.text, dict(request.params))


def response_with(*calls: ToolCall, text: str = "", usage: Usage | None = None) -> Response[Any]:
    """A response with tool calls."""
    return Response(text, usage or Usage(), finish_reason="tool_calls", tool_calls=calls)


def want(name: str, /, call_id: str = "call-1", **arguments: Any) -> Response[Any]:
    return response_with(ToolCall(call_id, name, arguments))


def agent_of(
    *models: Any, config: dict[str, Any] | None = None, attempts: int = 1, **kwargs: Any
) -> Agent:
    """A running agent whose manager asks `models` in order."""
    clock = kwargs.get("clock")
    manager = LLMManager(enable_caching=False, max_retries=attempts, clock=clock)
    for index, model in enumerate(models):
        manager.register_model(f"m{index}", model, {"cost_per_1k_tokens": 1.0})
    manager.set_fallback_chain([f"m{index}" for index in range(len(models))])
    agent = Agent("helper", "tester", config={"llm_manager": manager, **(config or {})}, **kwargs)
    agent.start()
    return agent


def run(agent: Agent, *args: Any, **kwargs: Any) -> AgentResult[Any]:
    return agent.run(*args, **kwargs)


def run_inside_a_loop(agent: Agent, *args: Any, **kwargs: Any) -> AgentResult[Any]:
    async def main() -> AgentResult[Any]:
        return agent.run(*args, **kwargs)

    return asyncio.run(main())


def arun(agent: Agent, *args: Any, **kwargs: Any) -> AgentResult[Any]:
    return asyncio.run(agent.arun(*args, **kwargs))


each_way = pytest.mark.parametrize("go", [run, run_inside_a_loop, arun])
Go = Callable[..., AgentResult[Any]]


def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


async def aweather(city: str) -> str:
    """The weather of a city."""
    await asyncio.sleep(0)
    return f"sunny in {city}"


def tool_texts(model: Model, at: int = 1) -> list[str]:
    """The results of the tools in the model's request number `at`."""
    messages = model.requests[at].messages
    return [each.text for each in messages if each.role is MessageRole.TOOL]


def raising(error: BaseException) -> Callable[[], str]:
    def tool() -> str:
        """A tool."""
        raise error

    return tool
