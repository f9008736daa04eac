"""The events of a streamed run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from agentkit.agent.calls import ToolResult
from agentkit.agent.result import AgentResult, Step
from agentkit.types import ReasoningDelta, Restart, TextDelta, ToolCall


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """The model has called a tool; `call` has the arguments. `step` counts from 1."""

    call: ToolCall
    step: int


@dataclass(frozen=True, slots=True)
class ToolCallFinished:
    """A tool call has its result. Those of one step may finish in any order."""

    result: ToolResult
    step: int


@dataclass(frozen=True, slots=True)
class PartialAnswer:
    """The answer so far, as an instance of the `response_model`."""

    instance: Any


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A response of the model is complete, and so are the results of its tool calls, if any."""

    step: Step
    number: int


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The last event: `result` is what `Agent.run` would have returned."""

    result: AgentResult[Any]


RunEvent: TypeAlias = (
    TextDelta
    | ReasoningDelta
    | Restart
    | PartialAnswer
    | ToolCallStarted
    | ToolCallFinished
    | StepFinished
    | RunFinished
)
