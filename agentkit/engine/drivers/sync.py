"""The blocking driver: carries a flow out in the caller's thread."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import copy_context
from typing import Any, TypeVar

from agentkit.engine import effects as fx
from agentkit.engine.drivers.runtime import Runtime
from agentkit.engine.drivers.workers import Workers
from agentkit.engine.shared_call import LED
from agentkit.errors import ProviderError

R = TypeVar("R")

_NO_SCOPE = nullcontext()


def run(flow: fx.Flow[R], runtime: Runtime, stopped: Callable[[], bool] | None = None) -> R:
    """Carry `flow` out and return its result; `stopped` is asked before each effect."""
    driver = Blocking(runtime)
    try:
        effect = next(flow)
        while True:
            if stopped is not None and stopped():
                raise GeneratorExit
            try:
                result = driver.perform(effect)
            except BaseException as error:
                effect = flow.throw(presentable(error))
            else:
                effect = flow.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        flow.close()
        driver.close()


def presentable(error: BaseException) -> BaseException:
    """A `StopIteration` would end the flow it is thrown into: wrap it."""
    if isinstance(error, StopIteration | StopAsyncIteration):
        wrapped = ProviderError(f"the callable raised {type(error).__name__}")
        wrapped.__cause__ = RuntimeError(f"{type(error).__name__} outside an iterator")
        return wrapped
    return error


class Blocking:
    """Performs effects one by one; holds the streams it has open."""

    __slots__ = ("_open", "runtime")

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._open: set[Any] | None = None

    def perform(self, effect: fx.Effect[Any]) -> Any:
        """Do what `effect` says and return its result."""
        kind = type(effect)
        if kind is fx.Send:
            return self._send(effect)  # type: ignore[arg-type]
        if isinstance(effect, fx.Load):
            answers = self.runtime.answers
            return None if answers is None else answers.load(effect.key, effect.durable)
        if isinstance(effect, fx.Store):
            if self.runtime.answers is not None:
                self.runtime.answers.save(effect.key, effect.response, effect.durable)
            return None
        if isinstance(effect, fx.Sleep):
            return self._sleep(effect)
        if isinstance(effect, fx.Launch):
            return self._launch(effect)
        if isinstance(effect, fx.Open):
            source = self._source(effect)
            self._open = self._open or set()
            self._open.add(source)
            return source
        if isinstance(effect, fx.Pull):
            return effect.source.pull(effect.timeout)  # type: ignore[attr-defined]
        if isinstance(effect, fx.Close):
            self._close(effect.source)
            return None
        raise TypeError(f"the blocking driver cannot perform {kind.__name__}")

    def _send(self, effect: fx.Send) -> Any:
        endpoint = effect.endpoint
        if endpoint.send is None:
            return self._send_async(effect)
        if not effect.cuttable:
            return send(effect)
        context = copy_context()
        label = effect.target.name
        return wait_for(
            self.runtime.workers, lambda: context.run(send, effect), label, effect.timeout
        )

    def _send_async(self, effect: fx.Send) -> Any:
        future, cancel = self.runtime.loop.submit(asend(effect), copy_context())
        return _await(future, cancel, effect.timeout)

    def _sleep(self, effect: fx.Sleep) -> bool:
        fake = getattr(self.runtime.clock, "sleep", None)
        if effect.until is None:
            (fake or time.sleep)(effect.seconds)
            return False
        fired = threading.Event()
        effect.until.subscribe(fired.set)
        try:
            if fake is None:
                return fired.wait(_finite(effect.seconds))
            if not fired.wait(0.02):
                fake(effect.seconds)
            return fired.is_set()
        finally:
            effect.until.unsubscribe(fired.set)

    def _launch(self, effect: fx.Launch) -> fx.Running:
        side = _Side()
        led = LED.get() | {effect.leads}
        if not effect.apart:
            token = LED.set(led)
            try:
                run(effect.flow, self.runtime)
            finally:
                LED.reset(token)
            side.ended = True
            return side
        context = copy_context()
        context.run(LED.set, led)

        def carry() -> None:
            try:
                context.run(run, effect.flow, self.runtime, lambda: side.stop)
            except GeneratorExit:
                pass
            finally:
                side.ended = True

        self.runtime.workers.submit(carry, effect.leads)
        return side

    def _source(self, effect: fx.Open) -> Any:
        endpoint = effect.endpoint
        if endpoint.stream is None:
            return LoopSource(self.runtime, effect)
        if effect.cuttable:
            return WorkerSource(self.runtime, effect)
        return InlineSource(effect)

    def _close(self, source: Any) -> None:
        if self._open is not None:
            self._open.discard(source)
        source.close()

    def close(self) -> None:
        """Release the streams that were left open."""
        for source in list(self._open or ()):
            self._close(source)


class _Side:
    """A flow on the side of a blocking caller."""

    __slots__ = ("ended", "stop")

    def __init__(self) -> None:
        self.ended = False
        self.stop = False

    def alive(self) -> bool:
        return not self.ended

    def cancel(self) -> None:
        self.stop = True


def within(effect: fx.Send | fx.Open) -> AbstractContextManager[object]:
    """The attempt's scope around one step of the model's code."""
    return effect.scope() or _NO_SCOPE


def send(effect: fx.Send) -> Any:
    """Call the model's blocking side."""
    with within(effect):
        return effect.endpoint.send(effect.request)  # type: ignore[misc]


