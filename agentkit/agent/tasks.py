"""The records of an agent's tasks: statistics, a span and a duration for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

from agentkit.agent.callables import name_of
from agentkit.agent.spans import ActiveSpan, Exchanged, Invocations
from agentkit.agent.statistics import Performance
from agentkit.types import Now

Describe: TypeAlias = Callable[[Any], Exchanged]
"""What a task was asked and answered, from its result; None if it has none."""


class RecordedTask:
    """One task: its span is current inside the block, and the end of the task is recorded once.

    `result` is set inside the block; `describe` turns it into the content of the span.
    """

    def __init__(
        self,
        task: Callable[..., Any],
        clock: Now,
        performance: Performance,
        invocations: Invocations,
        describe: Describe | None = None,
    ) -> None:
        self.result: Any = None
        self._describe = describe
        self._task = task
        self._clock = clock
        self._performance = performance
        self._invocations = invocations

    def __enter__(self) -> Self:
        self._span = self._invocations.start()
        self._started = self._clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        seconds = self._clock() - self._started
        self._performance.record(name_of(self._task), seconds, error)
        exchanged = self._describe and partial(self._describe, self.result)
        self._invocations.end(self._span, seconds, error, exchanged)


class StreamedTask:
    """One task in several blocks: its span is current only inside them."""

    def __init__(
        self,
        name: str,
        clock: Now,
        performance: Performance,
        invocations: Invocations,
        describe: Describe,
    ) -> None:
        self._describe = describe
        self._name = name
        self._clock = clock
        self._performance = performance
        self._invocations = invocations
        self._span: ActiveSpan | None = None
        self._started: float | None = None
        self._current = False
        self._ended = False

    @contextmanager
    def active(self) -> Iterator[None]:
        """A block in which the task works; the first one starts it."""
        self._enter()
        try:
            yield
        finally:
            if self._current and self._span is not None:
                self._invocations.suspend(self._span)
            self._current = False

    def end(self, error: BaseException | None, result: Any = None) -> None:
        """Record the end of a task that was started. Only the first call counts."""
        if self._ended or self._started is None:
            return
        self._enter()
        self._ended, self._current = True, False
        seconds = self._clock() - self._started
        self._performance.record(self._name, seconds, error)
        self._invocations.end(self._span, seconds, error, partial(self._describe, result))

    def _enter(self) -> None:
        if self._current or self._ended:
            return
        if self._started is None:
            self._started = self._clock()
            self._span = self._invocations.start()
        elif self._span is not None:
            self._span = self._invocations.resume(self._span)
        self._current = True
