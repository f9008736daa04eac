"""Worker threads for blocking functions, and a thread with an event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import Context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.errors import PoolExhaustedError
from agentkit.policy.target import CancelScope

if TYPE_CHECKING:
    import asyncio

IDLE_SECONDS = 30.0
"""Seconds after which an idle worker thread ends."""


class Job:
    """A function that runs on a worker thread."""

    __slots__ = (
        "_finished",
        "_lock",
        "_watch",
        "abandoned",
        "error",
        "fn",
        "label",
        "result",
        "scope",
    )

    def __init__(self, fn: Callable[[], Any], label: str, scope: CancelScope | None) -> None:
        self.fn = fn
        self.label = label
        self.scope = scope
        self.result: Any = None
        self.error: BaseException | None = None
        self.abandoned = False
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
    """At most `limit` daemon threads, started on demand."""

    def __init__(self, limit: int, name: str) -> None:
        self.limit = limit
        self.name = name
        self._reset()
        on_fork(self._reset)

    def _reset(self) -> None:
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = fork_safe_lock()
        self._threads = 0
        self._idle = 0
        self._running: set[Job] = set()
        self._stuck = 0
        self._closed = False

    @property
    def stuck(self) -> int:
        """The number of threads that still run an abandoned call."""
        return self._stuck

    def submit(self, fn: Callable[[], Any], label: str, scope: CancelScope | None = None) -> Job:
        """Run `fn` on a worker, as soon as one is free; `scope` is cancelled if it is abandoned.

        Raises:
            PoolExhaustedError: every thread is stuck, or the workers are closed.
        """
        job = Job(fn, label, scope)
        with self._lock:
            if self._closed:
                raise PoolExhaustedError(f"the workers of {self.name} are closed")
            if self._stuck >= self.limit:
                raise PoolExhaustedError(
                    f"all {self.limit} worker threads of {self.name} are stuck in calls that "
                    "outlived their time limit",
                    hint="set a timeout in the callable itself, or raise max_workers=",
                )
            self._queue.put(job)
            if self._idle >= self._queue.qsize() or self._threads >= self.limit:
                return job
            self._threads += 1
            name = f"agentkit-{self.name}-{self._threads}"
        threading.Thread(target=self._work, name=name, daemon=True).start()
        return job

    def abandon(self, job: Job) -> None:
        """Stop waiting for `job`, and cancel it if possible. Its result is ignored."""
        with self._lock:
            if job.abandoned:
                return
            job.abandoned = True
            self._stuck += job in self._running
        if job.scope is not None:
            job.scope.cancel()

    def _work(self) -> None:
        queue = self._queue
        while True:
            with self._lock:
                self._idle += 1
            try:
                job = queue.get(timeout=IDLE_SECONDS)
            except Empty:
                job = None
            with self._lock:
                self._idle -= 1
                if job is None and (self._closed or queue.empty()):
                    self._threads -= 1
                    return
            if job is not None:
                self._run(job)
                job = None  # an idle thread must not keep the last response alive

    def _run(self, job: Job) -> None:
        with self._lock:
            if job.abandoned:
                return
            self._running.add(job)
        try:
            job.result = job.fn()
        except BaseException as error:
            job.error = error
        job.fn = _nothing
        with self._lock:
            self._running.discard(job)
            self._stuck -= job.abandoned
        job.finish()

    def close(self) -> list[str]:
        """End the idle threads. Returns the labels of running jobs, which finish on their own."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._queue.put(None)
            return [job.label for job in self._running]


def _nothing() -> None:
    return None


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

    def submit(
        self, coroutine: Coroutine[Any, Any, Any], context: Context
    ) -> tuple[Future[Any], Callable[[], None]]:
        """Run `coroutine` in `context`. Returns its future and a function to cancel it."""
        loop = self._started()
        future: Future[Any] = Future()
        running: list[asyncio.Task[None]] = []

        async def carry() -> None:
            try:
                future.set_result(await coroutine)
            except BaseException as error:
                future.set_exception(error)

        def start() -> None:
            task = loop.create_task(carry(), context=context)
            running.append(task)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        def cancel() -> None:
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in running])

        loop.call_soon_threadsafe(start)
        return future, cancel

    def _started(self) -> asyncio.AbstractEventLoop:
        import asyncio

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name=f"agentkit-{self.name}-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def close(self) -> list[str]:
        """Cancel every task, and end the loop and its thread. Returns the names of the tasks."""
        import asyncio

        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return []
        cancelled = [task.get_name() for task in list(self._tasks)]

        async def drain() -> None:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0) if tasks else None
            await loop.shutdown_asyncgens()
            loop.stop()

        asyncio.run_coroutine_threadsafe(drain(), loop)
        thread.join(timeout=2.0)
        if not thread.is_alive():
            loop.close()
        return cancelled
