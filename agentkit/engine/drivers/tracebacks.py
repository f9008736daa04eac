"""Short tracebacks: the frames of the user's functions, without those of the engine.

``AGENTKIT_TRACEBACK=full`` keeps all frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType

from agentkit.errors import AllModelsFailedError, LLMError

VARIABLE = "AGENTKIT_TRACEBACK"

_OWN = frozenset({"agentkit", "asyncio", "concurrent"})
"""The last two are modules with which the engine waits for other threads and loops."""


def shorten(error: BaseException) -> None:
    """Remove agentkit's outer frames from the traceback of `error`, before it is raised again.

    This includes the exceptions that caused it. Frames below a function of someone else stay, and
    so does the innermost frame of an unexpected exception in agentkit itself.
    """
    if os.environ.get(VARIABLE) == "full":
        return
    for each in _with_causes(error):
        each.__traceback__ = _without_engine(each)
        if isinstance(each, AllModelsFailedError):
            each.__suppress_context__ = True  # the last model's error, which is in the group, too


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, and everything that a traceback prints with it, each once."""
    left, seen = [error], set[int]()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        left += [other for other in (each.__cause__, each.__context__) if other is not None]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions


def _without_engine(error: BaseException) -> TracebackType | None:
    innermost = traceback = error.__traceback__
    while traceback is not None and _is_own(traceback):
        innermost, traceback = traceback, traceback.tb_next
    return innermost if traceback is None and not isinstance(error, LLMError) else traceback


def _is_own(traceback: TracebackType) -> bool:
    name = traceback.tb_frame.f_globals.get("__name__", "")
    return isinstance(name, str) and name.partition(".")[0] in _OWN
