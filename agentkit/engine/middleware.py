"""User code around a request or around each attempt, written once for both colours.

A middleware is a generator function,
``def mw(request): response = yield request; return response``. It may change the request it yields
and the response it returns, return without yielding (nothing is sent), catch what the inside
raises, or yield again to ask again. What it raises itself is never the model's fault: around an
attempt, an `LLMError` of its own passes the model over; anything else ends the request as it is.
A stream passes the middleware of the request; what that returns is the stream's `.response`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias

from agentkit.engine.effects import Flow
from agentkit.errors import ConfigurationError
from agentkit.types import Request, Response

Middleware: TypeAlias = Callable[[Request], Generator[Request, Response[Any], Response[Any]]]
"""Its optional attribute `level` is ``"request"`` (default) or ``"attempt"``."""

Proceed: TypeAlias = Callable[[Request], Flow[Response[Any]]]


def through(
    middleware: Sequence[Middleware], request: Request, proceed: Proceed
) -> Flow[Response[Any]]:
    """Run `proceed` inside `middleware`, the first one outermost."""
    if not middleware:
        return (yield from proceed(request))
    outer, *inner = middleware
    layer = outer(request)
    try:
        asked = next(layer)
        while True:
            try:
                response = yield from through(inner, asked, proceed)
            except Exception as error:
                asked = layer.throw(error)
            else:
                asked = layer.send(response)
    except StopIteration as stop:
        return _checked(outer, stop.value)
    finally:
        layer.close()


def _checked(middleware: Middleware, response: Any) -> Response[Any]:
    if isinstance(response, Response):
        return response
    raise ConfigurationError(
        f"middleware {_name(middleware)} returned {type(response).__name__}",
        hint="end it with `return response`",
    )


def split(middleware: Sequence[Any]) -> tuple[tuple[Middleware, ...], tuple[Middleware, ...]]:
    """The middleware of the request and those of each attempt, order kept.

    Raises:
        ConfigurationError: one is not a generator function, or its `level` is unknown.
    """
    levels: dict[str, list[Middleware]] = {"request": [], "attempt": []}
    for each in middleware:
        method = getattr(type(each), "__call__", None)  # noqa: B004 - the method is looked at
        if not inspect.isgeneratorfunction(each) and not inspect.isgeneratorfunction(method):
            raise ConfigurationError(
                f"middleware {_name(each)} is not a generator function",
                hint="write `def mw(request): response = yield request; return response`",
            )
        level = getattr(each, "level", "request")
        if level not in levels:
            raise ConfigurationError(
                f"middleware {_name(each)} has level {level!r}", hint="use 'request' or 'attempt'"
            )
        levels[level].append(each)
    return tuple(levels["request"]), tuple(levels["attempt"])


def _name(middleware: Any) -> str:
    return str(getattr(middleware, "__name__", type(middleware).__name__))
