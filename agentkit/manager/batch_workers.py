"""A large batch on the cores of one machine: worker processes that answer shards.

The parent hands out shards, adds up the progress and divides the budget. A worker has one manager
for its life, and answers one shard at a time. It may be killed at any time: another worker
continues its shard.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agentkit.errors import BudgetExceededError, ConfigurationError, LLMError
from agentkit.manager.batch_run import PATIENCE, Progress
from agentkit.manager.shards import Plan, Shard, complete_shard
from agentkit.policy.budget import Budget
from agentkit.policy.validation import number, whole_number

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager

_DEATHS: Final = 3
"""Workers that may die over one shard before the run stops."""
_REPORT_EVERY: Final = 0.1
"""Seconds between two reports of a worker."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a worker needs to know."""

    make: Callable[[], LLMManager]
    plan: Plan
    max_concurrency: int
    patience: float


@dataclass(frozen=True, slots=True)
class _Job:
    """A shard, and what may be spent on it beyond what was spent before."""

    shard: Shard
    before: Progress
    tokens: int | None = None
    usd: float | None = None
    all_left: bool = False
    """Whether it has everything that is left of the budget."""

    def budget(self) -> Budget | None:
        """The budget of the shard, which counts what was spent before."""
        if self.tokens is None and self.usd is None:
            return None
        tokens = None if self.tokens is None else self.before.tokens + self.tokens
        usd = None if self.usd is None else (self.before.cost or 0.0) + self.usd
        return Budget(tokens=tokens, usd=usd)


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
    """Complete every line of `source` with worker processes; `folder` gets an output a shard.

    Input and results are those of `complete_file`, and so is what happens in an outage. Run it
    again to continue, with any number of workers. Several runs, on several machines with a shared
    file system that has locks, may work on one folder. `join_shards` makes one file of it.

    Each worker has its own manager, with its own breakers and rate limits: divide the limits of
    your account by `workers`. The budget is shared.

    Args:
        make: creates the manager of a worker, in its process: a function of a module, or a
            `functools.partial` of one.
        source: the requests.
        folder: the outputs; created if it does not exist.
        shards: the number of shards (default: one for each MiB of input). It cannot be changed
            when `folder` has been begun.
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
        LLMError: what ended a shard, such as an outage longer than `patience`; or three workers
            died over one shard. The same call continues the run.
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
    settings = _Settings(make, plan, max_concurrency, patience)
    return _Parent(settings, budget, on_progress).run(workers)


class _Worker:
    """A worker process, as its parent sees it."""

    def __init__(self, settings: _Settings) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share the manager's sockets
        self.connection, other = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_work, args=(other, settings), name="agentkit-batch", daemon=True
        )
        self.job: _Job | None = None
        with _interrupts_ignored():
            self.process.start()
        other.close()

    def start(self, job: _Job) -> None:
        """Hand `job` to the process."""
        self.job = job
        with suppress(OSError):  # it died: its end of the pipe says so
            self.connection.send(job)

    def end(self) -> None:
        """Kill the process, whatever it does: its shard can be continued."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class _Parent:
    """Hands out shards, and adds up what the workers report."""

    def __init__(
        self,
        settings: _Settings,
        budget: Budget | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._settings = settings
        self._budget = budget
        self._on_progress = on_progress
        self._reported = 0.0
        self._states: dict[int, Progress] = {}
        self._kept = 0
        self._todo: deque[Shard] = deque()
        self._deaths: Counter[int] = Counter()
        self._workers: list[_Worker] = []
        self._refused = False
        """Whether a share of the budget was too small. Then all that is left goes to one worker."""
        for shard in settings.plan.shards:
            state, done = settings.plan.state(shard)
            self._states[shard.number] = state
            self._kept += state.kept
            if not done:
                self._todo.append(shard)
        if budget is not None:
            total = self._total()
            if budget.usd is not None and total.cost is None:
                raise ConfigurationError(
                    f"{settings.plan.folder} has results of unknown cost, so that a budget in US "
                    "dollars cannot count them",
                    hint="set a budget in tokens, or name another folder",
                )
            budget.add(total.tokens, total.cost or 0.0)

    def run(self, workers: int) -> Progress:
        """Answer all shards with at most `workers` processes."""
        self._report()
        try:
            while self._todo or any(worker.job for worker in self._workers):
                self._hand_out(workers)
                ready = wait([worker.connection for worker in self._workers])
                for worker in [each for each in self._workers if each.connection in ready]:
                    self._receive(worker)
        finally:
            for worker in self._workers:
                worker.end()
            self._report()
        return self._total()

    def _hand_out(self, workers: int) -> None:
        while self._todo:
            idle = next((worker for worker in self._workers if worker.job is None), None)
            if idle is None and len(self._workers) >= workers:
                return
            job = self._job(self._todo[0], workers)
            if job is None:
                return
            self._todo.popleft()
            if idle is None:
                idle = _Worker(self._settings)
                self._workers.append(idle)
            idle.start(job)

    def _job(self, shard: Shard, workers: int) -> _Job | None:
        """The next job, with an equal share of what is left of the budget.

        None: what is left is lent to workers, who may return a part of it.

        Raises:
            BudgetExceededError: nothing is left.
        """
        budget, before = self._budget, self._states[shard.number]
        if budget is None:
            return _Job(shard, before)
        running = [worker.job for worker in self._workers if worker.job is not None]
        share = 1 if self._refused else min(workers - len(running), len(self._todo))
        tokens = usd = None
        if budget.tokens is not None:
            lent = sum(job.tokens or 0 for job in running)
            tokens = (budget.tokens - budget.spent_tokens - lent) // share
        if budget.usd is not None:
            usd = (budget.usd - budget.spent_usd - sum(job.usd or 0.0 for job in running)) / share
        if (tokens is None or tokens > 0) and (usd is None or usd > 0.0):
            return _Job(shard, before, tokens, usd, all_left=share == 1 and not running)
        if running:
            return None
        raise BudgetExceededError(
            "the budget is spent", hint="raise the budget, and run it again to continue"
        )

    def _receive(self, worker: _Worker) -> None:
        """Take one report of `worker`.

        Raises:
            LLMError: the run ends.
        """
        job = worker.job
        try:
            report = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return
        if isinstance(report, _Report) and job is not None:
            self._states[job.shard.number] = report.progress
            self._report(every=_REPORT_EVERY)
            return
        worker.job = None
        if job is None:
            raise report  # its manager could not be made
        if not isinstance(report, LLMError):
            self._settle(job, report)
            return
        self._settle(job, None)
        if not isinstance(report, BudgetExceededError) or self._budget is None or job.all_left:
            raise report
        self._refused = True
        self._todo.append(job.shard)

    def _replace(self, worker: _Worker) -> None:
        """Forget a worker that died, and hand its shard to another one.

        Raises:
            LLMError: it was not the first one to die over this shard.
        """
        worker.end()
        self._workers.remove(worker)
        job = worker.job
        if job is None:
            return
        self._settle(job, None)
        self._todo.appendleft(job.shard)
        self._deaths[job.shard.number] += 1
        if self._deaths[job.shard.number] >= _DEATHS:
            raise LLMError(
                f"{_DEATHS} workers died over shard {job.shard.number}, the last one with exit "
                f"code {worker.process.exitcode}",
                hint="its first lines on stderr may say why, or the system's log",
            )

    def _settle(self, job: _Job, progress: Progress | None) -> None:
        """Count what `job` did. None: as far as its output says."""
        now = progress or self._settings.plan.state(job.shard)[0]
        self._states[job.shard.number] = now
        if self._budget is not None:
            usd = (now.cost or 0.0) - (job.before.cost or 0.0)
            self._budget.add(now.tokens - job.before.tokens, usd)

    def _report(self, every: float = 0.0) -> None:
        now = time.monotonic()
        if self._on_progress is not None and now - self._reported >= every:
            self._reported = now
            self._on_progress(self._total())

    def _total(self) -> Progress:
        states = self._states.values()
        costs = [state.cost for state in states if state.cost is not None]
        return Progress(
            total=sum(state.total for state in states),
            kept=self._kept,
            answered=sum(state.kept + state.answered for state in states) - self._kept,
            failed=sum(state.failed for state in states),
            held=sum(state.held for state in states),
            outage=next((state.outage for state in states if state.outage is not None), None),
            tokens=sum(state.tokens for state in states),
            cost=sum(costs) if len(costs) == len(states) else None,
        )


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


@dataclass(frozen=True, slots=True)
class _Report:
    """The progress of a worker that has not finished its shard."""

    progress: Progress


def _work(connection: Connection[Any, Any], settings: _Settings) -> None:
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


async def _answer(connection: Connection[Any, Any], settings: _Settings) -> None:
    """Answer shards, one at a time."""
    try:
        manager = settings.make()
    except LLMError as error:
        connection.send(error)
        connection.recv()  # until the parent ends this process
        return
    reported = 0.0

    def report(progress: Progress) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= _REPORT_EVERY:
            reported = now
            connection.send(_Report(progress))

    async with manager:
        while True:
            job: _Job = connection.recv()  # nothing else happens between two shards
            try:
                progress = await complete_shard(
                    manager,
                    settings.plan,
                    job.shard,
                    max_concurrency=settings.max_concurrency,
                    patience=settings.patience,
                    budget=job.budget(),
                    on_progress=report,
                )
            except LLMError as error:
                connection.send(error)
            else:
                connection.send(progress)
