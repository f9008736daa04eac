"""The asyncio driver: carries a flow out without ever blocking its loop."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from agentkit.engine import effects as fx
from agentkit.engine.drivers.runtime import Runtime
from agentkit.engine.drivers.sync import (
    WorkerSource,
    aclose_quietly,
    asend,
    astep,
    open_astream,
    presentable,
    send,
)
from agentkit.engine.shared_call import LED

R = TypeVar("R")

log = logging.getLogger("agentkit.engine")


async def arun(flow: fx.Flow[R], runtime: Runtime) -> R:
    """Carry `flow` out and return its result."""
    driver = Looping(runtime)
    try:
        effect = next(flow)
        while True:
            try:
                result = await driver.perform(effect)
            except BaseException as error:
                effect = flow.throw(presentable(error))
            else:
                effect = flow.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        flow.close()
        await driver.close()


class Looping:
    """Performs effects one by one; holds the streams it has open."""

    __slots__ = ("_open", "runtime")

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._open: set[Any] | None = None

    async def perform(self, effect: fx.Effect[Any]) -> Any:
        """Do what `effect` says and return its result."""
        kind = type(effect)
        if kind is fx.Send:
            return await self._send(effect)  # type: ignore[arg-type]
        if isinstance(effect, fx.Load):
            answers = self.runtime.answers
            return None if answers is None else answers.load(effect.key, effect.durable)
        if isinstance(effect, fx.Store):
            if self.runtime.answers is not None:
                self.runtime.answers.save_later(effect.key, effect.response, effect.durable)
            return None
        if isinstance(effect, fx.Sleep):
            return await self._sleep(effect)
        if isinstance(effect, fx.Launch):
            return self._launch(effect)
        if isinstance(effect, fx.Open):
            native = effect.endpoint.astream is not None
            source = TaskSource(effect) if native else HopSource(self.runtime, effect)
            self._open = self._open or set()
            self._open.add(source)
            return source
        if isinstance(effect, fx.Pull):
            return await effect.source.apull(effect.timeout)  # type: ignore[attr-defined]
        if isinstance(effect, fx.Close):
            await self._close(effect.source)
            return None
        raise TypeError(f"the asyncio driver cannot perform {kind.__name__}")

    async def _send(self, effect: fx.Send) -> Any:
        endpoint = effect.endpoint
        if endpoint.asend is None:
            return await self._on_worker(effect)
        limit = asyncio.timeout(effect.timeout)
        try:
            async with limit:
                return await asend(effect)
        except TimeoutError as error:
            if limit.expired():
                raise fx.TimedOut from error
            raise

    async def _on_worker(self, effect: fx.Send) -> Any:
        context = copy_context()
        label = effect.target.name
        return await hop(self.runtime, lambda: context.run(send, effect), label, effect.timeout)

    async def _sleep(self, effect: fx.Sleep) -> bool:
        fake = getattr(self.runtime.clock, "sleep", None)
        if effect.until is None and fake is None:
            await asyncio.sleep(effect.seconds)
            return False
        bell = Bell()
        if effect.until is not None:
            effect.until.subscribe(bell.ring)
        try:
            if fake is None:
                return await bell.wait(effect.seconds)
            if effect.until is not None and await bell.wait(0.02):
                return True
            fake(effect.seconds)
            await asyncio.sleep(0)
            return bell.rung
        finally:
            if effect.until is not None:
                effect.until.unsubscribe(bell.ring)

    def _launch(self, effect: fx.Launch) -> fx.Running:
        context = copy_context()
        context.run(LED.set, LED.get() | {effect.leads})
        task = asyncio.create_task(arun(effect.flow, self.runtime), context=context)
        self.runtime.tasks.add(task)
        task.add_done_callback(self._landed)
        return _Task(task)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self.runtime.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a flight ended with %s", type(error).__name__, exc_info=error)

    async def _close(self, source: Any) -> None:
        if self._open is not None:
            self._open.discard(source)
        await source.aclose()

    async def close(self) -> None:
        """Release the streams that were left open."""
        for source in list(self._open or ()):
            await self._close(source)


class Bell:
    """Wakes one coroutine, from any thread."""

    __slots__ = ("_future", "_loop", "_thread", "rung")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self.rung = False

    def ring(self) -> None:
        """Wake it; a loop that is gone has nobody left to wake."""
        self.rung = True
        with suppress(RuntimeError):
            if threading.get_ident() == self._thread:
                self._settle()
            else:
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float | None) -> bool:
        """Until it rings, at most `seconds`; whether it rang."""
        if self.rung:
            return True
        timer = None if seconds is None else self._loop.call_later(seconds, self._settle)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()
        if not self.rung:
            self._future = self._loop.create_future()
        return self.rung


class _Task:
    """A flow that runs as its own task."""

    __slots__ = ("_loop", "_task")

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task
        self._loop = task.get_loop()

    def alive(self) -> bool:
        return not self._task.done() and not self._loop.is_closed()

    def cancel(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)


async def hop(runtime: Runtime, fn: Callable[[], Any], label: str, timeout: float | None) -> Any:
    """Run `fn` on a worker thread; after `timeout` seconds let go of it and raise `TimedOut`."""
    bell = Bell()
    job = runtime.workers.submit(fn, label)
    job.watch(bell.ring)
    try:
        if await bell.wait(timeout):
            return job.outcome()
    except BaseException:
        if not bell.rung:
            runtime.workers.give_up(job)
        raise
    runtime.workers.give_up(job)
    raise fx.TimedOut


class Watchdog:
    """The time limit of one wait after another, on one timer.

    An event of a stream comes within microseconds of the last; a timer of its own for each would
    cost more than all the rest. So the limit is moved by writing a number, and the timer, when it
    rings too early, is set again.
    """

    __slots__ = ("_before", "_due", "_loop", "_rang", "_task", "_timer")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._due = math.inf
        self._before = 0
        self._rang = False

    def start(self, seconds: float | None) -> None:
        """The running task waits from now on, at most `seconds`."""
        task = asyncio.current_task()
        self._task, self._rang = task, False
        self._before = 0 if task is None else task.cancelling()
        self._due = math.inf if seconds is None else self._loop.time() + seconds
        if self._due < math.inf and (self._timer is None or self._timer.when() > self._due):
            self.stop_timer()
            self._timer = self._loop.call_at(self._due, self._ring)

    def stop(self) -> None:
        """The wait is over."""
        self._task = None

    def expired(self) -> bool:
        """Whether the cancellation just caught is its own; then it is taken back."""
        task = self._task
        return self._rang and task is not None and task.uncancel() <= self._before

    def stop_timer(self) -> None:
        """Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._task is None or self._due == math.inf:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._ring)
            return
        self._rang = True
        self._task.cancel()


class TaskSource:
    """An async stream read in the consumer's own task."""

    def __init__(self, effect: fx.Open) -> None:
        self._effect = effect
        self._iterator = open_astream(effect)
        self._watchdog = Watchdog()

    async def apull(self, timeout: float | None) -> Any:
        """The next event; None at the end. Raises `TimedOut`."""
        watchdog = self._watchdog
        watchdog.start(timeout)
        try:
            return await astep(self._iterator, self._effect)
        except asyncio.CancelledError as error:
            if watchdog.expired():
                raise fx.TimedOut from error
            raise
        finally:
            watchdog.stop()

    async def aclose(self) -> None:
        """Release it."""
        self._watchdog.stop_timer()
        await aclose_quietly(self._iterator, self._effect)


class HopSource:
    """A blocking stream, one worker hop an event."""

    def __init__(self, runtime: Runtime, effect: fx.Open) -> None:
        self._runtime = runtime
        self._source = WorkerSource(runtime, effect)
        self._label = effect.target.name

    async def apull(self, timeout: float | None) -> Any:
        """The next event; None at the end. Raises `TimedOut`."""
        return await hop(self._runtime, self._source.next_step(), self._label, timeout)

    async def aclose(self) -> None:
        """Release it."""
        self._source.close()
