"""Batches from file to file: a run that was interrupted continues where it stopped.

Input and output are JSON lines. Each result is written and synced to disk as soon as its item is
finished. A later run keeps the responses that are there and sends only the rest, so that at most
the calls that were under way when a run was killed are made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from agentkit.errors import ConfigurationError
from agentkit.manager.batch_input import Line, Span, file_error, read_lines
from agentkit.manager.batch_output import Output, Spent, open_output
from agentkit.manager.batch_run import PATIENCE, Progress, Run
from agentkit.manager.runner import arun_bounded
from agentkit.policy.budget import Budget
from agentkit.policy.target import Target
from agentkit.policy.validation import number, whole_number

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager

__all__ = ["Progress", "complete_file"]

OnProgress: TypeAlias = Callable[[Progress], None]


async def complete_file(
    manager: LLMManager,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    max_concurrency: int = 8,
    patience: float = PATIENCE,
    budget: Budget | None = None,
    on_progress: OnProgress | None = None,
) -> Progress:
    """Complete every line of `source`, and append each result to `target`.

    A line of `source` is an object with ``prompt`` (a string) or ``messages`` (objects with role
    and content), and optionally an ``id`` (a unique string or whole number), ``model``, ``tools``
    and ``deadline`` of `LLMManager.complete`, and the model's own parameters. Blank lines are
    ignored. A line of `target` has ``index`` (the line number, from 0), ``id``, ``digest`` (of the
    input line), either the response (``text``, ``model``, ``provider``, ``finish_reason``,
    ``usage``, ``tool_calls``) or an ``error`` (``type``, ``message``, ``hint``), and the total of
    all attempts at the item (``tokens``; ``cost`` in US dollars or null; ``cost_estimated``). A
    failed or invalid item does not stop the run.

    In an outage, items wait instead of failing: for an open breaker, for a rate limit, or while the
    models answer no other item either. `Progress.outage` says why and until when. An item fails if
    its request is invalid, or if it fails three times while the models answer others.

    If `target` exists, the run continues it: answered items are skipped, failed items are sent
    again and their old lines removed at the end, and an incomplete last line is cut off. `target`
    is locked during the run.

    Args:
        manager: sends the requests.
        source: the requests.
        target: the results; created if it does not exist.
        max_concurrency: the most requests at the same time (default 8).
        patience: seconds without any answer after which the run gives up (default 43,200, which is
            12 hours; 0: do not wait, so that items fail in an outage).
        budget: what all runs for `target` together may spend. Pass a new one to each run: at the
            start, the run adds what earlier runs spent, as recorded in `target`.
        on_progress: called at the start, and whenever the `Progress` has changed.

    Raises:
        ConfigurationError: `source` cannot be read, `target` has something other than results, has
            results of other requests, or is in use, or a model has no price for a budget in US
            dollars. Nothing was sent.
        BudgetExceededError: the budget, or that of `manager`, is too small for the next item.
        AuthenticationError: the keys are wrong or unpaid.
        LLMError: no item was answered for `patience` seconds. After these three errors, no item has
            failed because of them, and the same call continues the run.
    """
    source, target = Path(source), Path(target)
    if not source.is_file():
        raise ConfigurationError(f"{source} is not a file", hint="check the path")
    if target.exists() and source.samefile(target):
        raise ConfigurationError(
            f"{source} is both the input and the output", hint="name another output"
        )
    try:
        return await complete_part(
            manager,
            source,
            target,
            max_concurrency=max_concurrency,
            patience=patience,
            budget=budget,
            on_progress=on_progress,
        )
    except BlockingIOError:
        raise ConfigurationError(
            f"{target} is being written by another run", hint="wait for it, or name another output"
        ) from None


async def complete_part(
    manager: LLMManager,
    source: Path,
    target: Path,
    *,
    span: Span | None = None,
    finished: Path | None = None,
    max_concurrency: int,
    patience: float,
    budget: Budget | None,
    on_progress: OnProgress | None,
) -> Progress:
    """Like `complete_file`, for the lines of `span`; at the end, `target` becomes `finished`.

    If `finished` exists, it is continued as `target`.

    Raises:
        BlockingIOError: another run writes `target`.
    """
    whole_number("max_concurrency", max_concurrency)
    number("patience", patience)
    _require_prices(manager, budget)
    with open_output(target, finished) as output:
        if budget is not None and budget.usd is not None and output.spent.usd is None:
            raise ConfigurationError(
                f"{target} has results of unknown cost, so that a budget in US dollars cannot "
                "count them",
                hint="set a budget in tokens, or name another output",
            )
        kept, total = _count_items(source, span, output)
        answered = output.answered
        todo = (
            line
            for line in read_lines(source, span)
            if line.key not in answered or line.problem is not None
        )
        run = Run(
            manager,
            Progress(total, kept),
            spent=output.spent,
            max_concurrency=max_concurrency,
            patience=patience,
            budget=budget,
            on_progress=on_progress,
        )
        run.report()

        def finish(line: Line, result: tuple[dict[str, Any], Spent]) -> None:
            output.append(line, *result)
            run.finish(*result)

        try:
            # One more than may send: an item that waits leaves its place to another, whose answer
            # or failure shows whether the models are down.
            await arun_bounded(run.complete, todo, finish, max_concurrency=max_concurrency + 1)
            output.finish(finished)
        except OSError as error:
            raise file_error(target, error) from error
    return run.progress


def _require_prices(manager: LLMManager, budget: Budget | None) -> None:
    """Check that each model of the route has a price if the budget is in US dollars."""
    if budget is None or budget.usd is None:
        return
    for stop in manager.dispatcher.route().stops:
        if isinstance(stop, Target) and stop.price is None:
            raise ConfigurationError(
                f"a budget in US dollars cannot be kept: {stop.name} has no price",
                hint="add its price to `prices`, or set a budget in tokens; "
                "the command takes --price",
            )


def _count_items(source: Path, span: Span | None, output: Output) -> tuple[int, int]:
    """How many items are answered already, and how many there are.

    Raises:
        ConfigurationError: an answered line has changed.
    """
    kept = total = 0
    for line in read_lines(source, span):
        total += 1
        digest = output.answered.get(line.key)
        if digest is None or line.problem:
            continue
        if digest != line.digest:
            raise ConfigurationError(
                f"{output.target} has results of other requests: line {line.number + 1} of "
                f"{source} has changed since",
                hint="name another output, or restore the line",
            )
        kept += 1
    return kept, total
