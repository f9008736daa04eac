"""One span for each call: other instrumentations of an SDK are off while agentkit records its call.

Some instrumentations, such as OpenInference's, obey only the key that turns off all of them,
including those of HTTP clients. So the key is set while an SDK is called, and the SDK's HTTP client
removes it before it sends: HTTP requests keep their spans, inside agentkit's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from functools import cache
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context

RECORDED: Final = "suppress_language_model_instrumentation"
"""Set in an OpenTelemetry context in which agentkit already records the call to a model.

The name is OpenLLMetry's, whose instrumentations read it.
"""

_NOTHING: Final = nullcontext()
_outer: ContextVar[Context | None] = ContextVar("agentkit_outer_context", default=None)
"""The context around the call of an SDK, in which its HTTP requests are instrumented."""


def without_sdk_spans() -> AbstractContextManager[None]:
    """A context around one call of an SDK, in which no other instrumentation records the call.

    The client of the SDK must call `resume_instrumentation` before it sends. Enter and leave it in
    the same step, never across a yield.
    """
    if not otel_context.get_value(RECORDED):
        return _NOTHING
    suppress = _suppress_instrumentation()
    return _NOTHING if suppress is None else _WithoutSdkSpans(suppress())


def resume_instrumentation(*_: Any, **__: Any) -> None:
    """A hook that runs before an HTTP request is sent: requests get their spans as usual."""
    outer = _outer.get()
    if outer is not None:
        otel_context.attach(outer)  # undone where `without_sdk_spans` ends


async def aresume_instrumentation(*_: Any) -> None:
    """Like `resume_instrumentation`, as a hook of an async client."""
    resume_instrumentation()


class _WithoutSdkSpans:
    __slots__ = ("_suppressed", "_token")

    def __init__(self, suppressed: AbstractContextManager[None]) -> None:
        self._suppressed = suppressed

    def __enter__(self) -> None:
        self._token: Token[Context | None] = _outer.set(otel_context.get_current())
        self._suppressed.__enter__()

    def __exit__(self, *_: object) -> None:
        self._suppressed.__exit__(None, None, None)
        _outer.reset(self._token)


@cache
def _suppress_instrumentation() -> Callable[[], AbstractContextManager[None]] | None:
    """None if the package on which instrumentations build is not installed."""
    try:
        from opentelemetry.instrumentation.utils import (
            suppress_instrumentation,
        )
    except ImportError:
        return None
    made: Callable[[], AbstractContextManager[None]] = suppress_instrumentation
    return made
