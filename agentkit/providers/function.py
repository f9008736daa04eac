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
    RawEvent,
    ReasoningDelta,
    Request,
    Response,
    StreamEvent,
    TextDelta,
    Usage,
)
from agentkit.types.ledger import Ledger

_METHODS = ("send", "asend", "stream", "astream")
_NO_USAGE = Usage()


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
        return Endpoint(send=lambda request: _join(call(request)), stream=call, **common)
    if kind == "async generator":
        return Endpoint(asend=lambda request: _ajoin(call(request)), astream=call, **common)
    if kind == "coroutine":
        return Endpoint(asend=call, astream=_one_chunk_async(call, common), **common)
    return Endpoint(send=call, stream=_one_chunk(call, common), **common)


def _of_provider(provider: Any, name: str, common: dict[str, Any]) -> Endpoint:
    send, asend, stream, astream = (getattr(provider, method, None) for method in _METHODS)
    end_mark = bool(getattr(provider, "end_mark", True))
    if send is None and stream is not None:
        send = functools.partial(_whole, stream, name, end_mark)
    if asend is None and astream is not None:
        asend = functools.partial(_awhole, astream, name, end_mark)
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
        return Response(raw, _NO_USAGE, name, provider, None, (), None, False, None, ledger)
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


class _Sum:
    """A stream's events added up to one response."""

    def __init__(self, name: str, end_mark: bool) -> None:
        self._name = name
        self._end_mark = end_mark
        self._parts: list[str] = []
        self._thoughts: list[str] = []
        self._end: End | None = None

    def add(self, event: str | StreamEvent) -> bool:
        """Take `event` in; True when it was the end."""
        if isinstance(event, End):
            self._end = event
        elif isinstance(event, str | TextDelta):
            self._parts.append(event if isinstance(event, str) else event.text)
        elif isinstance(event, ReasoningDelta):
            self._thoughts.append(event.text)
        elif not isinstance(event, RawEvent):
            kind = type(event).__name__
            raise InvalidResponseError(f"{self._name} streamed {kind}", model=self._name)
        return self._end is not None

    def response(self) -> Response[Any]:
        """The whole answer."""
        if self._end is None and self._end_mark:
            raise InvalidResponseError(
                f"the stream of {self._name} stopped without its end mark", model=self._name
            )
        end = self._end or End()
        return Response(
            "".join(self._parts), end.usage or _NO_USAGE, finish_reason=end.finish_reason,
            tool_calls=end.tool_calls, response_id=end.response_id,
            reasoning="".join(self._thoughts), quota=end.quota, omitted=end.omitted,
        )  # fmt: skip


def _join(events: Iterator[Any], total: _Sum | None = None) -> Response[Any]:
    total = total or _Sum("the generator", False)
    for event in events:
        if total.add(event):
            break
    return total.response()


async def _ajoin(events: AsyncIterator[Any], total: _Sum | None = None) -> Response[Any]:
    total = total or _Sum("the generator", False)
    async for event in events:
        if total.add(event):
            break
    return total.response()


def _whole(stream: Callable[..., Any], name: str, end_mark: bool, request: Request) -> Any:
    return _join(stream(request), _Sum(name, end_mark))


async def _awhole(stream: Callable[..., Any], name: str, end_mark: bool, request: Request) -> Any:
    return await _ajoin(stream(request), _Sum(name, end_mark))


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
