"""A plain function as a provider.

The function is inspected once, when it is registered: whether it is async, whether it is a
generator (a stream of text), whether it takes two positional arguments, and whether the first one
is named ``messages`` (then it gets the list of messages instead of one text).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.types import Request


class FunctionProvider:
    """A provider with the one method that a plain function can serve as.

    ``def`` is `send`, ``async def`` is `asend`, a generator is `stream`, an async generator is
    `astream`. The function is called as ``fn(prompt, options)``.

    Raises:
        ConfigurationError: it cannot be called with two positional arguments.
    """

    end_mark = False
    send: Callable[[Request], Any] | None = None
    asend: Callable[[Request], Any] | None = None
    stream: Callable[[Request], Any] | None = None
    astream: Callable[[Request], Any] | None = None

    def __init__(self, fn: Callable[..., Any], name: str) -> None:
        _check_parameters(fn, name)
        prompt = _messages if _first_parameter(fn) == "messages" else _text

        def call(request: Request) -> Any:
            return fn(prompt(request), dict(request.params))

        setattr(self, _method_name(fn), call)


def _text(request: Request) -> Any:
    return request.text


def _messages(request: Request) -> Any:
    return list(request.conversation)


def _method_name(fn: Any) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    if not inspect.isroutine(fn):
        fn = getattr(fn, "__call__", fn)  # noqa: B004 - the method itself is inspected
    if inspect.isasyncgenfunction(fn):
        return "astream"
    if inspect.iscoroutinefunction(fn):
        return "asend"
    return "stream" if inspect.isgeneratorfunction(fn) else "send"


def _check_parameters(fn: Callable[..., Any], name: str) -> None:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some built-in callables have none
        return
    try:
        signature.bind("prompt", {})
    except TypeError as error:
        raise ConfigurationError(
            f"the inference function of {name!r} cannot be called as f(prompt, kwargs): {error}",
            hint="its two positional parameters are the prompt (str) and the options (dict)",
        ) from None


def _first_parameter(fn: Callable[..., Any]) -> str | None:
    try:
        return next(iter(inspect.signature(fn).parameters), None)
    except (TypeError, ValueError):
        return None
