"""A large batch as its workers see it: jobs, reports, and how a worker answers a job."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from agentkit.errors import LLMError
from agentkit.manager.batch_run import Progress
from agentkit.manager.shards import Plan, Shard, complete_shard
from agentkit.policy.budget import Budget

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager

_REPORT_EVERY: Final = 0.1
"""Seconds between two reports of a worker."""
_REPORTS_A_SECOND: Final = 100
"""The most reports of all workers together, so that many do not keep their parent busy."""
_LOCK_CHECK: Final = 0.1
"""Seconds between two looks at a lock."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker needs to know."""

    make: Callable[[], LLMManager]
    plan: Plan
    """Without its shards: each job has its own."""
    max_concurrency: int
    patience: float
    report_every: float

    @classmethod
    def of(
        cls,
        make: Callable[[], LLMManager],
        plan: Plan,
        *,
        workers: int,
        max_concurrency: int,
        patience: float,
    ) -> Self:
        """The settings of one of `workers` workers for `plan`."""
        return cls(
            make=make,
            plan=replace(plan, shards=()),
            max_concurrency=max_concurrency,
            patience=patience,
            report_every=max(_REPORT_EVERY, workers / _REPORTS_A_SECOND),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A shard, and what may be spent on it beyond what was spent before."""

    shard: Shard
    before: Progress
    tokens: int | None = None
    usd: float | None = None
    all_left: bool = False
    """Whether it has everything that is left of the budget."""
    lock_wait: float = 0.0
    """Seconds to wait for the lock of its output, which a worker that was killed may still have."""

    def budget(self) -> Budget | None:
        """The budget of the shard, which counts what was spent before."""
        if self.tokens is None and self.usd is None:
            return None
        tokens = None if self.tokens is None else self.before.tokens + self.tokens
        usd = None if self.usd is None else (self.before.cost or 0.0) + self.usd
        return Budget(tokens=tokens, usd=usd)


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has its manager, and can answer jobs."""


@dataclass(frozen=True, slots=True)
class Report:
    """The progress of a worker that has not finished its shard."""

    progress: Progress


Outcome: TypeAlias = "Progress | LLMError | None"
"""How a job ended. None: another run works on its shard."""


async def answer_job(
    manager: LLMManager, settings: Settings, job: Job, report: Callable[[Report], None]
) -> Outcome:
    """Answer what is left of the shard of `job`, and report the progress now and then."""
    reported = 0.0

    def on_progress(progress: Progress) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= settings.report_every:
            reported = now
            report(Report(progress))

    clock = manager.dispatcher.clock
    give_up_at = clock.now() + job.lock_wait
    try:
        while True:
            progress = await complete_shard(
                manager,
                settings.plan,
                job.shard,
                max_concurrency=settings.max_concurrency,
                patience=settings.patience,
                budget=job.budget(),
                on_progress=on_progress,
            )
            if progress is not None or clock.now() >= give_up_at:
                return progress
            await clock.asleep(_LOCK_CHECK)
    except LLMError as error:
        return error
