"""``agentkit batch``: a file of requests becomes a file of answers, with a bar on stderr."""

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
from rich.progress import Progress as Bar

from agentkit.cli.output import fail, one_line
from agentkit.cli.session import BaseUrl, Models, manager_of
from agentkit.errors import LLMError

if TYPE_CHECKING:
    from agentkit.manager.batch_file import Progress

_ATTEMPTS = 6
_LONGEST_WAIT = 60.0
"""A batch has time: more attempts for each model, and a Retry-After of a minute is respected."""


def command(
    source: Annotated[Path, typer.Argument(metavar="IN.JSONL", help="Requests, one a line.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.JSONL", help="Answers are added here.")],
    model: Models = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Most requests under way at once.")] = 8,
    base_url: BaseUrl = None,
) -> None:
    """Answer a file of requests; run it again to go on where it stopped.

    Each line of IN.JSONL is an object with a prompt or messages, an optional id, and the model's
    own parameters. Answered items are never asked again, failed ones are. Exit code 1: some
    failed, or the run could not begin.
    """
    from agentkit.manager.batch_file import complete_file
    from agentkit.policy.retry import RetryPolicy

    retry = RetryPolicy(max_attempts=_ATTEMPTS, max_retry_after=_LONGEST_WAIT)
    try:
        with manager_of(model, base_url, retry=retry) as manager, _bar() as show:
            done = asyncio.run(
                complete_file(
                    manager, source, target, max_concurrency=concurrency, on_progress=show
                )
            )
    except LLMError as error:
        fail(one_line(error))
    except KeyboardInterrupt:
        print("agentkit: interrupted; the same command goes on from here", file=sys.stderr)
        raise
    print(
        f"{done.total} items: {done.answered} answered, {done.kept} answered before, "
        f"{done.failed} failed",
        file=sys.stderr,
    )
    if done.failed:
        fail(f"{done.failed} items failed; see their error in {target}; run it again to retry")


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    """A bar where stderr is a terminal; elsewhere nothing until the end."""
    out = Console(stderr=True, highlight=False, emoji=False)
    columns = (
        BarColumn(), MofNCompleteColumn(), TextColumn("[red]{task.fields[trouble]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(*columns, console=out, disable=not out.is_terminal) as bar:
        task = bar.add_task("batch", total=None, trouble="")

        def show(progress: Progress) -> None:
            counts = (("failed", progress.failed), ("waiting for a model", progress.held))
            trouble = ", ".join(f"{count} {what}" for what, count in counts if count)
            bar.update(task, total=progress.total, completed=progress.finished, trouble=trouble)

        yield show
