"""Statistics of an agent's tasks: counters, and the last errors."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from agentkit._fork import fork_safe_lock

KEPT_FAILURES: Final = 100
"""How many of the last failures are kept."""
KEPT_TEXT: Final = 1000
"""How many characters of an exception's text are kept."""


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """One failed task.

    `timestamp` is in UTC, `task` the name of the callable, `exception_type` the name of the
    exception's class. `message` is the exception's own text, at most 1000 characters: agentkit
    adds no argument and no prompt to it, but the code that raised it may have.
    """

    timestamp: datetime
    task: str
    exception_type: str
    message: str


class Performance:
    """Counts ended tasks; safe to use from any thread. Nothing here raises.

    A task that was interrupted (cancelled, Ctrl-C, interpreter exit) counts in the totals but as
    neither a success nor a failure, so it does not change the success rate.
    """

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._failures: deque[TaskFailure] = deque(maxlen=KEPT_FAILURES)
        self._total = self._successful = self._failed = 0
        self._seconds = 0.0

    def record(self, task: str, seconds: float, error: BaseException | None) -> None:
        """Count one ended task; `error` is what it raised, or None."""
        failure = _failure(task, error) if isinstance(error, Exception) else None
        with self._lock:
            self._total += 1
            self._seconds += seconds
            if error is None:
                self._successful += 1
            elif failure is not None:
                self._failed += 1
                self._failures.append(failure)

    @property
    def failures(self) -> tuple[TaskFailure, ...]:
        """The last 100 failures, oldest first."""
        with self._lock:
            return tuple(self._failures)

    def metrics(self) -> dict[str, Any]:
        """The counters under the names that `Agent.get_performance_metrics` promises."""
        with self._lock:
            total, successful, failed = self._total, self._successful, self._failed
            seconds = self._seconds
        settled = successful + failed
        return {
            "total_tasks": total,
            "successful_tasks": successful,
            "failed_tasks": failed,
            "total_execution_time": seconds,
            "average_execution_time": seconds / total if total else 0.0,
            "success_rate": successful / settled if settled else 1.0,
            "error_count": failed,
        }


def _failure(task: str, error: Exception) -> TaskFailure:
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the exception it belongs to
        message = "<no text: str() of the exception failed>"
    return TaskFailure(datetime.now(UTC), task, type(error).__name__, message[:KEPT_TEXT])
