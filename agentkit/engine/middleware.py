"""User code around a request or around each attempt, written once for sync and async.

A middleware is a generator function,
``def mw(request): response = yield request; return response``, or an instance of a subclass of
`Middleware`. It may change the request that it yields and the response that it returns, return
without yielding (nothing is sent), catch exceptions at the ``yield``, or yield again to send again.
An exception of its own never counts against the model: around an attempt, an `LLMError` moves the
request to the next model; any other exception ends the request unchanged.

Streams use the same middleware, which receives the complete response after the text. There is one
difference: text that has been shown cannot be taken back. Up to the first content a middleware may
replace a stream or send it again; later this is a `ConfigurationError`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

from agentkit.engine.effects import Flow
from agentkit.errors import ConfigurationError
from agentkit.types import Request, Response

Layer: TypeAlias = Generator[Request, Response[Any], Response[Any]]
"""A running middleware, around one request or attempt."""

MiddlewareFn: TypeAlias = Callable[[Request], Layer]
"""A middleware. Its optional attribute `level` is ``"request"`` (default) or ``"attempt"``."""

Proceed: TypeAlias = Callable[[Request], Flow[Response[Any]]]


class Middleware:
    """A middleware as a class: override the methods you need.

    With `level` ``"request"`` (default) it surrounds the entire request, and with ``"attempt"``
    each attempt. A middleware of level ``"policy"`` only configures the manager.
    """

    level: ClassVar[Literal["request", "attempt", "policy"]] = "request"
    """The level: ``"request"`` (default), ``"attempt"`` or ``"policy"``."""

    def process_request(self, request: Request) -> Request:
        """Return the request to send in place of `request`."""
        return request

    def process_response(self, request: Request, response: Response[Any]) -> Response[Any]:
        """Return a response in place of `response`."""
        return response

    def process_error(self, request: Request, error: Exception) -> Response[Any]:
        """Return a response in place of `error`, or raise. By default, `error` is raised."""
        raise error

    def __call__(self, request: Request) -> Layer:
        """Run the three methods around one request or attempt."""
        request = self.process_request(request)
        try:
            response = yield request
        except Exception as error:
            return self.process_error(request, error)
        return self.process_response(request, response)


def run_middleware(
    middleware: Sequence[MiddlewareFn], request: Request, proceed: Proceed
) -> Flow[Response[Any]]:
    """Run `proceed` inside `middleware`, of which the first is outermost."""
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
    """The middleware of the request, and the middleware of each attempt, in order.

    Raises:
        ConfigurationError: one is not a generator function, or has an unknown `level`.
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
