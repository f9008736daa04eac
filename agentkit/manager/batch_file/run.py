"""One run over a file: who is asked, what counts, and how an outage is waited out."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.errors import ConfigurationError, LLMError
from agentkit.manager.batch_file.lines import Key, Line, arguments, lines
from agentkit.manager.batch_file.results import answer_of, append, error_of, opened
from agentkit.manager.runner import arun_bounded
from agentkit.policy.validation import number, whole_number

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager

PATIENCE = 300.0
"""Seconds for which an item is kept back for models that say when they can be asked again."""
_LOOK_AGAIN = (0.1, 5.0)
"""Least and most seconds between two looks: a model may be back before it said."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in items.

    `total` counts the input, `kept` what an earlier run had answered, `answered` and `failed`
    what this one did, `held` what waits for models that are out just now.
    """

    total: int = 0
    kept: int = 0
    answered: int = 0
    failed: int = 0
    held: int = 0

    @property
    def finished(self) -> int:
        """How many items need nothing more in this run."""
        return self.kept + self.answered + self.failed


async def complete_file(
    manager: LLMManager,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    max_concurrency: int = 8,
    patience: float = PATIENCE,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Complete every line of `source` and append each result to `target`; failures do not stop it.

    A line of `source` is an object with ``prompt`` (text) or ``messages`` (objects of role and
    content), an ``id`` (text or whole number, its own; optional), ``model``, ``tools`` and
    ``deadline`` of `LLMManager.complete`, and the model's own parameters. Blank lines are passed
    over. A line of `target` holds ``index`` (from 0, by line), ``id``, ``digest`` (of the input
    line) and either the answer (``text``, ``model``, ``provider``, ``finish_reason``, ``usage``,
    ``tool_calls``) or ``error`` (``type``, ``message``, ``hint``). What cannot be sent is such an
    error, too.

    An outage does not use up the file: an item that fails with a `retry_after` (an open breaker, a
    rate limit) is kept back and asked again, for at most `patience` seconds of its own and since
    the last answer of the run.

    A `target` that exists is continued: answered items are skipped, failed ones are asked again
    (their lines go), a torn last line is cut off. It is locked while the run lasts.

    Args:
        manager: asks.
        source: the requests.
        target: the results; made if it is not there.
        max_concurrency: most requests under way at once (default 8).
        patience: seconds to wait for models that are out (default 300; 0: their error counts).
        on_progress: called at the start and whenever its `Progress` has changed.

    Raises:
        ConfigurationError: `source` cannot be read, `target` is no file of such results, belongs
            to other requests or is in use. Nothing is sent then.
    """
    whole_number("max_concurrency", max_concurrency)
    number("patience", patience)
    source, target = Path(source), Path(target)
    if not source.is_file():
        raise ConfigurationError(f"{source} is no file", hint="check the path")
    if target.exists() and source.samefile(target):
        raise ConfigurationError("input and output are one file", hint="name another output")
    with opened(target) as (file, answered):
        kept, total = _compare(source, answered, target)
        todo = (line for line in lines(source) if line.key not in answered or line.problem)
        run = _Run(manager, patience, Progress(total, kept), on_progress)
        run.tell()

        def keep(line: Line, result: dict[str, Any]) -> None:
            append(file, line, result)
            run.count("failed" if "error" in result else "answered")

        try:
            await arun_bounded(run.result, todo, keep, max_concurrency=max_concurrency)
        except OSError as error:
            raise ConfigurationError(f"{target}: {error}", hint="make room, then go on") from None
    return run.progress


def _compare(source: Path, answered: Mapping[Key, str], target: Path) -> tuple[int, int]:
    """How many items are answered already, of how many. Raises `ConfigurationError`."""
    kept = total = 0
    for line in lines(source):
        total += 1
        known = answered.get(line.key)
        if known is None or line.problem:
            continue
        if known != line.digest:
            raise ConfigurationError(
                f"{target} answers other requests: line {line.number + 1} of {source} has changed",
                hint="name another output, or give the line as it was",
            )
        kept += 1
    return kept, total


class _Run:
    """Asks, counts, and waits out an outage."""

    def __init__(
        self,
        manager: LLMManager,
        patience: float,
        progress: Progress,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._manager = manager
        self._patience = patience
        self.progress = progress
        self._on_progress = on_progress
        self._last_answer = time.monotonic()

    def tell(self) -> None:
        """Say how far it is."""
        if self._on_progress is not None:
            self._on_progress(self.progress)

    def count(self, what: str, by: int = 1) -> None:
        """Add to one of the counts."""
        self.progress = replace(self.progress, **{what: getattr(self.progress, what) + by})
        self.tell()

    async def result(self, line: Line) -> dict[str, Any]:
        """What the output says of `line`."""
        began = time.monotonic()
        while True:
            try:
                prompt, options = arguments(line)
                answer = answer_of(await self._manager.acomplete(prompt, **options))
            except Exception as error:  # noqa: BLE001 - whatever a line brings about is its own error
                until = min(began, self._last_answer) + self._patience
                if not await self._waited(error, until):
                    return error_of(error)
            else:
                self._last_answer = time.monotonic()
                return answer

    async def _waited(self, error: Exception, until: float) -> bool:
        """Wait as long as `error` asks for, if it does and that is in time."""
        if not isinstance(error, LLMError) or not error.retryable or error.retry_after is None:
            return False
        least, most = _LOOK_AGAIN
        seconds = min(max(error.retry_after, least), most)
        if time.monotonic() + seconds > until:
            return False
        self.count("held")
        try:
            await asyncio.sleep(seconds)
        finally:
            self.count("held", -1)
        return True
