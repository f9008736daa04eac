"""Worker threads for blocking functions, and a thread with an event loop."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import Context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from agentkit._fork import fork_safe_lock, is_held, on_fork
from agentkit.engine.effects import TimedOut, Turn
from agentkit.errors import ConfigurationError, PoolExhaustedError
from agentkit.policy.target import CancelScope

if TYPE_CHECKING:
    import asyncio

NOTICEABLE = 0.01
"""Seconds for which a job may wait for a worker before the wait counts."""

IDLE_SECONDS = 30.0
"""Seconds after which an idle worker thread ends."""


class Job:
    """A function that runs on a worker thread."""

    __slots__ = (
        "_finished",
        "_lock",
        "_watch",
        "abandoned",
        "admitted",
        "error",
        "fn",
        "label",
        "result",
        "scope",
        "started",
        "waited",
    )

    def __init__(
        self, fn: Callable[[], Any], label: str, scope: CancelScope | None, submitted: float
    ) -> None:
        self.fn = fn
        self.label = label
        self.scope = scope
        self.result: Any = None
        self.error: BaseException | None = None
        self.abandoned = False
        self.admitted = False
        """Whether it has a place within the limits."""
        self.started: float | None = None
        """When a worker began it, by `time.monotonic`; None: none has."""
        self.waited = -submitted
        """Seconds for which it waited for a worker, by the manager's clock; set when it begins."""
        self._finished = False
        self._watch: Callable[[], None] | None = None
        self._lock = fork_safe_lock()

    def watch(self, done: Callable[[], None]) -> None:
        """Call `done` on the worker when the job is over, or now if it is over already."""
        with self._lock:
            if not self._finished:
                self._watch = done
                return
        done()

    def outcome(self) -> Any:
        """Return what the function returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.result

    def finish(self) -> None:
        """Wake the waiting caller."""
        with self._lock:
            self._finished = True
            watch = self._watch
        if watch is not None and not self.abandoned:
            watch()


class Workers:
    """Daemon threads, started on demand: at most `limit`, or any number if it is None.

    Jobs of one label get at most three quarters of them, so that one model that does not respond
    leaves workers to the others.
    """

    def __init__(
        self, limit: int | None, name: str, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = math.inf if limit is None else limit
        self.limit_of_label = self.limit if limit is None else limit - limit // 4
        self.name = name
        self._now = now
        self._reset()
        on_fork(self._reset)

    def _reset(self) -> None:
        self._ready: SimpleQueue[Job | None] = SimpleQueue()
        """Jobs for the next free thread."""
        self._waiting: list[Job] = []
        """Jobs that would exceed a limit, in order of arrival."""
        self._lock = fork_safe_lock()
        self._threads = 0
        self._idle = 0
        self._free = self.limit
        self._admitted: defaultdict[str, int] = defaultdict(int)
        """Jobs that are ready or running, by label."""
        self._running: set[Job] = set()
        self._stuck: defaultdict[str, int] = defaultdict(int)
        """Abandoned jobs that still run, by label."""
        self._closed = False

    @property
    def stuck(self) -> int:
        """The number of threads that still run an abandoned call."""
        return sum(self._stuck.values())

    def submit(self, fn: Callable[[], Any], label: str, scope: CancelScope | None = None) -> Job:
        """Run `fn` on a worker, as soon as one is free; `scope` is cancelled if it is abandoned.

        Raises:
            PoolExhaustedError: every thread is stuck, none can be started, or the workers are
                closed.
        """
        job = Job(fn, label, scope, self._now())
        if is_held(self._lock):
            return self._submit_aside(job)
        try:
            self._start(job)
        except BaseException:  # of the workers, or Ctrl-C
            self.abandon(job)
            raise
        return job

    def _start(self, job: Job) -> None:
        with self._lock:
            self._check(job.label)
            if not self._admit(job):
                self._waiting.append(job)
                return
            if self._idle >= self._ready.qsize() or self._threads >= self.limit:
                return
            self._threads += 1
        name = f"agentkit-{self.name}-{self._threads}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except BaseException as error:
            with self._lock:
                self._threads -= not thread.is_alive()
            if not isinstance(error, RuntimeError):
                raise
            if not self._threads:  # else one of the other threads will run it
                raise PoolExhaustedError(f"{self.name} can start no worker thread") from error

    def _submit_aside(self, job: Job) -> Job:
        """Run `job` on a thread of its own.

        A signal handler submits it while its thread holds the lock, which the workers need.
        """

        def work() -> None:
            job.waited += self._now()
            job.started = time.monotonic()
            _perform(job)
            job.finish()

        try:
            threading.Thread(target=work, name=f"agentkit-{self.name}-aside", daemon=True).start()
        except RuntimeError as error:
            raise PoolExhaustedError(f"{self.name} can start no worker thread") from error
        return job

    def abandon(self, job: Job) -> None:
        """Stop waiting for `job`, and cancel it if possible. Its result is ignored."""
        with self._lock:
            if job.abandoned:
                return
            job.abandoned = True
            if job.started is None:
                self._release(job)
            elif job in self._running:
                self._stuck[job.label] += 1
        if job.scope is not None:
            job.scope.cancel()

    def withdraw(self, job: Job) -> bool:
        """Give up `job`, unless a worker has begun it."""
        with self._lock:
            if job.started is not None:
                return False
            job.abandoned = True
            self._release(job)
        return True

    def give_up(self, job: Job) -> Exception:
        """Withdraw `job` or abandon it. Returns the error for its caller."""
        if not self.withdraw(job):
            self.abandon(job)
            return TimedOut()
        return PoolExhaustedError(
            f"no worker thread of {self.name} was free for {job.label} in time",
            hint="raise max_workers=, or make fewer calls at once",
        )

    def _check(self, label: str) -> None:
        if self._closed:
            raise PoolExhaustedError(f"the workers of {self.name} are closed")
        stuck = self._stuck
        if stuck and (stuck[label] >= self.limit_of_label or self.stuck >= self.limit):
            raise PoolExhaustedError(
                f"all worker threads of {self.name} for {label} are stuck in calls that outlived "
                "their time limit",
                hint="set a timeout in the callable itself, or raise max_workers=",
            )

    def _admit(self, job: Job) -> bool:
        """Give `job` to the next free thread, if the limits allow it."""
        if not self._free or self._admitted[job.label] >= self.limit_of_label:
            return False
        count, label = self._admitted, job.label
        # One step, even for Ctrl-C.
        self._free, count[label], job.admitted = self._free - 1, count[label] + 1, True
        self._ready.put(job)
        return True

    def _work(self) -> None:
        ready = self._ready
        while True:
            with self._lock:
                self._idle += 1
            try:
                job = ready.get(timeout=IDLE_SECONDS)
            except Empty:
                job = None
            with self._lock:
                self._idle -= 1
                if job is None and (self._closed or ready.empty()):
                    self._threads -= 1
                    return
            if job is not None:
                self._run(job)
                job = None  # an idle thread must not keep the last answer alive

    def _run(self, job: Job) -> None:
        with self._lock:
            if begins := not job.abandoned:
                self._running.add(job)
                job.waited += self._now()
                job.started = time.monotonic()
        if begins:
            _perform(job)
        job.fn = _nothing
        with self._lock:
            self._release(job)
        job.finish()

    def _release(self, job: Job) -> None:
        """Give the place of `job`, if it has one, to the first job that the limits allow."""
        if not job.admitted:
            if job in self._waiting:
                self._waiting.remove(job)
            return
        count, label = self._admitted, job.label
        self._free, count[label], job.admitted = self._free + 1, count[label] - 1, False
        self._running.discard(job)
        if job.abandoned and job.started is not None:
            self._stuck[label] -= 1
        if self._waiting:
            self._admit_next()

    def _admit_next(self) -> None:
        for job in tuple(self._waiting):
            # What interrupts this thread may admit a job, too, or withdraw it.
            if job in self._waiting and (job.admitted or self._admit(job)):
                if job in self._waiting:
                    self._waiting.remove(job)
                return

    def close(self) -> list[str]:
        """End the idle threads. Returns the labels of the jobs that still run."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, []
            for _ in range(self._threads):
                self._ready.put(None)
            labels = [job.label for job in self._running]
        for job in waiting:
            job.error = PoolExhaustedError(f"the workers of {self.name} are closed")
            job.finish()
        return labels


