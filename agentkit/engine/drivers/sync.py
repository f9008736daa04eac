"""The sync driver: performs the effects of a flow in the caller's thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from contextvars import Context, copy_context
from typing import Any, ClassVar, TypeVar

from agentkit.engine import effects as fx
from agentkit.engine.drivers.cancellation import is_being_cancelled
from agentkit.engine.drivers.clock import ThreadWakeup
from agentkit.engine.drivers.runtime import Runtime
from agentkit.engine.drivers.timer import TaskLimit
from agentkit.engine.drivers.workers import JobLimit, Workers
from agentkit.engine.shared_call import LED
from agentkit.engine.stepper import Stepper, presentable
from agentkit.errors import PoolExhaustedError, ProviderError
from agentkit.policy.target import CancelScope
from agentkit.types import StreamEvent

R = TypeVar("R")

_NO_SCOPE = nullcontext()


def run(flow: fx.Flow[R], runtime: Runtime) -> R:
    """Run `flow`, which emits no events, and return its result."""
    driver = SyncDriver(runtime)
    perform = driver.handlers
    try:
        effect = flow.send(None)
        while True:
            try:
                result = perform[type(effect)](driver, effect)
            except BaseException as error:
                effect = flow.throw(presentable(error))
            else:
                effect = flow.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        flow.close()
        if driver.open_streams:
            driver.close()


class SyncDriver:
    """Performs effects one by one, and keeps track of open streams."""

    __slots__ = ("open_streams", "runtime")

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.open_streams: set[Any] = set()

    def advance(
        self, stepper: Stepper[Any], cancelled: Callable[[], bool] | None = None
    ) -> Sequence[StreamEvent] | None:
        """Run the flow to the next events that it emits and return them, or to its end.

        `cancelled` is called before each effect and after a failed one. Once it returns true, the
        flow is left as it is.
        """
        stepper.advance()
        while not stepper.done:
            effect = stepper.effect
            if type(effect) is fx.Emit:
                return effect.events
            if cancelled is not None and cancelled():
                return None
            try:
                result = self.handlers[type(effect)](self, effect)
            except BaseException as error:
                if cancelled is not None and cancelled():
                    return None
                stepper.fail(error)
            else:
                stepper.advance(result)
        return None

    def cancel(self) -> None:
        """End the reads of streams that are under way, where possible. Called from any thread."""
        for source in tuple(self.open_streams):
            scope = source.scope
            if scope is not None:
                scope.cancel()

    def close(self) -> None:
        """Close the streams that are still open."""
        while self.open_streams:
            self.open_streams.pop().close()

    def _prepare(self, effect: fx.Prepare) -> None:
        with suppress(Exception):
            effect.prepare()

    def _send(self, effect: fx.Send) -> Any:
        if effect.endpoint.send is None:
            future, cancel = self.runtime.loop.submit(asend(effect), copy_context())
            return _wait_for_future(future, cancel, effect.timeout)
        make_scope = effect.endpoint.cancel_scope
        scope = None if make_scope is None else make_scope()
        if effect.cuttable:
            context = copy_context()
            return _run_on_worker(
                self.runtime.workers,
                lambda: context.run(send, effect, scope),
                effect,
                effect.timeout,
                scope,
            )
        if scope is None:
            return send(effect)
        watch = self.runtime.watchdog.watch(scope.cancel)
        watch.start(effect.timeout)
        try:
            return send(effect, scope)
        except Exception as error:
            if watch.expired:
                raise fx.TimedOut from error
            raise
        finally:
            watch.stop()

    def _open_stream(self, effect: fx.Open) -> Any:
        source: InlineSource | WorkerSource | LoopSource
        if effect.endpoint.stream is None:
            source = LoopSource(self.runtime, effect)
        elif effect.cuttable:
            source = WorkerSource(self.runtime, effect)
        else:
            source = InlineSource(self.runtime, effect)
        self.open_streams.add(source)
        return source

    def _pull(self, effect: fx.Pull) -> Any:
        return effect.source.pull(effect.timeout)  # type: ignore[attr-defined]

    def _close_stream(self, effect: fx.Close) -> None:
        source: Any = effect.source
        self.open_streams.discard(source)
        source.close()

    def _sleep(self, effect: fx.Sleep) -> bool:
        if effect.until is not None and self.runtime.fleet is not None:
            self.runtime.fleet.catch_up()
        return self.runtime.clock.sleep(effect.seconds, effect.until)

    def _load(self, effect: fx.Load) -> Any:
        cache = self.runtime.cache
        return None if cache is None else cache.load(effect.key, effect.durable)

    def _store(self, effect: fx.Store) -> None:
        if self.runtime.cache is not None:
            self.runtime.cache.save(effect.key, effect.response, effect.durable)

    def _consult(self, effect: fx.Consult) -> Any:
        fleet = self.runtime.fleet
        return None if fleet is None else fleet.ask(effect.question)

    def _launch(self, effect: fx.Launch) -> fx.Running:
        side = _SideFlow(effect.flow, self.runtime, LED.get() | {effect.leads})
        self.runtime.leaders.submit(side.run, "shared call")
        return side

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


class _SideFlow:
    """A flow that runs on a worker thread, beside the sync caller that launched it."""

    __slots__ = ("_cancelled", "_context", "_driver", "_ended", "_flow")

    def __init__(self, flow: fx.Flow[None], runtime: Runtime, leads: frozenset[str]) -> None:
        self._flow = flow
        self._driver = SyncDriver(runtime)
        self._context: Context = copy_context()
        self._context.run(LED.set, leads)
        self._ended = False
        self._cancelled = False

    def run(self) -> None:
        """Run the flow, on the worker."""
        try:
            self._context.run(self._carry_out)
        finally:
            self._ended = True

    def _carry_out(self) -> None:
        stepper = Stepper(self._flow)
        try:
            self._driver.advance(stepper, lambda: self._cancelled)
        finally:
            stepper.close()
            self._driver.close()

    def alive(self) -> bool:
        return not self._ended

    def cancel(self) -> None:
        self._cancelled = True
        self._driver.cancel()


def cancel_scope(effect: fx.Send | fx.Open) -> CancelScope | None:
    """The scope by which this sync call can be cancelled; None where the endpoint has none."""
    make = effect.endpoint.cancel_scope
    return None if make is None else make()


def send(effect: fx.Send, cancellable: CancelScope | None = None) -> Any:
    """Call the model's sync function."""
    scope = effect.scope()
    try:
        if cancellable is None:
            if scope is None:
                return effect.endpoint.send(effect.request)  # type: ignore[misc]
            with scope:
                return effect.endpoint.send(effect.request)  # type: ignore[misc]
        with scope or _NO_SCOPE, cancellable:
            return effect.endpoint.send(effect.request)  # type: ignore[misc]
    except asyncio.CancelledError as error:  # nothing cancels a sync function
        raise _own_cancellation(effect) from error


