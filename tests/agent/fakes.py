"""Stand-ins around an agent: a manager that answers at once, and a clock moved by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agentkit.agent.agent import Agent
from agentkit.errors import UnknownModelError


class HandClock:
    """Seconds that pass only on demand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class FakeManager:
    """Answers with the prompt, or raises `error`; keeps what it was asked."""

    error: Exception | None = None
    healths: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    forgotten: tuple[str, ...] = ()

    def generate(self, prompt: str, **kwargs: Any) -> str:
        self.asked.append((prompt, kwargs))
        if self.error is not None:
            raise self.error
        return f"answer to {prompt}"

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        return self.generate(prompt, **kwargs)

    def list_models(self) -> list[str]:
        return [*self.healths, *self.forgotten]

    def health(self, name: str) -> Any:
        if name not in self.healths:
            raise UnknownModelError(f"unknown model {name!r}")
        return self.healths[name]


def running_agent(manager: FakeManager | None = None, **kwargs: Any) -> Agent:
    """An agent that accepts tasks."""
    config = {} if manager is None else {"llm_manager": manager}
    agent = Agent("helper", "tester", config=config, **kwargs)
    agent.start()
    return agent