def _perform(job: Job) -> None:
    try:
        job.result = job.fn()
    except BaseException as error:
        job.error = error


def _nothing() -> None:
    return None


class JobLimit:
    """The time limits of a job: on the wait for a worker, and on its work from then on."""

    __slots__ = ("_begun", "_job", "_timeout", "_turn", "_until")

    def __init__(self, job: Job, turn: Turn, timeout: float | None) -> None:
        self._job = job
        self._turn = turn
        self._timeout = math.inf if timeout is None else timeout
        self._until: float | None = None
        self._begun = False

    def first(self) -> float:
        """Seconds to wait at first: a job that has a place begins immediately."""
        return self._timeout if self._job.admitted else self.left()

    def left(self) -> float:
        """Seconds to wait before asking again; zero or less when the time is up."""
        job, now = self._job, time.monotonic()
        if job.started is None:
            if self._until is None:
                self._until = now + self._turn.longest_wait()
            return min(self._timeout, self._until - now)
        if not self._begun:
            self._begun = True
            if job.waited >= NOTICEABLE:
                self._timeout = min(self._timeout, self._turn.begin_after(job.waited))
        return job.started + self._timeout - now

    def outcome(self) -> Any:
        """Return what the function returned, or raise what it raised."""
        job = self._job
        if job.waited >= NOTICEABLE and job.started is not None and not self._begun:
            self._turn.begin_after(job.waited)
        return job.outcome()