async def asend(effect: fx.Send) -> Any:
    """Call the model's async side."""
    with within(effect):
        return await effect.endpoint.asend(effect.request)  # type: ignore[misc]


def wait_for(workers: Workers, fn: Callable[[], Any], label: str, timeout: float | None) -> Any:
    """Run `fn` on a worker and wait; after `timeout` seconds let go of it and raise `TimedOut`."""
    job = workers.submit(fn, label)
    done = threading.Event()
    job.watch(done.set)
    try:
        if done.wait(_finite(timeout)):
            return job.outcome()
    except BaseException:
        if not done.is_set():
            workers.give_up(job)
        raise
    workers.give_up(job)
    raise fx.TimedOut


def _finite(seconds: float | None) -> float | None:
    """`seconds` as `threading` takes them, which knows no infinity."""
    return None if seconds == math.inf else seconds


def _await(future: Future[Any], cancel: Callable[[], None], timeout: float | None) -> Any:
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    try:
        if done.wait(_finite(timeout)):
            return future.result()
    except BaseException:
        if not done.is_set():
            cancel()
        raise
    cancel()
    raise fx.TimedOut


def open_stream(effect: fx.Open) -> Iterator[Any]:
    """The model's blocking stream."""
    with within(effect):
        return iter(effect.endpoint.stream(effect.request))  # type: ignore[misc]


def open_astream(effect: fx.Open) -> AsyncIterator[Any]:
    """The model's async stream."""
    with within(effect):
        return aiter(effect.endpoint.astream(effect.request))  # type: ignore[misc]


def step(iterator: Iterator[Any], effect: fx.Open) -> Any:
    """The iterator's next event, None at its end."""
    with within(effect):
        return next(iterator, None)


async def astep(iterator: AsyncIterator[Any], effect: fx.Open) -> Any:
    """Like `step`, for an async iterator."""
    with within(effect):
        return await anext(iterator, None)


def close_quietly(iterator: Any, effect: fx.Open) -> None:
    """Close a generator or SDK stream; what that raises is nobody's answer."""
    closing = getattr(iterator, "close", None)
    if closing is not None:
        with suppress(Exception), within(effect):
            closing()


async def aclose_quietly(iterator: Any, effect: fx.Open) -> None:
    """Like `close_quietly`, for an async stream."""
    closing = getattr(iterator, "aclose", None) or getattr(iterator, "close", None)
    if closing is not None:
        with suppress(Exception), within(effect):
            result = closing()
            if hasattr(result, "__await__"):
                await result


class InlineSource:
    """A blocking stream read in the caller's own thread; its time limit cannot be enforced."""

    def __init__(self, effect: fx.Open) -> None:
        self._effect = effect
        self._iterator = open_stream(effect)

    def pull(self, timeout: float | None) -> Any:
        """The next event; None at the end."""
        return step(self._iterator, self._effect)

    def close(self) -> None:
        """Release it."""
        close_quietly(self._iterator, self._effect)


class WorkerSource:
    """A blocking stream read on a worker thread, so that a silent one can be let go of."""

    def __init__(self, runtime: Runtime, effect: fx.Open) -> None:
        self._runtime = runtime
        self._effect = effect
        self._context = copy_context()
        self._iterator: Iterator[Any] | None = None
        self._busy = False
        self._closed = False

    def step(self) -> Any:
        """The next event; runs on the worker."""
        try:
            if self._iterator is None:
                self._iterator = open_stream(self._effect)
            return step(self._iterator, self._effect)
        finally:
            self._busy = False
            if self._closed:
                close_quietly(self._iterator, self._effect)

    def next_step(self) -> Callable[[], Any]:
        """`step` in the stream's own context, marked as under way."""
        self._busy = True
        return lambda: self._context.run(self.step)

    def pull(self, timeout: float | None) -> Any:
        """The next event; None at the end. Raises `TimedOut`."""
        workers, label = self._runtime.workers, self._effect.target.name
        return wait_for(workers, self.next_step(), label, timeout)

    def close(self) -> None:
        """Release it."""
        self._closed = True
        if not self._busy:
            close_quietly(self._iterator, self._effect)


class LoopSource:
    """An async stream read on the manager's background loop."""

    def __init__(self, runtime: Runtime, effect: fx.Open) -> None:
        self._loop = runtime.loop
        self._effect = effect
        self._context = copy_context()
        self._iterator: AsyncIterator[Any] | None = None

    async def _step(self) -> Any:
        if self._iterator is None:
            self._iterator = open_astream(self._effect)
        return await astep(self._iterator, self._effect)

    def pull(self, timeout: float | None) -> Any:
        """The next event; None at the end. Raises `TimedOut`."""
        return _await(*self._loop.submit(self._step(), self._context), timeout)

    def close(self) -> None:
        """Release it."""
        if self._iterator is not None:
            future, _ = self._loop.submit(
                aclose_quietly(self._iterator, self._effect), self._context
            )
            with suppress(Exception):
                future.result(timeout=1.0)
