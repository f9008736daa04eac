"""The loop of an agent: ask the model, run its tool calls, ask again, until it answers.

The loop decides and does nothing itself. It is a generator: it yields `AskModel`, `CallTools` and
`Summarize`, and receives the outcome; what else it yields are events. `Run` performs them.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from agentkit.agent.calls import CallTools, PendingCall, ToolResult
from agentkit.agent.cost import charge, total_cost, total_usage
from agentkit.agent.events import RunEvent, StepFinished
from agentkit.agent.limits import RunLimits
from agentkit.agent.memory import Memory
from agentkit.agent.result import AgentResult, Step
from agentkit.agent.runs.records import RunStart
from agentkit.agent.runs.session import Session
from agentkit.errors import (
    AgentError,
    DeadlineExceededError,
    JournalError,
    LLMError,
    StepLimitError,
)
from agentkit.policy.deadline import Deadline
from agentkit.types import Message, MessageRole, Now, Response, ToolCall
from agentkit.types.ledger import Ledger

log = logging.getLogger("agentkit.agent")


class AskModel(NamedTuple):
    """Send `messages` to the model; `deadline` in seconds, None for the manager's own."""

    messages: tuple[Message, ...]
    deadline: float | None
    step: int


class Summarize(NamedTuple):
    """Have a model summarise the oldest turns of the memory."""

    messages: tuple[Message, ...]
    model: str


Actions: TypeAlias = Generator[AskModel | CallTools | Summarize | RunEvent, Any, AgentResult[Any]]


class Loop:
    """Decides what a run does next, from its steps so far."""

    def __init__(
        self, limits: RunLimits, *, clock: Now, memory: Memory | None, session: Session
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._memory = memory
        self._session = session
        self._budget = limits.budget()
        self._summaries: list[Response[Any]] = []

    def run(self, start: RunStart) -> Actions:
        """Ask and call tools until the model answers, or a tool call waits for approval."""
        deadline = Deadline(self._limits.deadline, self._clock() - self._session.seconds)
        turn = list(start.task)
        for ledger in self._session.spent():
            self._charge(ledger)
        history = yield from self._summarized(start.history, turn)
        call_ids = {call.id for message in (*history, *turn) for call in message.tool_calls}
        steps: list[Step] = []
        while True:
            number = len(steps) + 1
            seconds = self._require_time(deadline)
            response: Response[Any] = yield AskModel(
                self._sent(start, history, turn),
                None if self._limits.deadline is None else seconds,
                number,
            )
            self._charge(response.ledger)
            if not response.tool_calls:
                turn.append(response.message)
                steps.append(Step(response))
                yield StepFinished(steps[-1], number)
                return self._finished(response, steps, history, turn)
            self._require_budget(number, response)
            self._require_step(number, response)
            calls = with_unique_ids(response.tool_calls, call_ids)
            turn.append(replace(response.message, tool_calls=calls))
            self._require_time(deadline)
            outcomes = yield CallTools(calls, number, (*history, *turn), deadline.at)
            results = tuple(each for each in outcomes if isinstance(each, ToolResult))
            steps.append(Step(response, results))
            pending = tuple(each for each in outcomes if isinstance(each, PendingCall))
            if pending:
                return self._result(response, steps, (*history, *turn), pending)
            turn.extend(result.message for result in results)
            yield StepFinished(steps[-1], number)

    def _summarized(
        self, history: tuple[Message, ...], task: list[Message]
    ) -> Generator[Summarize, Any, tuple[Message, ...]]:
        """`history` with its oldest turns summarised, if the memory wants that."""
        memory = self._memory
        excess = None if memory is None else memory.excess(history, task)
        if memory is None or memory.summarize_with is None or excess is None:
            return history
        try:
            summary: Response[Any] = yield Summarize(excess.request(), memory.summarize_with)
        except JournalError:
            raise
        except LLMError as error:
            log.warning("old turns are forgotten without a summary: %s", error.message)
            return history
        self._summaries.append(summary)
        self._charge(summary.ledger)
        shorter = excess.summarized(summary.text)
        memory.replace(history, shorter)
        return shorter

    def _sent(
        self, start: RunStart, history: tuple[Message, ...], turn: list[Message]
    ) -> tuple[Message, ...]:
        messages = (*history, *turn)
        if self._memory is not None:
            messages = self._memory.fit(messages)
        instructions = start.definition.instructions
        return (Message(MessageRole.SYSTEM, instructions), *messages) if instructions else messages

    def _charge(self, ledger: Ledger) -> None:
        if self._budget is not None:
            charge(self._budget, ledger)

    def _require_time(self, deadline: Deadline) -> float:
        seconds = deadline.left(self._clock())
        if seconds <= 0:
            raise DeadlineExceededError(
                f"no answer within the run's deadline of {self._limits.deadline:g} s",
                hint="raise deadline=, or lower tool_timeout=",
            )
        return seconds

    def _require_budget(self, step: int, response: Response[Any]) -> None:
        budget = self._budget
        if budget is None or not budget.exhausted:
            return
        limit, used = "max_cost", f"{budget.spent_usd:.6g} of {budget.usd or 0.0:g} USD"
        if budget.tokens is not None and budget.spent_tokens >= budget.tokens:
            limit, used = "max_tokens", f"{budget.spent_tokens} of {budget.tokens} tokens"
        raise AgentError(
            f"the run used {used} in {step} steps without an answer",
            hint=f"raise {limit}=, or give the model less to read",
            ledger=response.ledger,
        )

    def _require_step(self, step: int, response: Response[Any]) -> None:
        if step == self._limits.max_steps:  # no request would send the results of these calls
            raise StepLimitError(
                f"no answer within {step} steps: the model still calls tools",
                hint="raise max_steps=, or tell the model when to stop",
                ledger=response.ledger,
            )

    def _finished(
        self,
        response: Response[Any],
        steps: list[Step],
        history: tuple[Message, ...],
        turn: list[Message],
    ) -> AgentResult[Any]:
        if self._memory is not None:
            run_id = self._session.run_id if self._session.recorder.active else None
            self._memory.add(*turn, run_id=run_id)
        return self._result(response, steps, (*history, *turn))

    def _result(
        self,
        response: Response[Any],
        steps: list[Step],
        messages: tuple[Message, ...],
        pending: tuple[PendingCall, ...] = (),
    ) -> AgentResult[Any]:
        responses = [*self._summaries, *(step.response for step in steps)]
        return AgentResult(
            text="" if pending else response.text,
            parsed=None if pending else response.parsed,
            steps=tuple(steps),
            usage=total_usage(responses),
            cost=total_cost(each.ledger for each in responses),
            messages=messages,
            status="waiting" if pending else "finished",
            pending=pending,
            run_id=self._session.run_id,
            cost_estimated=any(step.response.ledger.cost_estimated for step in steps),
        )


def with_unique_ids(calls: tuple[ToolCall, ...], used: set[str]) -> tuple[ToolCall, ...]:
    """`calls` with ids that are unique in the whole conversation; `used` receives them.

    A call that one response repeats, id and all, is one call. Of two different calls with the same
    id, the later one gets a new id.
    """
    kept: list[ToolCall] = []
    for each in calls:
        if not each.id or each not in kept:
            kept.append(each)
    return tuple(_with_unique_id(each, used) for each in kept)


def _with_unique_id(each: ToolCall, used: set[str]) -> ToolCall:
    name, count = each.id or "call", 1
    while name in used:
        count += 1
        name = f"{each.id or 'call'}-{count}"
    used.add(name)
    return each if name == each.id else replace(each, id=name)
