"""A streamed run for its consumer, sync and async: events as they happen, and the result."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, Generic, Protocol

from agentkit.agent.events import RunEvent, RunFinished
from agentkit.agent.result import AgentResult
from agentkit.errors import LLMError
from agentkit.types.context import AsyncClosing, Closing
from agentkit.types.response import T_co


class Task(Protocol):
    """The record of a task in statistics and telemetry."""

    def active(self) -> contextlib.AbstractContextManager[object]:
        """A block in which the task works; it starts with the first one."""
        ...

    def end(self, error: BaseException | None, result: Any = None) -> None:
        """Record the end of the task, with its result. Only the first call counts."""
        ...


class _RunStreamState(Generic[T_co]):
    """The common part of sync and async streams of a run."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._begun = False
        self._result: AgentResult[Any] | None = None

    @property
    def result(self) -> AgentResult[T_co]:
        """What `Agent.run` would have returned.

        Raises:
            LLMError: the stream has not been read to its end.
        """
        if self._result is None:
            raise LLMError(
                "the run has no result", hint="read the stream to its end before you use .result"
            )
        return self._result

    def _seen(self, event: RunEvent) -> RunEvent:
        if isinstance(event, RunFinished):
            self._result = event.result
            self._task.end(None, event.result)
        return event


class RunStream(_RunStreamState[T_co], Closing):
    """The events of a run; iterate over it. The last one is `RunFinished`.

    Use it as a context manager if you may not read it to its end: leaving the block cancels the
    request to the model and the async tools under way.
    """

    def __init__(self, events: Generator[RunEvent, None, Any], task: Task) -> None:
        super().__init__(task)
        self._events = events

    def __iter__(self) -> Iterator[RunEvent]:
        return self

    def __next__(self) -> RunEvent:
        self._begun = True
        try:
            with self._task.active():
                return self._seen(next(self._events))
        except StopIteration:
            raise
        except BaseException as error:
            self._task.end(error)
            raise

    def close(self) -> None:
        """Stop the run, unless it is over. Closing twice does nothing."""
        if self._begun:
            with self._task.active():
                self._events.close()
            self._task.end(GeneratorExit())
        else:
            self._events.close()


class AsyncRunStream(_RunStreamState[T_co], AsyncClosing):
    """Like `RunStream`, for ``async for`` and ``async with``."""

    def __init__(self, events: AsyncGenerator[RunEvent, None], task: Task) -> None:
        super().__init__(task)
        self._events = events

    def __aiter__(self) -> AsyncIterator[RunEvent]:
        return self

    async def __anext__(self) -> RunEvent:
        self._begun = True
        try:
            with self._task.active():
                return self._seen(await anext(self._events))
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self._task.end(error)
            raise

    async def aclose(self) -> None:
        """Stop the run, unless it is over. Closing twice does nothing."""
        if self._begun:
            with self._task.active():
                await self._events.aclose()
            self._task.end(GeneratorExit())
        else:
            await self._events.aclose()
