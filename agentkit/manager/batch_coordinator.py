"""The parent of a large batch: hands out shards, adds up the progress and divides the budget.

Where the workers live, as processes of this machine or elsewhere, is for a `WorkerPool` to know. A
worker may die at any time: another one continues its shard.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from agentkit.errors import BudgetExceededError, ConfigurationError, LLMError
from agentkit.manager.batch_jobs import Job, Ready, Report
from agentkit.manager.batch_run import Progress
from agentkit.manager.shards import Plan, Shard
from agentkit.policy.budget import Budget

_DEATHS: Final = 3
"""Workers that may die over one shard, or one after another before they are ready."""
_REPORT_EVERY: Final = 0.1
"""Seconds between two reports of the progress."""
_LOCK_WAIT: Final = 10.0
"""Seconds that a worker waits for the lock of another one that was killed."""
_CONTINUE: Final = "raise the budget, and run it again to continue"


class WorkerDiedError(Exception):
    """A worker is gone. The text says how it ended, as in "with exit code 1"."""


class Worker(Protocol):
    """A worker, as its parent sees it: it says `Ready` first, and then answers one job at a time.

    After each `start`, it says `Report` any number of times, and how the job ended.
    """

    def start(self, job: Job) -> None:
        """Hand it a job. If it is gone, `receive` says so."""
        ...

    def receive(self) -> Any:
        """What it sent: `Ready`, a `Report`, an outcome, or why it has no manager.

        Raises:
            WorkerDiedError: nothing; it is gone.
        """
        ...

    def end(self) -> None:
        """Kill it, whatever it does: its shard can be continued."""
        ...


W = TypeVar("W", bound=Worker)


class WorkerPool(Protocol[W]):
    """Starts workers, and waits for them."""

    def start_worker(self) -> W:
        """Start a worker."""
        ...

    def wait(self, workers: Sequence[W]) -> Iterable[W]:
        """Wait for one of `workers` to say something; returns those that did."""
        ...


class Coordinator(Generic[W]):
    """Answers the shards of a plan with the workers of a pool.

    Args:
        plan: the shards.
        pool: the workers.
        budget: what all runs for the plan together may spend.
        on_progress: called with the sum over all shards.

    Raises:
        ConfigurationError: an output is damaged, or has costs that the budget cannot count.
    """

    def __init__(
        self,
        plan: Plan,
        pool: WorkerPool[W],
        *,
        budget: Budget | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._plan = plan
        self._pool = pool
        self._budget = budget
        self._on_progress = on_progress
        self._reported = 0.0
        self._states: dict[int, Progress] = {}
        self._kept = 0
        self._todo: deque[Shard] = deque()
        self._deaths: Counter[int | None] = Counter()
        """Of workers, by their shard; None: before they were ready, since the last that was."""
        self._starting: list[W] = []
        self._idle: list[W] = []
        self._busy: dict[W, Job] = {}
        self._refused = False
        """Whether a share of the budget was too small. Then all that is left goes to one worker."""
        for shard in plan.shards:
            state, done = plan.state(shard)
            self._states[shard.number] = state
            self._kept += state.kept
            if not done:
                self._todo.append(shard)
        if budget is not None:
            total = self._total()
            if budget.usd is not None and total.cost is None:
                raise ConfigurationError(
                    f"{plan.folder} has results of unknown cost, so that a budget in US dollars "
                    "cannot count them",
                    hint="set a budget in tokens, or name another folder",
                )
            budget.add(total.tokens, total.cost or 0.0)

    def run(self, workers: int) -> Progress:
        """Answer all shards with at most `workers` workers.

        Raises:
            BudgetExceededError: the budget is too small for the next item.
            LLMError: what ended a shard, or three workers died over one.
        """
        self._report()
        try:
            while self._todo or self._busy:
                self._start_workers(workers)
                self._hand_out(workers)
                for worker in self._pool.wait([*self._starting, *self._busy]):
                    self._receive(worker)
        finally:
            for worker in (*self._starting, *self._idle, *self._busy):
                worker.end()
            self._report()
        return self._total()

    def _start_workers(self, workers: int) -> None:
        """Start a worker for each shard that needs one. Raises if the budget is spent."""
        if self._todo and not self._busy:
            self._job(self._todo[0], workers)
        left = workers - len(self._starting) - len(self._idle) - len(self._busy)
        wanted = 1 if self._refused else len(self._todo)
        for _ in range(min(left, wanted - len(self._starting) - len(self._idle))):
            self._starting.append(self._pool.start_worker())

    def _hand_out(self, workers: int) -> None:
        while self._todo and self._idle:
            job = self._job(self._todo[0], workers)
            if job is None:
                return
            self._todo.popleft()
            worker = self._idle.pop()
            self._busy[worker] = job
            worker.start(job)

    def _job(self, shard: Shard, workers: int) -> Job | None:
        """The next job, with an equal share of what is left of the budget.

        None: what is left is lent to workers, who may return a part of it.

        Raises:
            BudgetExceededError: nothing is left.
        """
        budget, before = self._budget, self._states[shard.number]
        lock_wait = _LOCK_WAIT if self._deaths[shard.number] else 0.0
        if budget is None:
            return Job(shard, before, lock_wait=lock_wait)
        running = self._busy.values()
        share = 1 if self._refused else min(workers - len(running), len(self._todo))
        tokens = usd = None
        if budget.tokens is not None:
            lent = sum(job.tokens or 0 for job in running)
            tokens = (budget.tokens - budget.spent_tokens - lent) // share
        if budget.usd is not None:
            usd = (budget.usd - budget.spent_usd - sum(job.usd or 0.0 for job in running)) / share
        if (tokens is None or tokens > 0) and (usd is None or usd > 0.0):
            all_left = share == 1 and not running
            return Job(shard, before, tokens, usd, all_left=all_left, lock_wait=lock_wait)
        if running:
            return None
        raise BudgetExceededError(f"{_spent_of(budget)} are spent", hint=_CONTINUE)

    def _receive(self, worker: W) -> None:
        """Take one report of `worker`.

        Raises:
            LLMError: the run ends.
        """
        try:
            report = worker.receive()
        except WorkerDiedError as error:
            self._replace(worker, error)
            return
        job = self._busy.get(worker)
        if isinstance(report, Report) and job is not None:
            self._states[job.shard.number] = report.progress
            self._report(every=_REPORT_EVERY)
            return
        if isinstance(report, Ready):
            del self._deaths[None]
            self._starting.remove(worker)
            self._idle.append(worker)
            return
        if job is None:
            raise report  # its manager could not be made
        del self._busy[worker]
        self._idle.append(worker)
        if not isinstance(report, LLMError):
            self._settle(job, report)
            return
        self._settle(job, None)
        if not isinstance(report, BudgetExceededError) or self._budget is None:
            raise report
        if job.all_left:  # the worker only knows what was left
            raise _exceeded(self._budget) from report
        self._refused = True
        self._todo.append(job.shard)

    def _replace(self, worker: W, error: WorkerDiedError) -> None:
        """Forget a worker that died, and hand its shard to another one.

        Raises:
            LLMError: it was not the first one to die like that.
        """
        worker.end()
        job = self._busy.pop(worker, None)
        if job is None:
            self._starting.remove(worker)
        else:
            self._settle(job, None)
            self._todo.appendleft(job.shard)
        number = None if job is None else job.shard.number
        self._deaths[number] += 1
        if self._deaths[number] >= _DEATHS:
            what = "before they were ready" if number is None else f"over shard {number}"
            raise LLMError(
                f"{_DEATHS} workers died {what}, the last one {error}",
                hint="look at what it wrote to stderr and at the system's log; exit code -9 mostly "
                "means that memory ran out: use fewer workers",
            )

    def _settle(self, job: Job, progress: Progress | None) -> None:
        """Count what `job` did. None: as far as its output says."""
        now = progress or self._plan.state(job.shard)[0]
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


def _exceeded(budget: Budget) -> BudgetExceededError:
    return BudgetExceededError(
        f"{_spent_of(budget)} are spent, and the next item may take more than what is left",
        hint=_CONTINUE,
    )


def _spent_of(budget: Budget) -> str:
    """What is spent of each limit, for a message."""
    parts = []
    if budget.usd is not None:
        parts.append(f"{budget.spent_usd:.4f} of {budget.usd:.4f} USD")
    if budget.tokens is not None:
        parts.append(f"{budget.spent_tokens:,} of {budget.tokens:,} tokens")
    return " and ".join(parts)
