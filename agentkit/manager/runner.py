"""Many calls at once, but never more than a limit: on threads, or as tasks."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agentkit._fork import fork_safe_lock
from agentkit.errors import LLMError
from agentkit.policy.validation import whole_number

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
R = TypeVar("R")

_GLANCE = 0.5
"""Seconds. A signal that arrives right before Python waits for a lock does not end that wait."""


class _Items(Generic[T, R]):
    """Hands out items, and results to `done`, to one worker at a time."""

    def __init__(self, items: Iterable[T], done: Callable[[T, R], None]) -> None:
        self._items = iter(items)
        self._done = done
        self._lock = fork_safe_lock()
        self.stopped = False

    def take(self) -> tuple[T, ...]:
        """The next item; nothing at the end."""
        with self._lock:
            if self.stopped:
                return ()
            for item in self._items:
                return (item,)
            return ()

    def finish(self, item: T, result: R) -> None:
        """Report the result of an item."""
        with self._lock:
            self._done(item, result)


def run_bounded(
    call: Callable[[T], R],
    items: Iterable[T],
    done: Callable[[T, R], None],
    *,
    max_concurrency: int,
    name: str,
) -> None:
    """Pass the result of `call` for each item to `done`, with a limited number of threads.

    The first exception of `call`, `done` or `items` stops the run: no further item is taken, calls
    in progress finish, and it is raised. An interrupt of the caller stops the run without waiting.

    Args:
        call: called on a thread of its own, in a copy of the caller's context.
        items: taken one by one, when a thread is free; an iterator that ends early ends the run.
        done: called with an item and its result, one call at a time and never while an item is
            taken.
        max_concurrency: the most calls at once.
        name: of the threads.

    Raises:
        ConfigurationError: `max_concurrency` is not a whole number of at least 1.
    """
    work = _Items(items, done)
    failures: list[BaseException] = []

    def worker(item: T) -> None:
        taken: tuple[T, ...] = (item,)
        try:
            while taken:
                work.finish(taken[0], call(taken[0]))
                taken = work.take()
        except BaseException as error:  # noqa: BLE001 - it is raised where the run was started
            work.stopped = True
            failures.append(error)

    threads: list[threading.Thread] = []
    try:
        while len(threads) < whole_number("max_concurrency", max_concurrency) and (
            first := work.take()
        ):
            context = copy_context()
            thread = threading.Thread(
                target=context.run, args=(worker, *first), name=name, daemon=True
            )
            thread.start()
            threads.append(thread)
        for thread in threads:
            while thread.is_alive():
                thread.join(_GLANCE)
    finally:
        work.stopped = True
    if failures:
        raise failures[0]


def _cancellation_of(task: asyncio.Task[Any] | None) -> Callable[[], bool]:
    """Whether `task` was cancelled since."""
    before = 0 if task is None else task.cancelling()
    return lambda: task is not None and task.cancelling() > before


async def arun_bounded(
    call: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    done: Callable[[T, R], None],
    *,
    max_concurrency: int,
) -> None:
    """Like `run_bounded`, with tasks; the first exception, or cancelling it, cancels the others."""
    import asyncio

    from agentkit.engine.drivers.asyncio import require_asyncio
    from agentkit.engine.drivers.cancellation import is_being_cancelled, own_task

    require_asyncio()
    work = _Items(items, done)
    is_caller_cancelled = _cancellation_of(asyncio.current_task())

    async def worker(item: T) -> None:
        own_task(lambda: work.stopped or is_caller_cancelled())
        taken: tuple[T, ...] = (item,)
        try:
            while taken:
                work.finish(taken[0], await call(taken[0]))
                taken = work.take()
        except asyncio.CancelledError as error:  # which a task group would ignore
            if is_being_cancelled():
                raise
            work.stopped = True
            raise LLMError(
                "a call of the run cancelled itself",
                hint="it raised CancelledError: look for a task or scope that it cancels",
            ) from error
        except BaseException:
            work.stopped = True
            raise

    limit = whole_number("max_concurrency", max_concurrency)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                if not (first := work.take()):
                    break
                group.create_task(worker(*first))
    except BaseExceptionGroup as failures:
        failure = failures.exceptions[0]
    else:
        return
    raise failure
