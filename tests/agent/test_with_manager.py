"""An agent over a real manager: the documented snippet, and one trace from task to model call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentkit import Agent, LLMManager, ProviderError, RetryPolicy, Telemetry


def model(prompt: str, kwargs: dict[str, Any]) -> str:
    return f"about {prompt}"


async def amodel(prompt: str, kwargs: dict[str, Any]) -> str:
    return f"about {prompt}"


def broken(prompt: str, kwargs: dict[str, Any]) -> str:
    raise ConnectionError("unplugged")


def manager_of(inference_fn: Any, **kwargs: Any) -> LLMManager:
    manager = LLMManager(enable_caching=False, **kwargs)
    manager.register_model("gpt-4", inference_fn)
    manager.set_active_model("gpt-4")
    return manager


@pytest.mark.promise("S3-31")
def test_the_documented_snippet_runs() -> None:
    with manager_of(model) as llm_manager:
        agent = Agent(
            name="AIAssistant",
            role="General Assistant",
            capabilities=["conversation", "analysis"],
            config={"llm_manager": llm_manager},
        )

        def agent_task(query: str) -> str:
            return llm_manager.generate(prompt=f"As an AI assistant, respond to: {query}")

        agent.start()
        result = agent.execute_task(agent_task, "What is machine learning?")
    assert result == "about As an AI assistant, respond to: What is machine learning?"


@pytest.mark.promise("S3-34")
@pytest.mark.parametrize("inference_fn", [model, amodel])
def test_sync_and_async_asks_reach_sync_and_async_models(inference_fn: Any) -> None:
    with manager_of(inference_fn) as manager:
        agent = Agent("a", "b", config={"llm_manager": manager})
        agent.start()
        assert agent.ask("cats") == "about cats"
        assert asyncio.run(agent.aask("dogs")) == "about dogs"
        assert manager.get_metrics()["successful_requests"] == 2
    assert agent.get_performance_metrics()["successful_tasks"] == 2


def test_the_health_of_real_models_follows_their_attempts() -> None:
    with manager_of(model, retry=RetryPolicy(max_attempts=1)) as manager:
        manager.register_model("broken", broken)
        manager.register_model("idle", model)
        agent = Agent("a", "b", config={"llm_manager": manager})
        agent.start()
        agent.ask("cats")
        with pytest.raises(ProviderError):
            agent.execute_task(lambda: manager.complete("cats", model="broken"))
        health = agent.model_health()
    rates = {name: (each.success_rate, each.samples) for name, each in health.items()}
    assert rates == {"gpt-4": (1.0, 1), "broken": (0.0, 1), "idle": (1.0, 0)}


def ask(agent: Agent, prompt: str) -> str:
    return agent.ask(prompt)


def aask(agent: Agent, prompt: str) -> str:
    return asyncio.run(agent.aask(prompt))


def task(agent: Agent, prompt: str) -> str:
    manager = agent.llm_manager
    assert manager is not None
    return agent.execute_task(manager.generate, prompt)


def coroutine_task_inside_a_loop(agent: Agent, prompt: str) -> str:
    manager = agent.llm_manager
    assert manager is not None

    async def main() -> str:
        answer: str = agent.execute_task(manager.agenerate, prompt)
        return answer

    return asyncio.run(main())


def blocking_task_from_asyncio(agent: Agent, prompt: str) -> str:
    manager = agent.llm_manager
    assert manager is not None
    return asyncio.run(agent.aexecute_task(manager.generate, prompt))


@pytest.mark.parametrize("inference_fn", [model, amodel])
@pytest.mark.parametrize(
    "way", [ask, aask, task, coroutine_task_inside_a_loop, blocking_task_from_asyncio]
)
def test_one_trace_leads_from_the_agent_to_the_model(
    way: Callable[[Agent, str], str], inference_fn: Any
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with manager_of(inference_fn, telemetry=Telemetry(tracer_provider=provider)) as manager:
        agent = Agent("a", "b", config={"llm_manager": manager}, tracer_provider=provider)
        agent.start()
        assert way(agent, "cats") == "about cats"
    spans = {span.name.split()[0]: span for span in exporter.get_finished_spans()}
    assert len(spans) == len(exporter.get_finished_spans()) == 3
    assert spans["invoke_agent"].parent is None
    assert parent(spans["agentkit.generate"]) == own(spans["invoke_agent"])
    assert parent(spans["chat"]) == own(spans["agentkit.generate"])
    provider.shutdown()


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def own(span: ReadableSpan) -> int | None:
    return None if span.context is None else span.context.span_id
