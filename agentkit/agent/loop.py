"""The loop of an agent: ask, run the tools that the answer wishes for, ask again.

The loop is a generator that says what it needs, `Ask` or `Perform`; two small drivers carry that
out, one for each colour.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

from agentkit.agent.crossing import call
from agentkit.agent.memory import Memory
from agentkit.agent.spending import Spending
from agentkit.agent.toolbox import Perform, Toolbox, ToolResult
from agentkit.errors import DeadlineExceededError, StepLimitError
from agentkit.manager.requests import Prompt, request_for
from agentkit.policy.deadline import Deadline
from agentkit.policy.validation import number, optional, whole
from agentkit.types import Clock, Message, MessageRole, Response, ToolCall, Usage

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager

T_co = TypeVar("T_co", covariant=True)


class Step(NamedTuple):
    """One answer of the model, and what the tools it wished for brought."""

    response: Response[Any]
    results: tuple[ToolResult, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentResult(Generic[T_co]):
    """What a run brought.

    Attributes:
        text: the final answer.
        parsed: validated, when a `response_model` was given.
        steps: each ask in order, with its response and tool results.
        usage: tokens of every attempt, answers that a check rejected included; none for answers
            of the response cache.
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
class Limits:
    """What a run may take. Raises `ConfigurationError` for a value that cannot work."""

    max_steps: int
    deadline: float | None
    max_cost: float | None
    max_tokens: int | None
    tool_timeout: float
    max_tool_output: int

    def __post_init__(self) -> None:
        whole("max_steps", self.max_steps)
        Deadline(self.deadline, 0.0)
        optional("max_cost", self.max_cost, above=True)
        if self.max_tokens is not None:
            whole("max_tokens", self.max_tokens)
        number("tool_timeout", self.tool_timeout, above=True)
        whole("max_tool_output", self.max_tool_output)


class Ask(NamedTuple):
    """Ask the model; `within` is the seconds left for it, None: the manager's own deadline."""

    messages: tuple[Message, ...]
    within: float | None


Loop: TypeAlias = Generator[Ask | Perform, Any, AgentResult[Any]]


class Run:
    """One run of an agent, ready to be driven once."""

    def __init__(
        self,
        manager: LLMManager,
        prompt: Prompt,
        toolbox: Toolbox,
        limits: Limits,
        clock: Clock,
        *,
        memory: Memory | None,
        response_model: type[Any] | None,
        params: Mapping[str, Any],
    ) -> None:
        self._manager = manager
        self._asked = request_for(prompt, {}).conversation
        self._toolbox = toolbox
        self._limits = limits
        self._clock = clock
        self._memory = memory
        self._options = {
            **params, "tools": toolbox.specs or None, "response_model": response_model
        }  # fmt: skip
        self._spending = Spending(manager, limits.max_cost, limits.max_tokens)
        self._spending.require_prices(params.get("model"))

    def drive(self) -> AgentResult[Any]:
        """Blocking: the model is asked in this thread, tools run on threads of their own."""

        def ask(wish: Ask) -> Response[Any]:
            return self._manager.complete(wish.messages, deadline=wish.within, **self._options)

        def perform(wish: Perform) -> tuple[ToolResult, ...]:
            return call(self._toolbox.perform, (wish,), {})  # type: ignore[no-any-return]

        return _drive(self._loop(), ask, perform)

    async def adrive(self) -> AgentResult[Any]:
        """Async: the model is awaited, async tools are tasks, blocking tools run on threads."""

        async def ask(wish: Ask) -> Response[Any]:
            return await self._manager.acomplete(
                wish.messages, deadline=wish.within, **self._options
            )

        return await _adrive(self._loop(), ask, self._toolbox.perform)

    def _loop(self) -> Loop:
        deadline = Deadline(self._limits.deadline, self._clock())
        memory = self._memory
        history = () if memory is None else memory.messages
        told = [*self._asked]
        steps: list[Step] = []
        used = {call.id for message in (*history, *told) for call in message.tool_calls}
        count = 0
        while True:
            count += 1
            left = self._left(deadline)
            sent = tuple(told) if memory is None else memory.fit((*history, *told))
            within = None if self._limits.deadline is None else left
            response: Response[Any] = yield Ask(sent, within)
            self._spending.add(response)
            if not response.tool_calls:
                steps.append(Step(response))
                return self._finished(response, history, told, steps)
            self._spending.require_rest(count, response.ledger)
            if count == self._limits.max_steps:
                raise StepLimitError(  # nobody would read what the tools say
                    f"no answer within {count} steps: the model still wishes for tools",
                    hint="raise max_steps=, or tell the model when to stop",
                    ledger=response.ledger,
                )
            calls = distinct(response.tool_calls, used)
            told.append(Message(MessageRole.ASSISTANT, response.text, tool_calls=calls))
            said = (*history, *told)
            self._left(deadline)
            results = yield Perform(calls, count, said, deadline.at)
            told.extend(result.message for result in results)
            steps.append(Step(response, results))

    def _finished(
        self,
        response: Response[Any],
        history: tuple[Message, ...],
        told: list[Message],
        steps: list[Step],
    ) -> AgentResult[Any]:
        told.append(Message(MessageRole.ASSISTANT, response.text))
        if self._memory is not None:
            self._memory.add(*told)
        return AgentResult(
            response.text, response.parsed, tuple(steps), self._spending.usage,
            self._spending.cost, (*history, *told),
        )  # fmt: skip

    def _left(self, deadline: Deadline) -> float:
        left = deadline.left(self._clock())
        if left <= 0:
            raise DeadlineExceededError(
                f"no answer within the run's deadline of {self._limits.deadline:g} s",
                hint="raise deadline=, or lower tool_timeout=",
            )
        return left


def distinct(calls: tuple[ToolCall, ...], used: set[str]) -> tuple[ToolCall, ...]:
    """`calls` with ids that stand for one call each in the whole conversation.

    A call that is repeated in one answer, id and all, is one call; of two different calls with one
    id the later gets an id of its own. `used` grows by the ids given out.
    """
    kept: list[ToolCall] = []
    for each in calls:
        if not each.id or each not in kept:
            kept.append(each)
    return tuple(_renamed(each, used) for each in kept)


def _renamed(each: ToolCall, used: set[str]) -> ToolCall:
    name, count = each.id or "call", 1
    while name in used or not name:
        count += 1
        name = f"{each.id or 'call'}-{count}"
    used.add(name)
    return each if name == each.id else replace(each, id=name)


def _drive(
    loop: Loop,
    ask: Callable[[Ask], Response[Any]],
    perform: Callable[[Perform], tuple[ToolResult, ...]],
) -> AgentResult[Any]:
    wish = next(loop)
    while True:
        brought = ask(wish) if isinstance(wish, Ask) else perform(wish)
        try:
            wish = loop.send(brought)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


async def _adrive(
    loop: Loop,
    ask: Callable[[Ask], Awaitable[Response[Any]]],
    perform: Callable[[Perform], Awaitable[tuple[ToolResult, ...]]],
) -> AgentResult[Any]:
    wish = next(loop)
    while True:
        brought = await (ask(wish) if isinstance(wish, Ask) else perform(wish))
        try:
            wish = loop.send(brought)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
