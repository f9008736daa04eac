"""The requests of a batch: what an error means for one item, and when the run waits or stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from agentkit.errors import (
    AllModelsFailedError,
    AuthenticationError,
    BudgetExceededError,
    CircuitOpenError,
    DeadlineExceededError,
    LLMError,
    PoolExhaustedError,
)
from agentkit.manager.batch_input import Line
from agentkit.manager.batch_output import Spent, spent_on
from agentkit.policy.budget import Budget
from agentkit.types import Response

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager

PATIENCE: Final = 43_200.0
"""Seconds without any answer after which a run gives up: 12 hours, so that it survives a night."""

_MIN_WAIT, _MAX_WAIT = 0.1, 5.0
"""Shortest and longest wait for a model that says when to retry: it may recover early."""
_FIRST_BACKOFF, _MAX_BACKOFF = 1.0, 60.0
"""Waits for a model that does not say it; they double."""
_OWN_FAILURES: Final = 3
"""Failures of an item, while the models answer others, after which the item is at fault."""
_FORBIDDEN: Final = 403
"""A status that may be about the content of one request, although it is about access."""


@dataclass(frozen=True, slots=True)
class Outage:
    """Why a run waits, and until when, in local time."""

    reason: str
    retry_at: datetime
    """The next try."""
    give_up_at: datetime
    """When the run ends if no item is answered until then."""

    def __str__(self) -> str:
        return (
            f"{self.reason}; next try {_clock_time(self.retry_at)}, "
            f"giving up {_clock_time(self.give_up_at)}"
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run, in items.

    `total` is the number of items in the input, `kept` of those that an earlier run answered,
    `answered` and `failed` of those that this run finished, and `held` of those that wait because
    the models are unavailable at the moment. Only these counts are compared by ``==``.

    `outage` says why items wait; it is None if none waits. `tokens` and `cost` (US dollars) are the
    totals of the output so far, including earlier runs and failed attempts; `cost` is None if a
    price is unknown.
    """

    total: int = 0
    kept: int = 0
    answered: int = 0
    failed: int = 0
    held: int = 0
    outage: Outage | None = field(default=None, compare=False)
    tokens: int = field(default=0, compare=False)
    cost: float | None = field(default=0.0, compare=False)

    @property
    def finished(self) -> int:
        """The number of items that need nothing more in this run."""
        return self.kept + self.answered + self.failed


