"""Outages as data, run with the real manager, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from agentkit import (
    AllModelsFailedError,
    BreakerPolicy,
    LLMError,
    LLMManager,
    Response,
    RetryPolicy,
)
from agentkit.testing import FakeClock, ScriptedModel, Step
from agentkit.types import StreamEvent

Shape: TypeAlias = Literal["function", "coroutine function", "stream"]
SHAPES: tuple[Shape, ...] = ("function", "coroutine function", "stream")

LITERAL = RetryPolicy(jitter=0.0)


@dataclass(frozen=True)
class Scenario:
    """What the models do, how they are registered, what is asked, and what must come of it."""

    name: str
    models: Mapping[str, Sequence[Step]]
    result: str | type[BaseException]
    asked: Mapping[str, int]
    chain: tuple[str, ...] = ()
    """The route; by default all models in order."""
    sleeps: tuple[float, ...] = ()
    register: Mapping[str, Any] = field(default_factory=dict)
    manager: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    prompt: Any = "What is the capital of France?"
    times: int = 1
    """How often the same thing is asked; the last time counts."""
    only: tuple[Shape, ...] = SHAPES


@dataclass(frozen=True)
class Account:
    """What a caller can see afterwards, but for durations."""

    result: str | type[BaseException]
    causes: tuple[tuple[type[BaseException], Any], ...]
    answered_by: str | None
    ledger: tuple[tuple[Any, ...], ...]
    cache: str
    slept: float
    sleeps: tuple[float, ...]
    metrics: Mapping[str, Any]
    stats: Mapping[str, tuple[int, int, int]]
    breakers: Mapping[str, str]
    calls: Mapping[str, tuple[tuple[str, str], ...]]
    events: tuple[StreamEvent, ...] = ()


Ask: TypeAlias = Callable[[LLMManager, Scenario, list[StreamEvent]], Response[Any]]


def complete(manager: LLMManager, scenario: Scenario, _: list[StreamEvent]) -> Response[Any]:
    return manager.complete(scenario.prompt, **scenario.request)


def acomplete(manager: LLMManager, scenario: Scenario, _: list[StreamEvent]) -> Response[Any]:
    return asyncio.run(manager.acomplete(scenario.prompt, **scenario.request))


def stream(manager: LLMManager, scenario: Scenario, events: list[StreamEvent]) -> Response[Any]:
    with manager.stream(scenario.prompt, **scenario.request) as stream:
        for event in stream.events():
            events.append(event)  # noqa: PERF402 - what came before an error counts, too
        return stream.response


def astream(manager: LLMManager, scenario: Scenario, events: list[StreamEvent]) -> Response[Any]:
    async def read() -> Response[Any]:
        async with manager.astream(scenario.prompt, **scenario.request) as stream:
            async for event in stream.events():
                events.append(event)  # noqa: PERF401 - what came before an error counts, too
            return stream.response

    return asyncio.run(read())


def live(scenario: Scenario, shape: Shape, ask: Ask) -> Account:
    """Live through `scenario`, its models in `shape`."""
    clock = FakeClock()
    models = {name: ScriptedModel(*steps) for name, steps in scenario.models.items()}
    settings: dict[str, Any] = {"enable_caching": False, "retry": LITERAL, **scenario.manager}
    with LLMManager(clock=clock, rng=lambda: 0.5, **settings) as manager:
        for name, model in models.items():
            own = scenario.register.get(name, scenario.register.get("*", {}))
            manager.register_model(name, shaped(model, shape), **own)
        manager.set_fallback_chain(scenario.chain or list(models))
        for _ in range(scenario.times - 1):
            outcome(ask, manager, scenario, [])
        events: list[StreamEvent] = []
        result = outcome(ask, manager, scenario, events)
        for model in models.values():
            model.close()
        return account_of(result, manager, models, clock, events)


def shaped(model: ScriptedModel, shape: Shape) -> Any:
    if shape == "function":
        return model
    return (
        model.as_async() if shape == "coroutine function" else model.as_stream("tools", "prefill")
    )


def outcome(
    ask: Ask, manager: LLMManager, scenario: Scenario, events: list[StreamEvent]
) -> Response[Any] | LLMError:
    try:
        return ask(manager, scenario, events)
    except LLMError as error:
        return error


def account_of(
    result: Response[Any] | LLMError,
    manager: LLMManager,
    models: Mapping[str, ScriptedModel],
    clock: FakeClock,
    events: Sequence[StreamEvent],
) -> Account:
    """Everything visible about one request, in comparable form."""
    ledger = result.ledger
    assert ledger is not None
    causes = result.exceptions if isinstance(result, AllModelsFailedError) else ()
    infos = {name: manager.get_model_info(name) for name in models}
    return Account(
        result=result.text if isinstance(result, Response) else type(result),
        causes=tuple((type(cause), getattr(cause, "status", None)) for cause in causes),
        answered_by=ledger.answered_by,
        ledger=tuple(
            (
                entry.model, entry.provider, entry.outcome, entry.number, entry.delay, entry.error,
                entry.error_type, entry.status, entry.reason, entry.breaker, entry.cache,
                entry.position,
            )
            for entry in ledger
        ),
        cache=ledger.cache,
        slept=ledger.slept,
        sleeps=tuple(clock.sleeps),
        metrics={key: value for key, value in manager.get_metrics().items() if key != STUCK},
        stats={name: figures(info["stats"]) for name, info in infos.items()},
        breakers={name: info["circuit_breaker_state"] for name, info in infos.items()},
        calls={
            name: tuple((call.prompt, repr(call.kwargs)) for call in model.calls)
            for name, model in models.items()
        },
        events=tuple(events),
    )  # fmt: skip


STUCK = "stuck_calls"
"""Depends on whether a silent call can be cancelled, which differs by nature."""


def figures(stats: Mapping[str, Any]) -> tuple[int, int, int]:
    return stats["requests"], stats["successes"], stats["failures"]


ONCE = RetryPolicy(max_attempts=1)
BREAKER_OF_TWO = BreakerPolicy(failure_threshold=2)
EMPTY_BUDGET = RetryPolicy(jitter=0.0, budget=0)
