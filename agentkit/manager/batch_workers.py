"""A large batch on the cores of one machine: worker processes that answer shards.

A worker has one manager for its life, and answers one shard at a time.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.errors import ConfigurationError, LLMError
from agentkit.manager.batch_coordinator import Coordinator, WorkerDiedError
from agentkit.manager.batch_jobs import Job, Ready, Settings, answer_job
from agentkit.manager.batch_run import PATIENCE, Progress
from agentkit.manager.shards import Plan
from agentkit.policy.budget import Budget
from agentkit.policy.validation import number, whole_number

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager


def complete_shards(
    make: Callable[[], LLMManager],
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    shards: int | None = None,
    workers: int = 1,
    max_concurrency: int = 8,
    patience: float = PATIENCE,
    budget: Budget | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Complete every line of `source` with worker processes, and write the results to `folder`.

    Input, results and outages are as in `complete_file`. Call it again to continue, with any number
    of workers. Several machines with a shared file system that has locks may work on one folder at
    the same time. `join_shards` joins the results into one file.

    Each worker has its own manager, with its own breakers and rate limits: divide the limits of
    your account by `workers`. The budget is shared.

    Args:
        make: creates the manager of a worker, in its process: a function of a module, or a
            `functools.partial` of one.
        source: the requests.
        folder: the results, one file for each shard; created if it does not exist.
        shards: the number of shards (default: one for each MiB of input). It cannot be changed for
            a `folder` that has been begun.
        workers: the most processes (default 1).
        max_concurrency: the most requests of a worker at the same time (default 8).
        patience: see `complete_file`.
        budget: what all runs for `folder` together may spend: pass a new one to each run.
        on_progress: called with the sum over all shards, at the start, and about ten times a
            second for each worker.

    Raises:
        ConfigurationError: `source` cannot be read or has changed, or `folder` has something else.
            Nothing was sent.
        BudgetExceededError: the budget is too small for the next item.
        LLMError: a shard could not be finished, for example because of an outage longer than
            `patience`, or because three workers died while answering it. The same call continues
            the run.
    """
    whole_number("workers", workers)
    whole_number("max_concurrency", max_concurrency)
    number("patience", patience)
    if shards is not None:
        whole_number("shards", shards)
    try:
        pickle.dumps(make)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"make cannot be sent to another process: {error}",
            hint="define it in a module, not inside a function",
        ) from None
    plan = Plan.open(Path(source), Path(folder), shards)
    settings = Settings.of(
        make, plan, workers=workers, max_concurrency=max_concurrency, patience=patience
    )
    pool = _Processes(settings)
    return Coordinator(plan, pool, budget=budget, on_progress=on_progress).run(workers)


class _Worker:
    """A worker process, as its parent sees it."""

    def __init__(self, settings: Settings) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share the manager's sockets
        self.connection, other = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=_work, args=(other, settings), name="agentkit-batch", daemon=True
        )
        with _interrupts_ignored():
            self._process.start()
        other.close()

    def start(self, job: Job) -> None:
        """Hand `job` to the process."""
        with suppress(OSError):  # it died: its end of the pipe says so
            self.connection.send(job)

    def receive(self) -> Any:
        """What the process sent.

        Raises:
            WorkerDiedError: nothing; it is gone.
        """
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self._process.kill()
            self._process.join()
            raise WorkerDiedError(f"with exit code {self._process.exitcode}") from None

    def end(self) -> None:
        """Kill the process, whatever it does: its shard can be continued."""
        self._process.kill()
        self._process.join()
        self.connection.close()


class _Processes:
    """Processes of this machine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def start_worker(self) -> _Worker:
        """Start a process."""
        return _Worker(self._settings)

    def wait(self, workers: Sequence[_Worker]) -> Iterable[_Worker]:
        """Wait for one of `workers` to send something; returns those that did."""
        ready = wait([worker.connection for worker in workers])
        return [worker for worker in workers if worker.connection in ready]


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let a child ignore Ctrl-C, which reaches every process of a terminal, from its start."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _work(connection: Connection[Any, Any], settings: Settings) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        asyncio.run(_answer(connection, settings))
    except (EOFError, BrokenPipeError):
        os._exit(1)  # the parent is gone


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


async def _answer(connection: Connection[Any, Any], settings: Settings) -> None:
    """Answer shards, one at a time."""
    try:
        manager = settings.make()
    except LLMError as error:
        connection.send(error)
        connection.recv()  # until the parent ends this process
        return
    connection.send(Ready())
    async with manager:
        while True:
            job: Job = connection.recv()  # nothing else happens between two shards
            connection.send(await answer_job(manager, settings, job, connection.send))
