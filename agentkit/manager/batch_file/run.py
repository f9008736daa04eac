"""One run over a file, with its progress and its waits during an outage."""

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
"""Seconds for which a request is held while models are unavailable."""
_HOLD = (0.1, 5.0)
"""Shortest and longest wait before the next try: a model may recover early."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run, in requests.

    `total` is the number in the input, `kept` those that an earlier run answered, `answered` and
    `failed` those of this run, and `held` those that wait for unavailable models.
    """

    total: int = 0
    kept: int = 0
    answered: int = 0
    failed: int = 0
    held: int = 0

    @property
    def finished(self) -> int:
        """The number of requests that are finished."""
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

    A line of `source` is a JSON object with a ``prompt`` (string) or ``messages`` (objects with
    role and content). Optional fields are a unique ``id`` (string or integer), ``model``,
    ``tools`` and ``deadline`` as in `LLMManager.complete`, and parameters of the model. Blank lines
    are skipped. A line of `target` contains ``index`` (of the line, from 0), ``id``, ``digest`` (of
    the input line) and either the answer (``text``, ``model``, ``provider``, ``finish_reason``,
    ``usage``, ``tool_calls``) or an ``error`` (``type``, ``message``, ``hint``). An invalid line
    gets such an error, too.

    An outage does not use up the file: a request that fails with a `retry_after` (an open breaker,
    a rate limit) is held and sent again, for at most `patience` seconds after its start and after
    the last answer of the run.

    If `target` exists, the run continues it: answered requests are skipped, failed ones are sent
    again (their lines are removed), and an incomplete last line is removed. The file is locked
    during the run.

    Args:
        manager: the manager to use.
        source: the requests.
        target: the results; created if it does not exist.
        max_concurrency: the maximum number of requests in flight (default 8).
        patience: seconds to wait for unavailable models (default 300; 0 to fail immediately).
        on_progress: called at the start and whenever its `Progress` has changed.

    Raises:
        ConfigurationError: `source` cannot be read, or `target` is not an output of a batch,
            belongs to other requests or is in use. No request was sent.
    """
    whole_number("max_concurrency", max_concurrency)
    number("patience", patience)
    source, target = Path(source), Path(target)
    if not source.is_file():
        raise ConfigurationError(f"{source} is not a file", hint="check the path")
    if target.exists() and source.samefile(target):
        raise ConfigurationError("input and output are the same file", hint="name another output")
    with opened(target) as (file, answered):
        kept, total = _compare(source, answered, target)
        todo = (line for line in lines(source) if line.key not in answered or line.problem)
        run = _Run(manager, patience, Progress(total, kept), on_progress)
        run.report()

        def keep(line: Line, result: dict[str, Any]) -> None:
            append(file, line, result)
            run.count("failed" if "error" in result else "answered")

        try:
            await arun_bounded(run.result, todo, keep, max_concurrency=max_concurrency)
        except OSError as error:
            raise ConfigurationError(
                f"{target}: {error}", hint="free some space, then run it again"
            ) from None
    return run.progress


def _compare(source: Path, answered: Mapping[Key, str], target: Path) -> tuple[int, int]:
    """The number of requests already answered, and the total.

    Raises:
        ConfigurationError: `target` belongs to other requests.
    """
    kept = total = 0
    for line in lines(source):
        total += 1
        known = answered.get(line.key)
        if known is None or line.problem:
            continue
        if known != line.digest:
            raise ConfigurationError(
                f"{target} answers other requests: line {line.number + 1} of {source} has changed",
                hint="name another output, or restore the line",
            )
        kept += 1
    return kept, total


class _Run:
    """Sends requests, counts results, and waits during an outage."""

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

    def report(self) -> None:
        """Report the progress."""
        if self._on_progress is not None:
            self._on_progress(self.progress)

    def count(self, what: str, by: int = 1) -> None:
        """Add to one of the counts."""
        self.progress = replace(self.progress, **{what: getattr(self.progress, what) + by})
        self.report()

    async def result(self, line: Line) -> dict[str, Any]:
        """The fields of the output for `line`."""
        began = time.monotonic()
        while True:
            try:
                prompt, options = arguments(line)
                answer = answer_of(await self._manager.acomplete(prompt, **options))
            except Exception as error:  # noqa: BLE001 - every error of a line is its result
                until = min(began, self._last_answer) + self._patience
                if not await self._waited(error, until):
                    return error_of(error)
            else:
                self._last_answer = time.monotonic()
                return answer

    async def _waited(self, error: Exception, until: float) -> bool:
        """Wait for the `retry_after` of `error`, if it has one that ends before `until`."""
        if not isinstance(error, LLMError) or not error.retryable or error.retry_after is None:
            return False
        least, most = _HOLD
        seconds = min(max(error.retry_after, least), most)
        if time.monotonic() + seconds > until:
            return False
        self.count("held")
        try:
            await asyncio.sleep(seconds)
        finally:
            self.count("held", -1)
        return True
