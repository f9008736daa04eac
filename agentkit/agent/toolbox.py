"""The tools of a run: the calls of one response run concurrently, and errors become text."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from agentkit.agent.callables import acall
from agentkit.agent.spans import Executions
from agentkit.errors import ConfigurationError, ToolError
from agentkit.output.tools import Parameters, ToolContext, tool_specs
from agentkit.types import Message, MessageRole, Now, ToolCall, ToolSpec

MAX_CONCURRENT_CALLS: Final = 32
"""How many tool calls of one response run at once; further ones wait their turn."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of one tool call.

    Attributes:
        call: the tool call.
        content: the text that is sent to the model.
        error: the class of the error, or None.
        seconds: how long it took.
    """

    call: ToolCall
    content: str
    error: str | None = None
    seconds: float = 0.0

    @property
    def message(self) -> Message:
        """The message that answers the call."""
        return Message(MessageRole.TOOL, self.content, tool_call_id=self.call.id)


class CallTools(NamedTuple):
    """Run these tool calls, none of them past `until`, a reading of the run's clock."""

    calls: tuple[ToolCall, ...]
    step: int
    messages: tuple[Message, ...]
    until: float


class _ToolTimeoutError(ToolError):
    """The tool was abandoned because its time was up."""

    error_type = "timeout"


class _Tool(NamedTuple):
    spec: ToolSpec
    parameters: Parameters


class Toolbox:
    """The tools of one run.

    `timeout` is in seconds for each call, `max_output` in characters of each result.

    Raises:
        ConfigurationError: not tools, two of one name, or one without a function.
    """

    def __init__(
        self,
        tools: Sequence[Any] | None,
        *,
        agent: str,
        executions: Executions,
        clock: Now,
        timeout: float,
        max_output: int,
    ) -> None:
        self.specs = tool_specs(tools)
        self._tools = {spec.name: _runnable(spec) for spec in self.specs}
        self._agent = agent
        self._executions = executions
        self._clock = clock
        self._timeout = timeout
        self._max_output = max_output

    async def run(self, action: CallTools) -> tuple[ToolResult, ...]:
        """The results in the order of the calls. Cancelling this cancels running async tools."""
        slots = asyncio.Semaphore(MAX_CONCURRENT_CALLS)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._result(call, action, slots)) for call in action.calls]
        return tuple(task.result() for task in tasks)

    async def _result(
        self, call: ToolCall, action: CallTools, slots: asyncio.Semaphore
    ) -> ToolResult:
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return self._failed(call, ToolError(f"no tool is called {call.name!r}; known: {known}"))
        async with slots:
            return await self._traced(tool, call, action)

    async def _traced(self, tool: _Tool, call: ToolCall, action: CallTools) -> ToolResult:
        span = self._executions.start(tool.spec, call.id)
        started = self._clock()
        error: BaseException | None = None
        try:
            content = self._truncated(await self._content(tool, call, action))
            return ToolResult(call, content, None, self._clock() - started)
        except Exception as failure:  # noqa: BLE001 - the model receives every error of a tool
            error = failure
            return self._failed(call, failure, self._clock() - started)
        except BaseException as interruption:
            error = interruption
            raise
        finally:
            self._executions.end(span, tool.spec, self._clock() - started, error)

    async def _content(self, tool: _Tool, call: ToolCall, action: CallTools) -> str:
        context = ToolContext(self._agent, call.id, action.step, action.messages)
        args, kwargs = tool.parameters.bind(call.arguments, context)
        limit = min(self._timeout, action.until - self._clock())
        if limit <= 0:
            raise _ToolTimeoutError(f"no time was left for {call.name}")
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                return encoded(await acall(tool.spec.fn, args, kwargs))  # type: ignore[arg-type]
        except TimeoutError:
            if not scope.expired():
                raise
            raise _ToolTimeoutError(f"{call.name} gave no result within {limit:.3g} s") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ToolError(f"{call.name} cancelled itself") from None

    def _failed(self, call: ToolCall, error: Exception, seconds: float = 0.0) -> ToolResult:
        kind = "ToolError" if isinstance(error, _ToolTimeoutError) else type(error).__name__
        return ToolResult(call, self._truncated(f"{kind}: {_text_of(error)}"), kind, seconds)

    def _truncated(self, text: str) -> str:
        limit = self._max_output
        if len(text) <= limit:
            return text
        return f"{text[:limit]}\n[cut: the first {limit} of {len(text)} characters]"


def encoded(result: Any) -> str:
    """A tool's result as text: a str unchanged, anything else as JSON.

    Raises:
        ToolError: it cannot be converted to JSON.
    """
    if isinstance(result, str):
        return str(result)
    from pydantic_core import to_json

    kind = type(result).__name__
    if isinstance(result, Iterator) or inspect.isasyncgen(result):
        raise ToolError(f"the result is a {kind}, which may have no end: return a list")
    try:
        return to_json(result, bytes_mode="base64").decode()
    except Exception as error:
        raise ToolError(f"the result, a {kind}, cannot be converted to JSON") from error


def _runnable(spec: ToolSpec) -> _Tool:
    if spec.fn is None:
        raise ConfigurationError(
            f"tool {spec.name!r} has no function to run",
            hint="give a function, or a ToolSpec with fn=",
        )
    return _Tool(spec, Parameters(spec.fn))


def _text_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ is an error of the tool, too
        return "(no text)"
