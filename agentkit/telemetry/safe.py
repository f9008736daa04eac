"""Guards: a failure in telemetry never changes the outcome of a call."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from threading import get_ident
from typing import Any, Final, ParamSpec, TypeVar

from agentkit.telemetry.outbox import OUTBOX

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
A = TypeVar("A")

log: Final = logging.getLogger("agentkit.telemetry")


class FailureLog:
    """Logs the first failure of one function, at WARNING, with the class of the exception only.

    The message of an exception may quote what was to be recorded.
    """

    __slots__ = ("_logged", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._logged = False

    def note(self, error: Exception) -> None:
        """The function raised `error`."""
        if self._logged:
            return
        self._logged = True
        log.warning(
            "%s failed with %s; the call continues, and later failures are not logged",
            self._name,
            type(error).__name__,
        )


def guarded(fallback: R) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that it returns `fallback` instead of raising an `Exception`.

    The first failure of each function is logged (see `FailureLog`). Other `BaseException`s
    propagate.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        failures = FailureLog(function.__qualname__)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - exporters and redactors are user code
                failures.note(error)
                return fallback

        return call

    return decorate


def entering(function: Callable[[S, A], None]) -> Callable[[S, A], None]:
    """Decorate a method that enters an SDK: it is guarded, and waits if it must not enter now.

    It takes one argument: to pass on any number of them would take as long as the guard itself.
    """
    failures = FailureLog(function.__qualname__)
    closed, waiting = OUTBOX.closed, OUTBOX.waiting

    later = guarded(None)(function)

    @functools.wraps(function)
    def call(self: S, argument: A, /) -> None:
        thread = get_ident()
        if thread in closed or thread == OUTBOX.collecting:
            # Not `call`: the outbox is closed while it is emptied, so that would wait again.
            waiting.append(functools.partial(later, self, argument))
            return
        try:
            closed.add(thread)
            function(self, argument)
        except Exception as error:  # noqa: BLE001 - as above
            failures.note(error)
        finally:
            closed.discard(thread)
        if waiting:
            OUTBOX.empty()

    return call


def recorded(function: Callable[P, None]) -> Callable[P, None]:
    """Like `entering`, for a function with any parameters."""

    @functools.wraps(function)
    def run(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        function(*args, **kwargs)

    enter = entering(run)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        enter(args, kwargs)

    return call
