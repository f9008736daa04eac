"""The loop of an agent: ask the model, run its tool calls, ask again, until it answers.

The loop is a generator. It yields `AskModel` or `CallTools`, and receives the outcome; `Run.run`
and `Run.arun` perform the two in sync and async code.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias

from agentkit.agent.callables import call
from agentkit.agent.cost import RunCost, total_usage
from agentkit.agent.memory import Memory
from agentkit.agent.toolbox import CallTools, Toolbox, ToolResult
from agentkit.engine.stepper import Stepper
from agentkit.errors import AgentError, DeadlineExceededError, StepLimitError
from agentkit.manager.requests import Prompt, request_for
from agentkit.policy.budget import Budget
from agentkit.policy.deadline import Deadline
from agentkit.policy.validation import number, optional_number, whole_number
from agentkit.types import Message, Now, Response, ToolCall, Usage
from agentkit.types.response import ResponseModel, T_co

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager


class Step(NamedTuple):
    """One response of the model, and the results of its tool calls."""

    response: Response[Any]
    results: tuple[ToolResult, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentResult(Generic[T_co]):
    """The outcome of a run.

    Attributes:
        text: the final answer.
        parsed: validated, when a `response_model` was given.
        steps: each request to the model in order, with its response and tool results.
        usage: tokens of every attempt, including answers that failed validation; answers from
            the response cache count nothing.
        cost: USD for these tokens, or None when a model that answered has no price.
        messages: the whole conversation, memory and final answer included.
    """

    text: str
    parsed: T_co | None
    steps: tuple[Step, ...]
    usage: Usage
    cost: float | None
    messages: tuple[Message, ...]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The limits of a run. Raises `ConfigurationError` for a value that cannot work."""

    max_steps: int
    deadline: float | None
    max_cost: float | None
    max_tokens: int | None
    tool_timeout: float
    max_tool_output: int

    def __post_init__(self) -> None:
        whole_number("max_steps", self.max_steps)
        Deadline(self.deadline, 0.0)
        optional_number("max_cost", self.max_cost, above=True)
        if self.max_tokens is not None:
            whole_number("max_tokens", self.max_tokens)
        number("tool_timeout", self.tool_timeout, above=True)
        whole_number("max_tool_output", self.max_tool_output)

    def budget(self) -> Budget | None:
        """The tokens and money of one run, or None without a limit."""
        if self.max_tokens is None and self.max_cost is None:
            return None
        return Budget(tokens=self.max_tokens, usd=self.max_cost)


class AskModel(NamedTuple):
    """Send `messages` to the model; `deadline` in seconds, None for the manager's own."""

    messages: tuple[Message, ...]
    deadline: float | None


Loop: TypeAlias = Generator[AskModel | CallTools, Any, AgentResult[Any]]


class Run:
    """One run of an agent, ready to be started once."""

    def __init__(
        self,
        manager: LLMManager,
        prompt: Prompt,
        toolbox: Toolbox,
        *,
        limits: RunLimits,
        clock: Now,
        memory: Memory | None,
        response_model: ResponseModel[Any] | None,
        params: Mapping[str, Any],
    ) -> None:
        self._manager = manager
        self._prompt = request_for(prompt, {}).conversation
        self._toolbox = toolbox
        self._limits = limits
        self._clock = clock
        self._memory = memory
        self._options = {**params, "tools": toolbox.specs or None, "response_model": response_model}
        self._cost = RunCost(manager.dispatcher)
        self._budget = limits.budget()
        if limits.max_cost is not None:
            self._cost.require_prices(params.get("model"))

    def run(self) -> AgentResult[Any]:
        """Ask the model in this thread; tools run on threads of their own."""
        stepper = Stepper(self._loop())
        stepper.advance()
        while not stepper.done:
            try:
                outcome = self._perform(stepper.effect)
            except BaseException as error:  # noqa: BLE001 - the loop decides what it means
                stepper.fail(error)
            else:
                stepper.advance(outcome)
        return stepper.result

    async def arun(self) -> AgentResult[Any]:
        """Await the model; async tools are tasks of this loop, blocking ones run on threads."""
        stepper = Stepper(self._loop())
        stepper.advance()
        while not stepper.done:
            try:
                outcome = await self._aperform(stepper.effect)
            except BaseException as error:  # noqa: BLE001 - the loop decides what it means
                stepper.fail(error)
            else:
                stepper.advance(outcome)
        return stepper.result

    def _perform(self, action: AskModel | CallTools) -> Any:
        if isinstance(action, CallTools):
            return call(self._toolbox.run, (action,), {})
        return self._manager.complete(action.messages, deadline=action.deadline, **self._options)

    async def _aperform(self, action: AskModel | CallTools) -> Any:
        if isinstance(action, CallTools):
            return await self._toolbox.run(action)
        return await self._manager.acomplete(
            action.messages, deadline=action.deadline, **self._options
        )

    def _loop(self) -> Loop:
        deadline = Deadline(self._limits.deadline, self._clock())
        history = () if self._memory is None else self._memory.messages
        turn = list(self._prompt)
        call_ids = {call.id for message in (*history, *turn) for call in message.tool_calls}
        steps: list[Step] = []
        while True:
            seconds = self._require_time(deadline)
            response: Response[Any] = yield AskModel(
                self._fitted(history, turn), None if self._limits.deadline is None else seconds
            )
            self._charge(response)
            if not response.tool_calls:
                turn.append(response.message)
                return self._result(response, (*steps, Step(response)), history, turn)
            self._require_budget(len(steps) + 1, response)
            self._require_step(len(steps) + 1, response)
            calls = with_unique_ids(response.tool_calls, call_ids)
            turn.append(replace(response.message, tool_calls=calls))
            self._require_time(deadline)
            results = yield CallTools(calls, len(steps) + 1, (*history, *turn), deadline.at)
            turn.extend(result.message for result in results)
            steps.append(Step(response, results))

    def _fitted(self, history: tuple[Message, ...], turn: list[Message]) -> tuple[Message, ...]:
        return tuple(turn) if self._memory is None else self._memory.fit((*history, *turn))

    def _charge(self, response: Response[Any]) -> None:
        if self._budget is not None:
            self._cost.charge(self._budget, response.ledger)

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

    def _result(
        self,
        response: Response[Any],
        steps: tuple[Step, ...],
        history: tuple[Message, ...],
        turn: list[Message],
    ) -> AgentResult[Any]:
        if self._memory is not None:
            self._memory.add(*turn)
        return AgentResult(
            text=response.text,
            parsed=response.parsed,
            steps=steps,
            usage=total_usage(step.response for step in steps),
            cost=self._cost.usd(step.response.ledger for step in steps),
            messages=(*history, *turn),
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