async def asend(effect: fx.Send, limit: TaskLimit | None = None) -> Any:
    """Call the model's async function. Raises `TimedOut` when `limit` ends it."""
    scope = effect.scope()
    if limit is not None:
        limit.start(effect.timeout)
    try:
        if scope is None:
            return await effect.endpoint.asend(effect.request)  # type: ignore[misc]
        with scope:
            return await effect.endpoint.asend(effect.request)  # type: ignore[misc]
    except (asyncio.CancelledError, TimeoutError) as error:
        if limit is not None and limit.expired():
            raise fx.TimedOut from error
        if isinstance(error, TimeoutError) or is_being_cancelled():
            raise
        raise _own_cancellation(effect) from error
    finally:
        if limit is not None:
            limit.stop()


def _own_cancellation(effect: fx.Send | fx.Open) -> ProviderError:
    """The error of a model that raised `CancelledError` without being cancelled."""
    name = effect.target.name
    return ProviderError(
        f"the call to {name} cancelled itself",
        model=name,
        hint="its function raised CancelledError: look for a task or scope that it cancels",
    )


def _run_on_worker(
    workers: Workers,
    fn: Callable[[], Any],
    effect: fx.Send | fx.Open,
    timeout: float | None,
    scope: CancelScope | None,
) -> Any:
    """Run `fn` on a worker and wait. After `timeout` seconds of work raise `TimedOut`.

    `scope` is cancelled when it is abandoned.
    """
    job = workers.submit(fn, effect.target.name, scope)
    done = ThreadWakeup()
    job.watch(done.set)
    limit = JobLimit(job, effect.turn, timeout)
    try:
        left = limit.first()
        while left > 0:
            if done.wait(left):
                return limit.outcome()
            left = limit.left()
    except BaseException:
        if not done.is_set:
            workers.abandon(job)
        raise
    raise workers.give_up(job)


def _wait_for_future(future: Future[Any], cancel: Callable[[], None], timeout: float | None) -> Any:
    """Wait for `future`. After `timeout` seconds cancel it and raise `TimedOut`."""
    done = ThreadWakeup()
    future.add_done_callback(lambda _: done.set())
    try:
        if done.wait(timeout):
            return future.result()
    except BaseException:
        if not done.is_set:
            cancel()
        raise
    cancel()
    raise fx.TimedOut