class Run:
    """Completes items, counts them, and waits for unavailable models.

    An item that fails is sent again if others may fail, too. Three questions decide. Does the error
    say when to retry? Then the model is unavailable, and the item waits until then. If not: do the
    models answer other items? Then the item itself is at fault after three failures, else they are
    down, and it waits. Is a budget spent, or are the keys refused? Then the run stops.
    """

    def __init__(
        self,
        manager: LLMManager,
        progress: Progress,
        *,
        spent: Spent,
        max_concurrency: int,
        patience: float,
        budget: Budget | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._manager = manager
        self._clock = manager.dispatcher.clock
        self._patience = patience
        self._options: dict[str, Any] = {} if budget is None else {"budget": budget}
        self._on_progress = on_progress
        self._sending = asyncio.Semaphore(max_concurrency)
        self._spent = spent
        self.progress = replace(progress, tokens=spent.tokens, cost=spent.usd)
        self._last_response = self._clock.now()
        self._failing: set[int] = set()
        """The lines that failed since the last response."""
        self._in_play = 0
        self._news = asyncio.Event()
        """Set when an item ended or failed."""
        self._under_way = 0
        """Requests that may still return a part of the budget."""
        self._returned = asyncio.Event()
        """Set when one of them ends."""
        if budget is not None:
            budget.add(spent.tokens, spent.usd or 0.0)

    def report(self) -> None:
        """Report the progress."""
        if self._on_progress is not None:
            self._on_progress(self.progress)

    def finish(self, result: dict[str, Any], spent: Spent) -> None:
        """Count the item that ended with `result`."""
        self._spent += spent
        what = "failed" if "error" in result else "answered"
        self.progress = replace(
            self.progress,
            **{what: getattr(self.progress, what) + 1},
            tokens=self._spent.tokens,
            cost=self._spent.usd,
        )
        self.report()

    async def complete(self, line: Line) -> tuple[dict[str, Any], Spent]:
        """Complete the item of `line`. Returns what the output says about it, and what it took.

        Raises:
            LLMError: the run has to stop.
        """
        self._in_play += 1
        try:
            return await self._complete(line)
        finally:
            self._in_play -= 1
            self._announce()

    async def _complete(self, line: Line) -> tuple[dict[str, Any], Spent]:
        spent, failures, backoff = Spent(), 0, _FIRST_BACKOFF
        while True:
            async with self._sending:
                sent_at = self._clock.now()
                result = await self._send(line)
            if isinstance(result, Response):
                return _result_of(result), spent + spent_on(result.ledger)
            if not isinstance(result, LLMError):
                return _result_of_error(result), spent
            spent += spent_on(result.ledger)
            if _is_about(result, BudgetExceededError):
                await self._wait_for_budget(result)
                continue
            if self._is_refused(result, line):
                raise result
            if not result.retryable or not self._patience or _ran_out_of_own_time(result, line):
                return _result_of_error(result), spent
            if not _says_when(result):
                # Down are the models if another item failed, too, and none was answered meanwhile.
                self._failing.add(line.number)
                self._announce()
                failures += len(self._failing) == 1 or self._last_response > sent_at
                if failures >= _OWN_FAILURES:
                    return _result_of_error(result), spent
            await self._wait(line, result, backoff)
            backoff = min(2 * backoff, _MAX_BACKOFF)

    async def _send(self, line: Line) -> Response[Any] | Exception:
        self._under_way += 1
        refused = False
        try:
            prompt, options = line.arguments()
            response = await self._manager.acomplete(prompt, **options, **self._options)
        except Exception as error:  # noqa: BLE001 - an error of an item is its result
            refused = isinstance(error, LLMError) and _is_about(error, BudgetExceededError)
            return error
        else:
            self._last_response = self._clock.now()
            self._failing.clear()
            if self.progress.outage is not None:
                self.progress = replace(self.progress, outage=None)
            return response
        finally:
            self._under_way -= 1
            if not refused:
                self._returned.set()
                self._returned = asyncio.Event()

    async def _wait(self, line: Line, error: LLMError, backoff: float) -> None:
        """Wait until the models may answer again. Raises `error` if that is too late."""
        now = self._clock.now()
        left = self._last_response + self._patience - now
        at = error.retry_after if error.retry_after is not None else backoff
        seconds = min(max(at, _MIN_WAIT), max(_MAX_WAIT, backoff))
        if left <= 0:
            error.hint = "no item was answered for the time of patience=; run it again to continue"
            raise error
        today = datetime.now().astimezone()
        outage = Outage(
            reason=_reason_of(error),
            retry_at=today + timedelta(seconds=max(at, _MIN_WAIT)),
            give_up_at=today + timedelta(seconds=left),
        )
        self._hold(1, outage)
        try:
            await self._clock.asleep(min(seconds, left))
            # The only one that failed lets another item try: with an open breaker, each probe would
            # otherwise be this one, which proves nothing about the others.
            while self._failing == {line.number} and self._in_play > 1:
                await self._news.wait()
        finally:
            self._hold(-1, self.progress.outage)

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _hold(self, by: int, outage: Outage | None) -> None:
        held = self.progress.held + by
        self.progress = replace(self.progress, held=held, outage=outage if held else None)
        self.report()

    async def _wait_for_budget(self, error: LLMError) -> None:
        """Wait for another request, which may return a part of what it reserved.

        Raises `error` if there is none: what is left is too little for this item.
        """
        if not self._under_way:
            error.hint = "raise the budget, and run it again to continue"
            raise error
        await self._returned.wait()

    def _is_refused(self, error: LLMError, line: Line) -> bool:
        """Whether no line can be sent, as the keys are wrong or unpaid."""
        own_model = line.item is not None and "model" in line.item
        return not own_model and all(
            isinstance(cause, AuthenticationError) and cause.status != _FORBIDDEN
            for cause in _causes(error)
        )


def _causes(error: LLMError) -> tuple[Exception, ...]:
    return error.exceptions if isinstance(error, AllModelsFailedError) else (error,)


def _is_about(error: LLMError, kind: type[LLMError]) -> bool:
    """Whether `kind` is why no model was asked: a cause is one, and no other can be retried."""
    causes = _causes(error)
    return any(isinstance(cause, kind) for cause in causes) and not error.retryable


def _ran_out_of_own_time(error: LLMError, line: Line) -> bool:
    return isinstance(error, DeadlineExceededError) and "deadline" in (line.item or ())


def _says_when(error: LLMError) -> bool:
    """Whether a model is known to be unavailable, whatever the item is."""
    return error.retry_after is not None or any(
        isinstance(cause, CircuitOpenError | PoolExhaustedError) for cause in _causes(error)
    )


def _reason_of(error: LLMError) -> str:
    causes = [getattr(cause, "message", str(cause)) for cause in _causes(error)]
    return "; ".join(dict.fromkeys(cause.partition("\n")[0] for cause in causes))


def _clock_time(moment: datetime) -> str:
    """`moment` for people: the day only if it is not today's."""
    today = datetime.now().astimezone().date() == moment.date()
    return f"at {moment:%H:%M:%S}" if today else f"at {moment:%Y-%m-%d %H:%M:%S}"


def _result_of(response: Response[Any]) -> dict[str, Any]:
    return {
        "text": response.text,
        "model": response.model,
        "provider": response.provider,
        "finish_reason": response.finish_reason,
        "usage": asdict(response.usage),
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": dict(call.arguments)}
            for call in response.tool_calls
        ],
    }


def _result_of_error(error: Exception) -> dict[str, Any]:
    message = error.message if isinstance(error, LLMError) else str(error)
    hint = error.hint if isinstance(error, LLMError) else None
    return {"error": {"type": type(error).__name__, "message": message, "hint": hint}}
