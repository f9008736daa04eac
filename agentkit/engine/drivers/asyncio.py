"""The asyncio driver: performs the effects of a flow without blocking the event loop."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from types import CoroutineType
from typing import Any, ClassVar, TypeVar

from agentkit.engine import effects as fx
from agentkit.engine.drivers.clock import Wakeup, finite
from agentkit.engine.drivers.runtime import Runtime
from agentkit.engine.drivers.sync import (
    WorkerSource,
    aclose_quietly,
    asend,
    astep,
    cancel_scope,
    open_astream,
    send,
)
from agentkit.engine.drivers.timer import TaskLimit
from agentkit.engine.drivers.workers import JobLimit
from agentkit.engine.shared_call import LED
from agentkit.engine.stepper import presentable
from agentkit.errors import ConfigurationError, PoolExhaustedError
from agentkit.policy.target import CancelScope

R = TypeVar("R")

log = logging.getLogger("agentkit.engine")


def require_asyncio() -> None:
    """Raise an error that names the remedy, unless asyncio runs the calling code.

    Otherwise each of its functions would raise, which would count as a failure of the model.

    Raises:
        ConfigurationError: trio or no event loop at all runs the call.
    """
    try:
        asyncio.get_running_loop()
        if "trio" not in sys.modules or asyncio.current_task() is not None:
            return
        if not _is_run_by_trio():
            return
    except RuntimeError:  # no event loop of asyncio runs
        pass
    if _is_run_by_trio():
        raise ConfigurationError(
            "agentkit's async methods need asyncio, and this is a task of trio",
            hint="use the sync method in a thread, as in "
            "await trio.to_thread.run_sync(llm.complete, prompt)",
        )
    raise ConfigurationError(
        "agentkit's async methods need asyncio, and no event loop of it runs here",
        hint="call them from a coroutine that asyncio.run() runs, or use the sync methods",
    )


def _is_run_by_trio() -> bool:
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


async def arun(flow: fx.Flow[R], runtime: Runtime) -> R:
    """Run `flow`, which emits no events, and return its result."""
    driver = AsyncioDriver(runtime)
    perform = driver.handlers
    try:
        effect = flow.send(None)
        while True:
            try:
                result = perform[type(effect)](driver, effect)
                if type(result) is CoroutineType:
                    result = await result
            except BaseException as error:
                effect = flow.throw(presentable(error))
            else:
                effect = flow.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        flow.close()
        if driver.open_streams:
            await driver.close()


class AsyncioDriver:
    """Performs effects one by one, and keeps track of open streams."""

    __slots__ = ("open_streams", "runtime")

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.open_streams: set[Any] = set()

    async def close(self) -> None:
        """Close the streams that are still open."""
        while self.open_streams:
            await self.open_streams.pop().aclose()

    async def _prepare(self, effect: fx.Prepare) -> None:
        with suppress(Exception):
            await asyncio.to_thread(effect.prepare)

    def _send(self, effect: fx.Send) -> Coroutine[Any, Any, Any]:
        if effect.endpoint.asend is not None:
            return asend(effect, TaskLimit(self.runtime.timer()))
        context, scope = copy_context(), cancel_scope(effect)
        return run_on_worker(
            self.runtime, lambda: context.run(send, effect, scope), effect, effect.timeout, scope
        )

    def _open_stream(self, effect: fx.Open) -> Any:
        native = effect.endpoint.astream is not None
        source = (
            TaskSource(self.runtime, effect) if native else AsyncWorkerSource(self.runtime, effect)
        )
        self.open_streams.add(source)
        return source

    def _pull(self, effect: fx.Pull) -> Any:
        return effect.source.apull(effect.timeout)  # type: ignore[attr-defined]

    async def _close_stream(self, effect: fx.Close) -> None:
        source: Any = effect.source
        self.open_streams.discard(source)
        await source.aclose()

    async def _sleep(self, effect: fx.Sleep) -> bool:
        return await self.runtime.clock.asleep(effect.seconds, effect.until)

    def _load(self, effect: fx.Load) -> Any:
        cache = self.runtime.cache
        return None if cache is None else cache.load(effect.key, effect.durable)

    def _store(self, effect: fx.Store) -> None:
        if self.runtime.cache is not None:
            self.runtime.cache.save_later(effect.key, effect.response, effect.durable)

    def _consult(self, effect: fx.Consult) -> Any:
        fleet = self.runtime.fleet
        return None if fleet is None else fleet.aask(effect.question)

    def _launch(self, effect: fx.Launch) -> fx.Running:
        context = copy_context()
        context.run(LED.set, LED.get() | {effect.leads})
        task = asyncio.create_task(arun(effect.flow, self.runtime), context=context)
        self.runtime.tasks.add(task)
        task.add_done_callback(self._ended)
        return _Task(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.runtime.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a shared call ended with %s", type(error).__name__, exc_info=error)

    handlers: ClassVar[dict[type[fx.Effect[Any]], Callable[..., Any]]] = {
        fx.Prepare: _prepare,
        fx.Send: _send,
        fx.Open: _open_stream,
        fx.Pull: _pull,
        fx.Close: _close_stream,
        fx.Sleep: _sleep,
        fx.Load: _load,
        fx.Store: _store,
        fx.Consult: _consult,
        fx.Launch: _launch,
    }


class _Task:
    """A flow that runs as a task of its own."""

    __slots__ = ("_loop", "_task")

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task
        self._loop = task.get_loop()

    def alive(self) -> bool:
        return not self._task.done() and not self._loop.is_closed()

    def cancel(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)


async def run_on_worker(
    runtime: Runtime,
    fn: Callable[[], Any],
    effect: fx.Send | fx.Open,
    timeout: float | None,
    scope: CancelScope | None,
) -> Any:
    """Run `fn` on a worker. After `timeout` seconds of work abandon it and raise `TimedOut`.

    `scope` is cancelled when it is abandoned.
    """
    wakeup = Wakeup()
    workers = runtime.workers
    job = workers.submit(fn, effect.target.name, scope)
    job.watch(wakeup.set)
    limit = JobLimit(job, effect.turn, timeout)
    try:
        left = limit.first()
        while left > 0:
            if await wakeup.wait(finite(left)):
                return limit.outcome()
            left = limit.left()
    except BaseException:
        if not wakeup.is_set:
            workers.abandon(job)
        raise
    raise workers.give_up(job)


class TaskSource:
    """An async stream that is read in the consumer's own task."""

    def __init__(self, runtime: Runtime, effect: fx.Open) -> None:
        self._effect = effect
        self._iterator = open_astream(effect)
        self._limit = TaskLimit(runtime.timer())

    def apull(self, timeout: float | None) -> Coroutine[Any, Any, Any]:
        """The next event; None at the end. Raises `TimedOut`."""
        return astep(self._iterator, self._effect, self._limit, timeout)

    async def aclose(self) -> None:
        """Release it."""
        await aclose_quietly(self._iterator, self._effect)


class AsyncWorkerSource:
    """A sync stream that is read on a worker thread, with one job for each event."""

    def __init__(self, runtime: Runtime, effect: fx.Open) -> None:
        self._runtime = runtime
        self._source = WorkerSource(runtime, effect)
        self._effect = effect

    async def apull(self, timeout: float | None) -> Any:
        """The next event; None at the end. Raises `TimedOut`."""
        source = self._source
        try:
            return await run_on_worker(
                self._runtime, source.next_step(), self._effect, timeout, source.scope
            )
        except PoolExhaustedError:
            source.withdraw_step()
            raise

    async def aclose(self) -> None:
        """Release it."""
        self._source.close()