class LoopThread:
    """An event loop on a daemon thread, for sync callers of async callables."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._reset()
        on_fork(self._reset)

    def _reset(self) -> None:
        self._lock = fork_safe_lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._futures: set[Future[Any]] = set()
        self._closed = False

    def submit(
        self, coroutine: Coroutine[Any, Any, Any], context: Context
    ) -> tuple[Future[Any], Callable[[], None]]:
        """Run `coroutine` in `context`. Returns its future and a function to cancel it.

        Raises:
            ConfigurationError: the caller runs on this loop, and would wait for itself.
            PoolExhaustedError: the loop is closed.
        """
        from asyncio import CancelledError

        from agentkit.engine.drivers.cancellation import own_task

        future: Future[Any] = Future()
        running: list[asyncio.Task[None]] = []
        given_up = False

        async def carry() -> None:
            own_task(lambda: given_up or self._closed)
            try:
                result = await coroutine
            except BaseException as error:
                self._settle(future, error=error)
            else:
                self._settle(future, result)

        def start() -> None:
            task = loop.create_task(carry(), context=context)
            running.append(task)
            self._tasks.add(task)
            task.add_done_callback(ended)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled() and not future.done():  # before its first step
                coroutine.close()
                self._settle(future, error=CancelledError())

        def cancel() -> None:
            nonlocal given_up
            given_up = True
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(lambda: [task.cancel() for task in running])

        try:
            with self._lock:
                loop = self._started()
                self._futures.add(future)
                loop.call_soon_threadsafe(start)
        except BaseException:
            coroutine.close()
            raise
        return future, cancel

    def _settle(
        self, future: Future[Any], result: Any = None, error: BaseException | None = None
    ) -> None:
        """Set the outcome of `future`, unless closing has set it."""
        if self._closed and error is not None and not isinstance(error, Exception):
            error = self._closed_error()
        self._futures.discard(future)
        with suppress(InvalidStateError):
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def _closed_error(self) -> PoolExhaustedError:
        return PoolExhaustedError(f"the event loop of {self.name} is closed")

    def _started(self) -> asyncio.AbstractEventLoop:
        import asyncio

        if self._closed:
            raise self._closed_error()
        if self._loop is None or self._thread is None:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(
                target=loop.run_forever, name=f"agentkit-{self.name}-loop", daemon=True
            )
            if self._loop is not None:  # what interrupted this thread started one
                loop.close()
                return self._loop
            self._loop, self._thread = loop, thread
        if self._thread.ident is None:
            try:
                self._thread.start()
            except RuntimeError as error:
                if self._thread.ident is None:  # else what interrupted this thread has started it
                    self._loop.close()
                    self._loop = self._thread = None
                    raise PoolExhaustedError(f"{self.name} can start no thread") from error
        if self._thread is threading.current_thread():
            raise ConfigurationError(
                f"an async model of {self.name} made a sync call to an async model of {self.name}: "
                "it would wait for itself",
                hint="await the async method, such as acomplete()",
            )
        return self._loop

    def close(self) -> list[str]:
        """Cancel every task, and end the loop and its thread. Returns the names of the tasks."""
        import asyncio

        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return []
        cancelled = [task.get_name() for task in list(self._tasks)]

        async def drain() -> None:
            tasks = [task for task in self._tasks if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0) if tasks else None
            await loop.shutdown_asyncgens()
            loop.stop()

        asyncio.run_coroutine_threadsafe(drain(), loop)
        if thread is not threading.current_thread():
            thread.join(timeout=2.0)
            if not thread.is_alive():
                loop.close()
        for future in list(self._futures):  # of tasks that ignored their cancellation
            self._settle(future, error=self._closed_error())
        return cancelled
