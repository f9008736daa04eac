"""``agentkit batch``: a file of requests becomes a file of answers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from agentkit.cli.output import count, fail, one_line
from agentkit.cli.session import BaseUrl, Models, manager_of
from agentkit.errors import LLMError

if TYPE_CHECKING:
    from agentkit.manager.batch_file import Progress

_ATTEMPTS = 6
_MAX_RETRY_AFTER = 60.0
"""A batch is not in a hurry: more attempts, and it waits for a Retry-After of up to a minute."""


def command(
    source: Annotated[
        Path, typer.Argument(metavar="IN.JSONL", help="The requests, one on each line.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT.JSONL", help="The answers are appended here.")
    ],
    model: Models = None,
    concurrency: Annotated[int, typer.Option(min=1, help="The most concurrent requests.")] = 8,
    base_url: BaseUrl = None,
) -> None:
    """Answer a file of requests; run it again to continue an interrupted run.

    Each line of IN.JSONL is an object with a prompt or messages, an optional id, and parameters of
    the model. A second run skips answered items and retries failed ones. Exit code 1: an item
    failed, or the run could not start.
    """
    from agentkit.manager.batch_file import complete_file
    from agentkit.policy.retry import RetryPolicy

    retry = RetryPolicy(max_attempts=_ATTEMPTS, max_retry_after=_MAX_RETRY_AFTER)
    try:
        with manager_of(model, base_url, retry=retry) as manager, _progress_bar() as on_progress:
            done = asyncio.run(
                complete_file(
                    manager, source, target, max_concurrency=concurrency, on_progress=on_progress
                )
            )
    except LLMError as error:
        fail(one_line(error))
    except KeyboardInterrupt:
        print("agentkit: interrupted; run the same command again to continue", file=sys.stderr)
        raise
    total = count(done.total, "item", "items")
    parts = f"{done.answered} answered, {done.kept} answered before, {done.failed} failed"
    print(f"{total}: {parts}", file=sys.stderr)
    if done.failed:
        failed = count(done.failed, "item", "items")
        fail(f"{failed} failed; see the errors in {target}, and run it again to retry")


@contextmanager
def _progress_bar() -> Iterator[Callable[[Progress], None]]:
    """A progress bar if stderr is a terminal, else nothing."""
    out = Console(stderr=True, highlight=False, emoji=False)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[remark]}"),
        TimeRemainingColumn(),
    )
    with ProgressBar(*columns, console=out, disable=not out.is_terminal) as bar:
        task = bar.add_task("batch", total=None, remark="")

        def update(progress: Progress) -> None:
            counts = (("failed", progress.failed), ("waiting for a model", progress.held))
            remark = ", ".join(f"{number} {what}" for what, number in counts if number)
            bar.update(task, total=progress.total, completed=progress.finished, remark=remark)

        yield update
