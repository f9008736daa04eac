"""``agentkit batch``: a file of requests becomes a file of answers."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from agentkit.cli.output import count, fail, note, one_line
from agentkit.cli.session import BaseUrl, Models, PriceOption, manager_of
from agentkit.errors import AuthenticationError, BudgetExceededError, LLMError

if TYPE_CHECKING:
    from agentkit.manager.batch_run import Progress
    from agentkit.manager.manager import LLMManager
    from agentkit.policy.budget import Budget

_ATTEMPTS = 6
_MAX_RETRY_AFTER = 60.0
"""A batch is not in a hurry: more attempts, and it waits for a Retry-After of up to a minute."""
_NEEDS_YOU = 3
"""Exit code of a run that stopped for a reason that time does not change."""
_PATIENCE = 43_200.0
_NOTE_EVERY = 60.0
"""Seconds between two lines about waiting."""


def command(
    source: Annotated[
        Path, typer.Argument(metavar="IN.JSONL", help="The requests, one on each line.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT.JSONL", help="The answers; with shards, a folder.")
    ],
    model: Models = None,
    concurrency: Annotated[
        int, typer.Option(min=1, help="The most concurrent requests of a process.")
    ] = 8,
    base_url: BaseUrl = None,
    price: PriceOption = None,
    patience: Annotated[
        float,
        typer.Option(min=0.0, metavar="SECONDS", help="Give up after this time without an answer."),
    ] = _PATIENCE,
    budget_usd: Annotated[
        float | None,
        typer.Option(metavar="USD", help="Stop when the output has cost this.", show_default=False),
    ] = None,
    budget_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS", help="Stop when the output has used these.", show_default=False
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(min=1, help="Split the input into about this many files.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Answer with this many processes.", show_default=False),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Answer with --workers actors on this Ray cluster; auto: find or start one.",
            show_default=False,
        ),
    ] = None,
    join: Annotated[
        bool, typer.Option("--join", help="Join the folder IN.JSONL of a run with shards.")
    ] = False,
) -> None:
    """Answer a file of requests; run it again to continue an interrupted run.

    Each line of IN.JSONL is an object with a prompt or messages, an optional
    id, and parameters of the model. A second run skips answered items and
    retries failed ones.

    With --shards, --workers or --ray, the answers go to files in a folder, and
    `agentkit batch --join FOLDER OUT.JSONL` makes one file of them.

    Exit code 1: an item failed, the models were down for longer than
    --patience, or the run could not start. Exit code 3: the budget is spent,
    or the keys are rejected.
    """
    make = functools.partial(batch_manager, model, base_url, price)
    try:
        if join:
            _join(source, target)
            return
        budget = _budget(budget_usd, budget_tokens)
        complete = _runner(make, ray=ray, shards=shards, workers=workers)
        with _shown_progress() as on_progress:
            done = complete(
                source,
                target,
                max_concurrency=concurrency,
                patience=patience,
                budget=budget,
                on_progress=on_progress,
            )
    except (BudgetExceededError, AuthenticationError) as error:
        fail(f"stopped: {one_line(error)}", code=_NEEDS_YOU)
    except LLMError as error:
        fail(one_line(error))
    except KeyboardInterrupt:
        print("agentkit: interrupted; run the same command again to continue", file=sys.stderr)
        raise
    _print_summary(done, target)


def _runner(
    make: Callable[[], LLMManager], *, ray: str | None, shards: int | None, workers: int | None
) -> Callable[..., Progress]:
    """The function that completes a file: here, with processes, or on Ray."""
    if ray is not None:
        from agentkit.integrations.ray import map_prompts

        return functools.partial(map_prompts, make, address=ray, shards=shards, workers=workers)
    if shards is not None or workers is not None:
        from agentkit.manager.batch_workers import complete_shards

        return functools.partial(complete_shards, make, shards=shards, workers=workers or 1)
    return functools.partial(_complete_here, make)


def _complete_here(
    make: Callable[[], LLMManager], source: Path, target: Path, **options: Any
) -> Progress:
    from agentkit.manager.batch_file import complete_file

    with make() as manager:
        return asyncio.run(complete_file(manager, source, target, **options))


def batch_manager(
    model: list[str] | None, base_url: str | None, price: str | None = None
) -> LLMManager:
    """The manager of a batch, which is in no hurry."""
    from agentkit.policy.retry import RetryPolicy

    retry = RetryPolicy(max_attempts=_ATTEMPTS, max_retry_after=_MAX_RETRY_AFTER)
    return manager_of(model, base_url, price=price, retry=retry)


def _budget(usd: float | None, tokens: int | None) -> Budget | None:
    if usd is None and tokens is None:
        return None
    from agentkit.policy.budget import Budget

    return Budget(usd=usd, tokens=tokens)


def _join(folder: Path, target: Path) -> None:
    from agentkit.manager.shards import join_shards

    number = join_shards(folder, target)
    print(f"{count(number, 'result', 'results')} in {target}", file=sys.stderr)


def _print_summary(done: Progress, target: Path) -> None:
    total = count(done.total, "item", "items")
    parts = f"{done.answered} answered, {done.kept} answered before, {done.failed} failed"
    cost = "" if not done.cost else f"; {done.cost:,.4f} USD"
    print(f"{total}: {parts}{cost}", file=sys.stderr)
    if left := done.total - done.finished:
        note(f"{count(left, 'item is', 'items are')} in the hands of another run")
    if done.failed:
        failed = count(done.failed, "item", "items")
        fail(f"{failed} failed; see the errors in {target}, and run it again to retry")


@contextmanager
def _shown_progress() -> Iterator[Callable[[Progress], None]]:
    """A progress bar if stderr is a terminal, and lines that say why the run waits."""
    out = Console(stderr=True, highlight=False, emoji=False)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TextColumn("[red]{task.fields[remark]}"),
        TimeRemainingColumn(),
    )
    began, waits = time.monotonic(), WaitNotes()
    with ProgressBar(*columns, console=out, disable=not out.is_terminal) as bar:
        task = bar.add_task("batch", total=None, figures="", remark="")

        def update(progress: Progress) -> None:
            counts = (("failed", progress.failed), ("waiting for a model", progress.held))
            remark = ", ".join(f"{number} {what}" for what, number in counts if number)
            rate = (progress.answered + progress.failed) / max(time.monotonic() - began, 0.1)
            cost = f", {progress.cost:,.2f} USD" if progress.cost else ""
            bar.update(
                task,
                total=progress.total,
                completed=progress.finished,
                figures=f"{rate:,.1f}/s{cost}",
                remark=remark,
            )
            waits.update(progress)

        yield update


class WaitNotes:
    """Says on stderr why a run waits, and when the models answer again."""

    def __init__(self) -> None:
        self._waiting = False
        self._noted = -_NOTE_EVERY
        self._answered = 0

    def update(self, progress: Progress) -> None:
        """Print a line if there is news."""
        now = time.monotonic()
        if progress.outage is not None and now - self._noted >= _NOTE_EVERY:
            note(f"waiting: {progress.outage}")
            self._waiting, self._noted = True, now
        elif self._waiting and progress.answered > self._answered:
            note("the models answer again")
            self._waiting = False
        self._answered = progress.answered