def open_astream(effect: fx.Open) -> AsyncIterator[Any]:
    """Open the model's async stream."""
    with effect.scope() or _NO_SCOPE:
        return aiter(effect.endpoint.astream(effect.request))  # type: ignore[misc]


async def astep(
    iterator: AsyncIterator[Any],
    effect: fx.Open,
    limit: TaskLimit | None = None,
    timeout: float | None = None,
) -> Any:
    """Like `step`, for an async iterator. Raises `TimedOut` when `limit` ends after `timeout`."""
    if limit is not None:
        limit.start(timeout)
    try:
        scope = effect.scope()
        if scope is None:
            return await iterator.__anext__()
        with scope:
            return await iterator.__anext__()
    except StopAsyncIteration:
        return None
    except asyncio.CancelledError as error:
        if limit is not None and limit.expired():
            raise fx.TimedOut from error
        if is_being_cancelled():
            raise
        raise _own_cancellation(effect) from error
    finally:
        if limit is not None:
            limit.stop()


async def aclose_quietly(iterator: Any, effect: fx.Open) -> None:
    """Close an async generator or SDK stream. Exceptions are ignored."""
    closing = getattr(iterator, "aclose", None) or getattr(iterator, "close", None)
    if closing is not None:
        with suppress(Exception), effect.scope() or _NO_SCOPE:
            result = closing()
            if hasattr(result, "__await__"):
                await result


class SyncReader:
    """Reads a sync stream, step by step; opens it for the first one."""

    def __init__(self, effect: fx.Open) -> None:
        self._effect = effect
        self._iterator: Iterator[Any] | None = None
        self.scope = cancel_scope(effect)

    def step(self) -> Any:
        """The next event; None at the end."""
        effect = self._effect
        try:
            with effect.scope() or _NO_SCOPE, self.scope or _NO_SCOPE:
                if self._iterator is None:
                    stream: Any = effect.endpoint.stream
                    self._iterator = iter(stream(effect.request))
                return next(self._iterator, None)
        except asyncio.CancelledError as error:
            raise _own_cancellation(effect) from error

    def close(self) -> None:
        """Close the generator or SDK stream. Exceptions are ignored."""
        closing = getattr(self._iterator, "close", None)
        if closing is not None:
            with suppress(Exception), self._effect.scope() or _NO_SCOPE:
                closing()


class InlineSource:
    """A sync stream that is read in the caller's thread.

    Time limits can be enforced only if the endpoint has a cancel scope.
    """

    def __init__(self, runtime: Runtime, effect: fx.Open) -> None:
        self._reader = SyncReader(effect)
        self.scope = self._reader.scope
        self._watch = None if self.scope is None else runtime.watchdog.watch(self.scope.cancel)

    def pull(self, timeout: float | None) -> Any:
        """The next event; None at the end. Raises `TimedOut`."""
        watch = self._watch
        if watch is None:
            return self._reader.step()
        watch.start(timeout)
        try:
            return self._reader.step()
        except Exception as error:
            if watch.expired:
                raise fx.TimedOut from error
            raise
        finally:
            watch.stop()

    def close(self) -> None:
        """Release it."""
        self._reader.close()


class WorkerSource:
    """A sync stream that is read on a worker thread, so that it can be abandoned."""

    def __init__(self, runtime: Runtime, effect: fx.Open) -> None:
        self._workers = runtime.workers
        self._effect = effect
        self._reader = SyncReader(effect)
        self.scope = self._reader.scope
        self._context = copy_context()
        self._busy = False
        self._closed = False

    def _step(self) -> Any:
        try:
            return self._reader.step()
        finally:
            self._busy = False
            if self._closed:
                self._reader.close()

    def next_step(self) -> Callable[[], Any]:
        """Return a function that reads the next event, and mark it as running."""
        self._busy = True
        return lambda: self._context.run(self._step)

    def withdraw_step(self) -> None:
        """Note that no worker runs the step."""
        self._busy = False

    def pull(self, timeout: float | None) -> Any:
        """The next event; None at the end. Raises `TimedOut`."""
        try:
            return _run_on_worker(
                self._workers, self.next_step(), self._effect, timeout, self.scope
            )
        except PoolExhaustedError:
            self.withdraw_step()
            raise

    def close(self) -> None:
        """Release it."""
        self._closed = True
        if not self._busy:
            self._reader.close()


class LoopSource:
    """An async stream that is read on the manager's background event loop."""

    scope: CancelScope | None = None

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
        return _wait_for_future(*self._loop.submit(self._step(), self._context), timeout)

    def close(self) -> None:
        """Release it."""
        if self._iterator is not None:
            with suppress(Exception):
                closing = aclose_quietly(self._iterator, self._effect)
                future, _ = self._loop.submit(closing, self._context)
                future.result(timeout=1.0)
