"""Plain callables and provider objects as endpoints.

A callable is looked at once, when it is registered: its colour, whether it is a generator (a
stream of text), whether it takes two positional arguments, and whether the first one is named
``messages`` (then it gets the list of messages instead of one text).
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from agentkit.errors import ConfigurationError, InvalidResponseError, LLMError
from agentkit.policy.route import Endpoint
from agentkit.providers.errors import translate
from agentkit.types import (
    End,
    Message,
    MessageRole,
    Request,
    Response,
    ResponseBuilder,
    StreamEvent,
    TextDelta,
)
from agentkit.types.ledger import Ledger

_METHODS = ("send", "asend", "stream", "astream")


def endpoint_of(
    registered: Any, *, name: str, provider: str, fingerprint: str, durable: bool
) -> Endpoint:
    """The endpoint of an inference function or provider object.

    Raises:
        ConfigurationError: not callable, wrong number of parameters, or no usable method.
    """
    common: dict[str, Any] = {
        "accept": functools.partial(_accept, name, provider),
        "translate": functools.partial(translate, provider=provider, model=name),
        "fingerprint": fingerprint,
        "durable": durable,
    }
    if any(callable(getattr(registered, method, None)) for method in _METHODS):
        return _of_provider(registered, name, common)
    if not callable(registered):
        raise ConfigurationError(
            f"the inference function of {name!r} is not callable: {registered!r}",
            hint="give a function f(prompt, kwargs) -> str, or an object with send or asend",
        )
    return _of_callable(registered, name, common)


def _of_callable(fn: Callable[..., Any], name: str, common: dict[str, Any]) -> Endpoint:
    _check_arity(fn, name)
    prompt = _conversation if _first_parameter(fn) == "messages" else _text
    kind = _kind_of(fn)
    common["worded"] = worded

    def call(request: Request) -> Any:
        return fn(prompt(request), dict(request.params))

    if kind == "generator":
        return Endpoint(send=functools.partial(_join, name, False, call), stream=call, **common)
    if kind == "async generator":
        return Endpoint(asend=functools.partial(_ajoin, name, False, call), astream=call, **common)
    if kind == "coroutine":
        return Endpoint(asend=call, astream=_one_chunk_async(call, common), **common)
    return Endpoint(send=call, stream=_one_chunk(call, common), **common)


def _of_provider(provider: Any, name: str, common: dict[str, Any]) -> Endpoint:
    send, asend, stream, astream = (getattr(provider, method, None) for method in _METHODS)
    end_mark = bool(getattr(provider, "end_mark", True))
    if send is None and stream is not None:
        send = functools.partial(_join, name, end_mark, stream)
    if asend is None and astream is not None:
        asend = functools.partial(_ajoin, name, end_mark, astream)
    if stream is None and astream is None:
        end_mark = False
        stream = None if send is None else _one_chunk(send, common)
        astream = None if asend is None else _one_chunk_async(asend, common)
    capabilities = frozenset(getattr(provider, "capabilities", ()))
    own = getattr(provider, "translate", None)
    if own is not None:
        common["translate"] = functools.partial(_translated, own, common["translate"])
    return Endpoint(
        send=send, asend=asend, stream=stream, astream=astream, end_mark=end_mark,
        capabilities=capabilities, timed=bool(getattr(provider, "timed", False)),
        worded=None if capabilities & {"json_schema", "json_object"} else worded,
        close=getattr(provider, "close", None), aclose=getattr(provider, "aclose", None),
        **common,
    )  # fmt: skip


def worded(request: Request) -> Request:
    """`request` with a first message that asks for the JSON of its `response_format`."""
    schema = (request.response_format or {}).get("schema")
    wish = "Answer with one JSON value only, without any other text"
    if schema is not None:
        wish += f", that matches this JSON schema:\n{json.dumps(schema, sort_keys=True)}"
    message = Message(MessageRole.SYSTEM, wish)
    return replace(request, prompt=None, messages=(message, *request.conversation))


def _translated(
    own: Callable[[Exception], LLMError | None],
    general: Callable[[Exception], LLMError],
    exc: Exception,
) -> LLMError:
    return general(own(exc) or exc)


def _text(request: Request) -> Any:
    return request.text


def _conversation(request: Request) -> Any:
    return list(request.conversation)


def _kind_of(fn: Any) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    if not inspect.isroutine(fn):
        fn = getattr(fn, "__call__", fn)  # noqa: B004 - the method itself is looked at
    if inspect.isasyncgenfunction(fn):
        return "async generator"
    if inspect.iscoroutinefunction(fn):
        return "coroutine"
    return "generator" if inspect.isgeneratorfunction(fn) else "function"


def _check_arity(fn: Callable[..., Any], name: str) -> None:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
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


def _accept(name: str, provider: str, raw: Any, ledger: Ledger) -> Response[Any]:
    if isinstance(raw, str):
        return Response(raw, model=name, provider=provider, ledger=ledger)
    if isinstance(raw, Response) and isinstance(raw.text, str):
        return replace(raw, model=name, provider=provider, cached=False, ledger=ledger)
    if inspect.iscoroutine(raw):
        raw.close()
    what = "None" if raw is None else type(raw).__name__
    hints = {
        "bytes": "decode it: return data.decode()",
        "coroutine": "register an `async def`, or await inside the function",
        "generator": "register the generator function itself",
    }
    raise InvalidResponseError(
        f"{name} returned {what} instead of text",
        provider=provider,
        model=name,
        hint=hints.get(what, "return a str or an agentkit.Response"),
    )


def _join(name: str, end_mark: bool, stream: Callable[[Request], Any], request: Request) -> Any:
    builder = ResponseBuilder()
    for event in stream(request):
        builder.add(event)
        if builder.end is not None:
            break
    return _joined(builder, name, end_mark)


async def _ajoin(
    name: str, end_mark: bool, astream: Callable[[Request], Any], request: Request
) -> Any:
    builder = ResponseBuilder()
    async for event in astream(request):
        builder.add(event)
        if builder.end is not None:
            break
    return _joined(builder, name, end_mark)


def _joined(builder: ResponseBuilder, name: str, end_mark: bool) -> Response[Any]:
    if builder.end is None and end_mark:
        raise InvalidResponseError(f"the stream of {name} stopped without its end mark", model=name)
    return builder.response()


def _events_of(raw: Any, common: Mapping[str, Any]) -> tuple[TextDelta, End]:
    response = common["accept"](raw, Ledger())
    end = End(response.finish_reason, response.usage, response.tool_calls)
    return TextDelta(response.text), end


def _one_chunk(send: Callable[[Request], Any], common: Mapping[str, Any]) -> Callable[..., Any]:
    def stream(request: Request) -> Iterator[StreamEvent]:
        yield from _events_of(send(request), common)

    return stream


def _one_chunk_async(
    asend: Callable[[Request], Any], common: Mapping[str, Any]
) -> Callable[..., Any]:
    async def astream(request: Request) -> AsyncIterator[StreamEvent]:
        for event in _events_of(await asend(request), common):
            yield event

    return astream
