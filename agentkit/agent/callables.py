"""Sync and async callables, called from sync and async code alike.

If sync code needs an awaitable while an event loop runs in its thread, the awaitable gets a daemon
thread of its own, with a copy of the context variables; so does a blocking callable that async code
needs. The event loop's default executor is not used: it belongs to the application, has few threads
(which name resolution needs, too), and one stuck task in it would delay the end of the process.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from typing import Any, NamedTuple

from agentkit.errors import ConfigurationError
from agentkit.telemetry.safe import guarded


def require_callable(task: object) -> None:
    """Check that `task` can be called.

    Raises:
        ConfigurationError: it is not callable.
    """
    if callable(task):
        return
    kind = type(task).__name__
    hint = "pass a function and its arguments: execute_task(function, argument)"
    if inspect.iscoroutine(task):
        task.close()
        hint = "pass the async function itself and its arguments, without calling it"
    raise ConfigurationError(f"the task must be callable, got an object of type {kind}", hint=hint)


@guarded("task")
def name_of(task: Any) -> str:
    """The name of a function, of the function in a partial, or of a callable object's class."""
    while isinstance(task, functools.partial):
        task = task.func
    name = getattr(task, "__qualname__", None)
    return name if isinstance(name, str) else type(task).__qualname__


def call(task: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call `task` in this thread; an awaitable is run to its end, even if a loop runs here."""
    result = task(*args, **kwargs)
    if not inspect.isawaitable(result):
        return result
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(asyncio.Runner(loop_factory=asyncio.new_event_loop), result)
    return _run_on_thread(result)


async def acall(task: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Await `task` if it is async; call it on a thread otherwise.

    When the caller is cancelled, such a thread finishes on its own and its result is dropped.
    """
    if _is_async(task):
        result = task(*args, **kwargs)
    else:
        future = _start_thread(functools.partial(task, *args, **kwargs))
        result = (await asyncio.wrap_future(future)).unwrap()
    return await result if inspect.isawaitable(result) else result


def _is_async(task: Any) -> bool:
    while isinstance(task, functools.partial):
        task = task.func
    return inspect.iscoroutinefunction(task) or inspect.iscoroutinefunction(type(task).__call__)


class _Outcome(NamedTuple):
    """A result or an error as a value: a future would change some exceptions."""

    result: Any
    error: BaseException | None

    def unwrap(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


def _start_thread(function: Callable[[], Any]) -> Future[_Outcome]:
    context = copy_context()
    future: Future[_Outcome] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            outcome = _Outcome(context.run(function), None)
        except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
            outcome = _Outcome(None, error)
        future.set_result(outcome)

    threading.Thread(target=work, name="agentkit-task", daemon=True).start()
    return future


async def _wait(awaitable: Awaitable[Any]) -> _Outcome:
    try:
        return _Outcome(await awaitable, None)
    except SystemExit as error:  # one of a task ends the loop, which would report it as unhandled
        return _Outcome(None, error)


def _run(runner: asyncio.Runner, awaitable: Awaitable[Any]) -> Any:
    with runner:
        return runner.run(_wait(awaitable)).unwrap()


def _run_on_thread(awaitable: Awaitable[Any]) -> Any:
    running = Background(awaitable)
    try:
        running.start()
        return running.result()
    except BaseException:
        # Only Ctrl-C ends the wait early; an abandoned task must not keep asking models.
        running.cancel()
        raise


class Background:
    """An awaitable that runs on an event loop and a daemon thread of its own, after `start`."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()

    def start(self, done: Callable[[], None] | None = None) -> None:
        """Start it; `done` is called at its end, by its thread."""
        self._future = _start_thread(functools.partial(_run, self._runner, self._awaitable))
        if done is not None:
            self._future.add_done_callback(lambda _: done())

    def result(self) -> Any:
        """Wait for the result, or for what was raised."""
        return self._future.result().unwrap()

    def cancel(self) -> None:
        """Cancel the awaitable, unless it has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_cancel_all)


def _cancel_all() -> None:
    for task in asyncio.all_tasks():
        task.cancel()
