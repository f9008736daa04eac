"""The outcome of a run: its answer, its steps, and what it used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeAlias

from agentkit.agent.calls import PendingCall, ToolResult
from agentkit.types import Message, Response, Usage
from agentkit.types.json_values import FORMAT_VERSION, UNREADABLE, check_version, malformed
from agentkit.types.response import T_co

ResultStatus: TypeAlias = Literal["finished", "waiting"]


class Step(NamedTuple):
    """One response of the model, and the results of its tool calls."""

    response: Response[Any]
    results: tuple[ToolResult, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentResult(Generic[T_co]):
    """The outcome of a run.

    Attributes:
        text: the final answer; "" while the run waits.
        parsed: the validated instance, if a `response_model` was given.
        steps: each request to the model in order, with its response and tool results.
        usage: tokens of every attempt, including answers that failed validation, but not of answers
            from the response cache.
        cost: US dollars for these attempts; None if a model that was called has no price.
        messages: the complete conversation, including memory and final answer.
        status: ``"finished"``, or ``"waiting"`` for approval of the `pending` calls.
        pending: the tool calls that wait for approval.
        run_id: the id of the run, with which `Agent.resume` continues it.
        cost_estimated: whether a part of `cost` is an estimate; see `Entry.cost_estimated`.
    """

    text: str
    parsed: T_co | None
    steps: tuple[Step, ...]
    usage: Usage
    cost: float | None
    messages: tuple[Message, ...]
    status: ResultStatus = "finished"
    pending: tuple[PendingCall, ...] = ()
    run_id: str = ""
    cost_estimated: bool = False

    @property
    def in_doubt(self) -> tuple[ToolResult, ...]:
        """The tool calls that may or may not have taken effect."""
        return tuple(each for step in self.steps for each in step.results if each.in_doubt)

    def to_dict(self) -> dict[str, Any]:
        """The result as a JSON value, without `parsed`.

        Raises:
            TypeError: the arguments of a tool call have no JSON form.
        """
        return {
            "version": FORMAT_VERSION,
            "text": self.text,
            "steps": [
                [step.response.to_dict(), [each.to_dict() for each in step.results]]
                for step in self.steps
            ],
            "usage": asdict(self.usage),
            "cost": self.cost,
            "messages": [each.to_dict() for each in self.messages],
            "status": self.status,
            "pending": [each.to_dict() for each in self.pending],
            "run_id": self.run_id,
            "cost_estimated": self.cost_estimated,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AgentResult[Any]:
        """The inverse of `to_dict`.

        Raises:
            ValueError: `data` has another form, or a newer version's format.
        """
        check_version("result", data)
        try:
            return AgentResult(
                text=data["text"],
                parsed=None,
                steps=tuple(
                    Step(Response.from_dict(response), tuple(map(ToolResult.from_dict, results)))
                    for response, results in data["steps"]
                ),
                usage=Usage(**data["usage"]),
                cost=data["cost"],
                messages=tuple(map(Message.from_dict, data["messages"])),
                status=data["status"],
                pending=tuple(map(PendingCall.from_dict, data["pending"])),
                run_id=data["run_id"],
                cost_estimated=data.get("cost_estimated", False),
            )
        except UNREADABLE as exc:
            raise malformed("result") from exc

    def __str__(self) -> str:
        return self.text
