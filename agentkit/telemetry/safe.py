"""Guards: a failure in telemetry never changes the outcome of a call."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from threading import get_ident
from typing import Final, ParamSpec, TypeVar

from agentkit.telemetry.outbox import OUTBOX

P = ParamSpec("P")
R = TypeVar("R")

log: Final = logging.getLogger("agentkit.telemetry")


def guarded(fallback: R) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that it returns `fallback` instead of raising an `Exception`.

    The first failure of each function is logged at WARNING, with the class of the exception only:
    its message may quote what was to be recorded. Other `BaseException`s propagate.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        logged = False

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal logged
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - exporters and redactors are user code
                if not logged:
                    logged = True
                    log.warning(
                        "%s failed with %s; the call continues, and later failures are not logged",
                        function.__qualname__,
                        type(error).__name__,
                    )
                return fallback

        return call

    return decorate


def recorded(function: Callable[P, None]) -> Callable[P, None]:
    """Decorate a function that enters an SDK: it is guarded, and waits if it must not enter now."""
    record = guarded(None)(function)
    closed, waiting = OUTBOX.closed, OUTBOX.waiting

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        thread = get_ident()
        if thread in closed or thread == OUTBOX.collecting:
            waiting.append(functools.partial(record, *args, **kwargs))
            return
        try:
            closed.add(thread)
            record(*args, **kwargs)
        finally:
            closed.discard(thread)
        if waiting:
            OUTBOX.empty()

    return call
