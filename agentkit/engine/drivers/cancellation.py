"""Cancellation of tasks: from outside, or by the model that runs in one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

_Owned: TypeAlias = tuple["asyncio.Task[Any] | None", Callable[[], bool]]

_owned: ContextVar[_Owned | None] = ContextVar("agentkit_owned_task", default=None)
"""The task of this context that agentkit has started, and whether it has asked for its end."""


def own_task(is_cancelled: Callable[[], bool]) -> None:
    """Declare the running task as one of agentkit, which no other code holds.

    Unless `is_cancelled()` is true, a cancellation comes from what runs in it, such as a cancel
    scope of the model that is left in the wrong task.
    """
    _owned.set((asyncio.current_task(), is_cancelled))


def is_being_cancelled() -> bool:
    """Whether the running task is being cancelled; if not, `CancelledError` is its own error.

    The cancellation of an owned task by what runs in it is undone.
    """
    task = asyncio.current_task()
    if task is None:
        return True
    owned = _owned.get()
    if owned is not None and owned[0] is task and not owned[1]():
        while task.cancelling():
            task.uncancel()
        return False
    return task.cancelling() > 0
