"""User code around a request or around each attempt, written once for both colours.

A middleware is a generator function,
``def mw(request): response = yield request; return response``, or an object of a class derived
from `Middleware`. It may change the request it yields and the response it returns, return without
yielding (nothing is sent), catch what the inside raises, or yield again to ask again. What it
raises itself is never the model's fault: around an attempt, an `LLMError` of its own passes the
model over; anything else ends the request as it is.

A stream passes the same middleware; what comes back is its `.response`, after the text. Around an
attempt of a stream a middleware cannot answer itself nor ask again, since text may be shown
already; that is a `ConfigurationError`.
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

    `level` says whether it surrounds the whole ``"request"`` (default) or each ``"attempt"``. One
    of level ``"policy"`` surrounds nothing: the manager reads from it how the engine works.
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


def through(
    middleware: Sequence[MiddlewareFn], request: Request, proceed: Proceed
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


class Around:
    """The layers of one streamed attempt: entered before it opens, left with what became of it."""

    def __init__(self, middleware: Sequence[MiddlewareFn]) -> None:
        self._middleware = middleware
        self._layers: list[tuple[MiddlewareFn, Layer]] = []

    def enter(self, request: Request) -> Request:
        """The request as the layers want it sent. What they raise is theirs."""
        for middleware in self._middleware:
            layer = middleware(request)
            try:
                request = next(layer)
            except StopIteration:
                raise _cannot(middleware, "answer a stream itself") from None
            self._layers.append((middleware, layer))
        return request

    def succeed(self, response: Response[Any]) -> Response[Any]:
        """The finished response as the layers want it told. What they raise is theirs."""
        while self._layers:
            middleware, layer = self._layers.pop()
            try:
                layer.send(response)
            except StopIteration as stop:
                response = _checked(middleware, stop.value)
            else:
                layer.close()
                raise _cannot(middleware, "ask a stream again")
        return response

    def fail(self, error: Exception) -> Exception:
        """What the layers make of `error`: the same, or one of their own."""
        while self._layers:
            middleware, layer = self._layers.pop()
            try:
                layer.throw(error)
            except StopIteration:
                error = _cannot(middleware, "answer a stream itself")
            except Exception as raised:
                error = raised
            else:
                layer.close()
                error = _cannot(middleware, "ask a stream again")
        return error

    def close(self) -> None:
        """Leave without an outcome."""
        while self._layers:
            self._layers.pop()[1].close()


def _cannot(middleware: MiddlewareFn, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"middleware {_name(middleware)} cannot {what} around an attempt",
        hint="give it level = 'request'",
    )


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
