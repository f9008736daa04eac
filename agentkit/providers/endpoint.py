"""The `Endpoint` of what a user registers: a provider object or a plain function.

Whatever of the four methods (complete or streamed, sync or async) is missing is made from one that
is there: a stream is added up to a complete response, a complete response is a stream of one piece.
Sync and async are left to the drivers.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from agentkit.errors import ConfigurationError, InvalidResponseError, LLMError
from agentkit.policy.price import Price, price_of
from agentkit.policy.target import Endpoint
from agentkit.providers.errors import translate
from agentkit.providers.function import FunctionProvider
from agentkit.providers.json_schema import with_json_instruction
from agentkit.types import End, Request, Response, ResponseBuilder, StreamEvent, TextDelta
from agentkit.types.initializer import fast_maker, fast_replace
from agentkit.types.ledger import Ledger
from agentkit.types.usage import is_countable

_with_origin: Callable[..., Response[Any]] = fast_replace(
    Response, "model", "provider", "cached", "ledger"
)

_response: Callable[..., Response[Any]] = fast_maker(
    Response(""), "text", "model", "provider", "ledger"
)

NO_METADATA: Final[Mapping[str, Any]] = MappingProxyType({})
NO_PRICES: Final[Mapping[str, Price]] = MappingProxyType({})

_PROVIDERS = "agentkit.providers."
_METHODS = ("send", "asend", "stream", "astream")


def endpoint_of(
    registered: Any,
    *,
    name: str,
    provider: str,
    fingerprint: str,
    durable: bool,
    metadata: Mapping[str, Any] = NO_METADATA,
    prices: Mapping[str, Price] = NO_PRICES,
    with_text: bool = True,
) -> Endpoint:
    """The endpoint of a provider object or an inference function.

    Its price is the one in `metadata`, or else the one in `prices` under the provider's own name of
    the model. That name is the object's `model_id` or `model`, or else ``model`` in `metadata`, or
    `name`. `with_text` puts the text of an exception that the user's own code raised into the
    message of the error.

    Raises:
        ConfigurationError: it is neither, or the function has the wrong parameters.
    """
    if not any(callable(getattr(registered, method, None)) for method in _METHODS):
        if not callable(registered):
            raise ConfigurationError(
                f"the inference function of {name!r} is not callable: {registered!r}",
                hint="give a function f(prompt, kwargs) -> str, or an object with send or asend",
            )
        registered = FunctionProvider(registered, name)
    send, asend, stream, astream = (getattr(registered, method, None) for method in _METHODS)
    accept = functools.partial(_accept, name, provider)
    streams = stream is not None or astream is not None
    end_mark = streams and bool(getattr(registered, "end_mark", True))
    if stream is not None and send is None:
        send = functools.partial(_complete, stream, name, end_mark)
    if astream is not None and asend is None:
        asend = functools.partial(_acomplete, astream, name, end_mark)
    stream = _lists_of(registered, "stream") or stream
    astream = _lists_of(registered, "astream") or astream
    if not streams:
        stream = None if send is None else functools.partial(_stream, send, accept)
        astream = None if asend is None else functools.partial(_astream, asend, accept)
    capabilities = frozenset(getattr(registered, "capabilities", ()))
    takes_format = capabilities & {"json_schema", "json_object"}
    model_id = _model_id(registered, metadata) or name
    with_text = with_text and _is_user_code(registered)
    general = functools.partial(translate, provider=provider, model=name, with_text=with_text)
    own = getattr(registered, "translate", None)
    return Endpoint(
        accept=accept,
        translate=general if own is None else functools.partial(_translate, own, general),
        send=send,
        asend=asend,
        stream=stream,
        astream=astream,
        end_mark=end_mark,
        capabilities=capabilities,
        fingerprint=fingerprint,
        durable=durable,
        timed=bool(getattr(registered, "timed", False)),
        prepare=getattr(registered, "prepare", None),
        warm_up=getattr(registered, "warm_up", None),
        awarm_up=getattr(registered, "awarm_up", None),
        cancel_scope=getattr(registered, "cancel_scope", None),
        with_json_instruction=None if takes_format else with_json_instruction,
        close=getattr(registered, "close", None),
        aclose=getattr(registered, "aclose", None),
        model_id=model_id,
        price=price_of(metadata) or prices.get(model_id),
    )


def _is_user_code(registered: Any) -> bool:
    """Whether it is not one of agentkit's providers, whose exceptions come from clients."""
    if isinstance(registered, FunctionProvider):
        return True
    return not any(kind.__module__.startswith(_PROVIDERS) for kind in type(registered).__mro__)


