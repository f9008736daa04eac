"""The tools of a run: the calls of one response run concurrently, and errors become text."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from agentkit.agent.callables import acall
from agentkit.agent.calls import CallTools, PendingCall, TextWithMedia, ToolResult
from agentkit.agent.runs.effects import EffectGuard
from agentkit.agent.spans import Executions
from agentkit.errors import ConfigurationError, InDoubtError, ToolError
from agentkit.output.tools import Parameters, ToolContext, tool_specs
from agentkit.types import Now, ToolCall, ToolSpec

MAX_CONCURRENT_CALLS: Final = 32
"""How many tool calls of one response run at once; further ones wait their turn."""
MAX_REPEATS: Final = 2
"""How often a repeatable tool is called again after an `InDoubtError`."""


class _ToolTimeoutError(ToolError):
    """The tool was abandoned because its time was up."""

    error_type = "timeout"


class _NotStartedError(_ToolTimeoutError):
    """No time was left to start the tool."""


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

    async def run(
        self, action: CallTools, guard: EffectGuard, done: Callable[[ToolResult], None]
    ) -> tuple[ToolResult | PendingCall, ...]:
        """The results in the order of the calls. Cancelling this cancels running async tools.

        Each result is passed to `done` as soon as there is one.
        """
        slots = asyncio.Semaphore(MAX_CONCURRENT_CALLS if guard.concurrent else 1)

        async def outcome(position: int, call: ToolCall) -> ToolResult | PendingCall:
            async with slots:
                found = await self._outcome(position, call, action, guard)
            if isinstance(found, ToolResult):
                done(found)
            return found

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(outcome(position, call))
                    for position, call in enumerate(action.calls)
                ]
        except BaseExceptionGroup as errors:  # of the journal: those of a tool are results
            raise errors.exceptions[0] from None
        return tuple(task.result() for task in tasks)

    async def _outcome(
        self, position: int, call: ToolCall, action: CallTools, guard: EffectGuard
    ) -> ToolResult | PendingCall:
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return self._failed(call, ToolError(f"no tool is called {call.name!r}; known: {known}"))
        context = ToolContext(self._agent, call.id, action.step, action.messages)
        execute = partial(self._traced, tool, action.until)
        return await guard.outcome(tool.spec, call, position, context, execute)

    async def _traced(
        self, tool: _Tool, until: float, call: ToolCall, context: ToolContext
    ) -> ToolResult:
        span = self._executions.start(tool.spec, call)
        started = self._clock()
        error: BaseException | None = None
        content: str | None = None
        try:
            result = await self._returned(tool, call, context, until)
            media = result.media if isinstance(result, TextWithMedia) else ()
            content = self.text(result)
            return ToolResult(call, content, None, self._clock() - started, media=media)
        except Exception as failure:  # noqa: BLE001 - the model receives every error of a tool
            error = failure
            failed = self._failed(call, failure, self._clock() - started)
            content = failed.content
            unknown = type(failure) is _ToolTimeoutError or isinstance(failure, InDoubtError)
            return replace(failed, in_doubt=unknown and not tool.spec.repeatable)
        except BaseException as interruption:
            error = interruption
            raise
        finally:
            self._executions.end(span, tool.spec, self._clock() - started, error, content)

    async def _returned(
        self, tool: _Tool, call: ToolCall, context: ToolContext, until: float
    ) -> Any:
        args, kwargs = tool.parameters.bind(call.arguments, context)
        limit = min(self._timeout, until - self._clock())
        if limit <= 0:
            raise _NotStartedError(f"no time was left for {call.name}")
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                return await _called(tool.spec, args, kwargs)
        except TimeoutError:
            if not scope.expired():
                raise
            raise _ToolTimeoutError(f"{call.name} gave no result within {limit:.3g} s") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ToolError(f"{call.name} cancelled itself") from None

    def text(self, result: Any) -> str:
        """A tool's result as the model receives it. Raises `ToolError` as `encoded` does."""
        return self._truncated(encoded(result))

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


async def _called(spec: ToolSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    for _ in range(MAX_REPEATS if spec.repeatable else 0):
        with suppress(InDoubtError):
            return await acall(spec.fn, args, kwargs)  # type: ignore[arg-type]
    return await acall(spec.fn, args, kwargs)  # type: ignore[arg-type]


def _text_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ is an error of the tool, too
        return "(no text)"
