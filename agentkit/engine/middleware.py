"""User code around a request or around each attempt, written once for sync and async.

A middleware is a generator function,
``def mw(request): response = yield request; return response``, or an object of a class derived
from `Middleware`. It may change the request it yields and the response it returns, return without
yielding (nothing is sent), catch what the inside raises, or yield again to send again. What it
raises itself never counts against the model: around an attempt, an `LLMError` of its own moves the
request to the next model; anything else ends the request as it is.

A stream passes the same middleware; what it receives is the `.response`, after the text. The one
difference: text that has been shown cannot be taken back. Answering in place of a broken stream or
sending it again is possible up to its first content, and a `ConfigurationError` after it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

from agentkit.engine.effects import Flow
from agentkit.errors import ConfigurationError
from agentkit.types import Request, Response

Layer: TypeAlias = Generator[Request, Response[Any], Response[Any]]
"""A middleware at work on one request or attempt."""

MiddlewareFn: TypeAlias = Callable[[Request], Layer]
"""Its optional attribute `level` is ``"request"`` (default) or ``"attempt"``."""

Proceed: TypeAlias = Callable[[Request], Flow[Response[Any]]]


class Middleware:
    """A middleware as a class: override the three methods you need.

    `level` says whether it surrounds the entire ``"request"`` (default) or each ``"attempt"``. A
    middleware of level ``"policy"`` surrounds nothing: the manager reads its policy from it.
    """

    level: ClassVar[Literal["request", "attempt", "policy"]] = "request"
    """What the middleware surrounds."""

    def process_request(self, request: Request) -> Request:
        """The request to send in place of `request`."""
        return request

    def process_response(self, request: Request, response: Response[Any]) -> Response[Any]:
        """The response to return in place of `response`."""
        return response

    def process_error(self, request: Request, error: Exception) -> Response[Any]:
        """A response instead of `error`; raises it by default."""
        raise error

    def __call__(self, request: Request) -> Layer:
        """One pass through the three."""
        request = self.process_request(request)
        try:
            response = yield request
        except Exception as error:
            return self.process_error(request, error)
        return self.process_response(request, response)


def run_middleware(
    middleware: Sequence[MiddlewareFn], request: Request, proceed: Proceed
) -> Flow[Response[Any]]:
    """Run `proceed` inside `middleware`, the first one outermost."""
    if not middleware:
        return (yield from proceed(request))
    outer, *inner = middleware
    layer = outer(request)
    try:
        to_send = next(layer)
        while True:
            try:
                response = yield from run_middleware(inner, to_send, proceed)
            except Exception as error:
                to_send = layer.throw(error)
            else:
                to_send = layer.send(response)
    except StopIteration as stop:
        return _checked(outer, stop.value)
    finally:
        layer.close()


def _checked(middleware: MiddlewareFn, response: Any) -> Response[Any]:
    if isinstance(response, Response):
        return response
    raise ConfigurationError(
        f"middleware {_name(middleware)} returned {type(response).__name__}",
        hint="end it with `return response`",
    )


def split(
    middleware: Sequence[Any],
) -> tuple[tuple[MiddlewareFn, ...], tuple[MiddlewareFn, ...]]:
    """The middleware of the request and those of each attempt, order kept.

    Raises:
        ConfigurationError: one is not a generator function, or its `level` is unknown.
    """
    levels: dict[str, list[MiddlewareFn]] = {"request": [], "attempt": [], "policy": []}
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