def _model_id(registered: Any, metadata: Mapping[str, Any]) -> str | None:
    """The provider's own name of the model, if it is known."""
    own = (getattr(registered, attribute, None) for attribute in ("model_id", "model"))
    named = (*own, metadata.get("model"))
    return next((each for each in named if isinstance(each, str) and each), None)


def _lists_of(registered: Any, name: str) -> Any:
    """The method that gives the same stream in lists, unless a subclass has a stream of its own."""
    if name in getattr(registered, "__dict__", ()):
        return None
    for cls in type(registered).__mro__:
        if name in vars(cls):
            lists = f"{name}_lists"
            return getattr(registered, lists) if lists in vars(cls) else None
    return None


def _translate(
    own: Callable[[Exception], LLMError | None],
    general: Callable[[Exception], LLMError],
    exc: Exception,
) -> LLMError:
    return general(own(exc) or exc)


def _accept(name: str, provider: str, raw: Any, ledger: Ledger) -> Response[Any]:
    """What the model returned as a `Response`.

    Raises:
        InvalidResponseError: it is neither text nor a `Response`.
    """
    if isinstance(raw, str):
        return _response(raw, name, provider, ledger)
    if isinstance(raw, Response) and isinstance(raw.text, str):
        _check_usage(raw, name, provider)
        return _with_origin(raw, name, provider, False, ledger)
    if inspect.iscoroutine(raw):
        raw.close()
    kind = "None" if raw is None else type(raw).__name__
    hints = {
        "bytes": "decode it: return data.decode()",
        "coroutine": "register an `async def`, or await inside the function",
        "generator": "register the generator function itself",
    }
    raise InvalidResponseError(
        f"{name} returned {kind} instead of text",
        provider=provider,
        model=name,
        hint=hints.get(kind, "return a str or an agentkit.Response"),
    )


def _check_usage(response: Response[Any], name: str, provider: str) -> None:
    """Refuse what cannot be counted, before limits and budgets count it."""
    if not is_countable(response.usage):
        raise InvalidResponseError(
            f"{name} returned {response.usage!r} as its usage",
            provider=provider,
            model=name,
            hint="return a Usage of whole numbers, or leave it out",
        )


def _complete(
    stream: Callable[[Request], Iterator[str | StreamEvent]],
    name: str,
    end_mark: bool,
    request: Request,
) -> Response[Any]:
    """A stream as a complete response."""
    builder = ResponseBuilder()
    for event in stream(request):
        builder.add(event)
        if builder.end is not None:
            break
    return _finish(builder, name, end_mark)


async def _acomplete(
    astream: Callable[[Request], AsyncIterator[str | StreamEvent]],
    name: str,
    end_mark: bool,
    request: Request,
) -> Response[Any]:
    builder = ResponseBuilder()
    async for event in astream(request):
        builder.add(event)
        if builder.end is not None:
            break
    return _finish(builder, name, end_mark)


def _finish(builder: ResponseBuilder, name: str, end_mark: bool) -> Response[Any]:
    if builder.end is None and end_mark:
        raise InvalidResponseError(f"the stream of {name} stopped without an end mark", model=name)
    return builder.response()


def _stream(
    send: Callable[[Request], Any],
    accept: Callable[[Any, Ledger], Response[Any]],
    request: Request,
) -> Iterator[StreamEvent]:
    """A complete response as a stream."""
    yield from _events(accept(send(request), Ledger()))


async def _astream(
    asend: Callable[[Request], Any],
    accept: Callable[[Any, Ledger], Response[Any]],
    request: Request,
) -> AsyncIterator[StreamEvent]:
    for event in _events(accept(await asend(request), Ledger())):
        yield event


def _events(response: Response[Any]) -> tuple[TextDelta, End]:
    end = End(
        response.finish_reason,
        response.usage,
        response.tool_calls,
        response_id=response.response_id,
        model_id=response.model_id,
    )
    return TextDelta(response.text), end
