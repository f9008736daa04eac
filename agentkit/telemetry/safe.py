"""Nothing that telemetry does may change what a call does."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

log: Final = logging.getLogger("agentkit.telemetry")


def guarded(harmless: R) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that whatever it raises becomes the value `harmless`.

    The first fault of each function is logged at WARNING, with the class of the exception only:
    its message may quote what was to be recorded. `BaseException`s that are no `Exception` pass.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        told = False

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal told
            try:
                return function(*args, **kwargs)
            except Exception as fault:  # noqa: BLE001 - exporters, redactors and listeners of others
                if not told:
                    told = True
                    log.warning(
                        "%s failed with %s; the call goes on, later faults here stay silent",
                        function.__qualname__,
                        type(fault).__name__,
                    )
                return harmless

        return call

    return decorate
