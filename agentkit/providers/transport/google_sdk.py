"""The google-genai SDK.

It uses an HTTP client of agentkit, because its own retries silently and leaves streams open.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Final

from agentkit.errors import InvalidRequestError, LLMError
from agentkit.providers.sse import keep_data_lines
from agentkit.providers.transport.base import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    Body,
    Reply,
    unreadable,
    with_extra_body,
)
from agentkit.providers.transport.clients import SdkClients
from agentkit.providers.transport.connection import make_cancellable
from agentkit.providers.transport.instrumentation import resume_instrumentation, without_sdk_spans
from agentkit.providers.transport.size_limit import limit_size

_SHORTEST_DEADLINE = 10
"""Seconds: the API refuses a request that allows the server less."""
_UNREADABLE = (
    AttributeError,
    TypeError,
    KeyError,
    IndexError,
    UnicodeError,
    json.JSONDecodeError,
    RecursionError,
)
"""The exceptions that the SDK raises for a response of an unexpected shape."""
_UNREADABLE_NAMES = frozenset({"UnknownApiResponseError", "ValidationError"})

_opened: Final[ContextVar[list[Any] | None]] = ContextVar("agentkit_google_opened", default=None)
"""Collects the HTTP responses that are opened; the SDK does not hand them out."""


class GoogleSdkTransport:
    """`generate_content` of the SDK.

    `client_options` gives the key and the address; it is called when a client is first needed. A
    body has ``model``, ``contents`` and ``config``, the fields of the SDK's configuration.
    """

    def __init__(self, client_options: Callable[[], tuple[str, str | None]]) -> None:
        self._clients: SdkClients[_Client, _AsyncClient] = SdkClients(
            lambda: _Client(*client_options()), lambda: _AsyncClient(*client_options())
        )

    def prepare(self) -> None:
        """Import the SDK, and what it imports when it is first used."""
        import_module("google.genai")
        with suppress(Exception):  # the first call raises what is wrong
            _Client("unused", None).close()

    def warm_up(self, connections: int) -> None:
        """Make the client; the SDK connects with its first request."""
        self._clients.sync()

    async def awarm_up(self, connections: int) -> None:
        """Like `warm_up`, for the running event loop."""
        self._clients.of_loop()

    def send(self, body: Body, *, read_timeout: float | None) -> Reply:
        """Send a request and receive its complete response."""
        models, responses = self._clients.sync().models, list[Any]()
        arguments = _arguments(body, read_timeout)
        with _collect(responses), without_sdk_spans():
            content = models.generate_content(**arguments)
        return _checked(content, responses)

    async def asend(self, body: Body, *, read_timeout: float | None) -> Reply:
        """Like `send`, for asyncio."""
        models, responses = self._clients.of_loop().models, list[Any]()
        arguments = _arguments(body, read_timeout)
        with _collect(responses), without_sdk_spans():
            content = await models.generate_content(**arguments)
        return _checked(content, responses)

    @contextmanager
    def stream(self, body: Body, *, read_timeout: float | None) -> Iterator[Reply]:
        """Send a request and open the stream of its response."""
        models, responses = self._clients.sync().models, list[Any]()
        arguments = _arguments(body, read_timeout)
        with without_sdk_spans():
            chunks = models.generate_content_stream(**arguments)
        try:
            yield Reply(_read(chunks, responses), {})
        finally:
            chunks.close()
            for response in responses:
                response.close()

    @asynccontextmanager
    async def astream(self, body: Body, *, read_timeout: float | None) -> AsyncIterator[Reply]:
        """Like `stream`, for asyncio."""
        models, responses = self._clients.of_loop().models, list[Any]()
        chunks = None
        try:
            arguments = _arguments(body, read_timeout)
            with _collect(responses), without_sdk_spans():
                chunks = await models.generate_content_stream(**arguments)
            yield Reply(_aread(chunks, responses), {})
        finally:
            if chunks is not None:
                await chunks.aclose()
            for response in responses:
                await response.aclose()

    def translate(self, exc: Exception, model: str) -> LLMError | None:
        """The error of a response that the SDK cannot parse, or a request that it cannot send."""
        if isinstance(exc, _UNREADABLE) or type(exc).__name__ in _UNREADABLE_NAMES:
            return unreadable(model)
        if type(exc) is ValueError:
            return InvalidRequestError(
                f"the SDK refused the request to {model}", hint="see __cause__"
            )
        return None

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._clients.close()

    async def aclose(self) -> None:
        """Like `close`, for asyncio."""
        await self._clients.aclose()


class _Client:
    """The SDK's client for sync calls."""

    def __init__(self, key: str, url: str | None) -> None:
        httpx = _http_library()
        hooks: dict[str, Any] = {"request": [_on_request], "response": [_on_response]}
        self._http = httpx.Client(follow_redirects=False, event_hooks=hooks)
        make_cancellable(self._http)
        unused = httpx.AsyncClient(transport=httpx.AsyncBaseTransport(), trust_env=False)
        self._client = _genai_client(key, url, sync_client=self._http, async_client=unused)
        self.models = self._client.models

    def close(self) -> None:
        self._http.close()


class _AsyncClient:
    """The same for one event loop."""

    def __init__(self, key: str, url: str | None) -> None:
        httpx = _http_library()
        hooks: dict[str, Any] = {"request": [_aon_request], "response": [_aon_response]}
        self._http = httpx.AsyncClient(follow_redirects=False, event_hooks=hooks)
        unused = httpx.Client(transport=httpx.BaseTransport(), trust_env=False)
        self._client = _genai_client(key, url, sync_client=unused, async_client=self._http)
        self.models = self._client.aio.models

    async def aclose(self) -> None:
        await self._http.aclose()


def _http_library() -> Any:
    """The HTTP library that the SDK requires: httpx2 since its release 3, httpx before."""
    from google.genai.version import __version__

    return import_module("httpx" if int(__version__.partition(".")[0]) < 3 else "httpx2")


def _genai_client(key: str, url: str | None, *, sync_client: Any, async_client: Any) -> Any:
    from google import genai

    options = genai.types.HttpOptions(
        base_url=url, httpx_client=sync_client, httpx_async_client=async_client
    )
    return genai.Client(api_key=key, vertexai=False, http_options=options)


def _on_request(request: Any) -> None:
    resume_instrumentation()
    # The SDK allows a connection as much time as an answer.
    limits = request.extensions["timeout"]
    limits["connect"] = min(limits["connect"] or CONNECT_TIMEOUT, CONNECT_TIMEOUT)


async def _aon_request(request: Any) -> None:
    _on_request(request)


def _on_response(response: Any) -> None:
    limit_size(response)
    keep_data_lines(response)
    responses = _opened.get()
    if responses is not None:
        responses.append(response)


async def _aon_response(response: Any) -> None:
    _on_response(response)


@contextmanager
def _collect(responses: list[Any]) -> Iterator[None]:
    """Append the HTTP responses that are opened meanwhile to `responses`."""
    token = _opened.set(responses)
    try:
        yield
    finally:
        _opened.reset(token)


def _read(chunks: Iterable[Any], responses: list[Any]) -> Iterator[list[Any]]:
    iterator = iter(chunks)  # instrumentations return what is not an iterator
    while True:
        with _collect(responses):
            chunk = next(iterator, None)
        if chunk is None:
            return
        yield [chunk]


async def _aread(chunks: AsyncIterable[Any], responses: list[Any]) -> AsyncIterator[list[Any]]:
    iterator = aiter(chunks)
    while True:
        with _collect(responses):
            chunk = await anext(iterator, None)
        if chunk is None:
            return
        yield [chunk]


def _checked(content: Any, responses: list[Any]) -> Reply:
    """The reply; raises the error in a body with status 200, which the SDK drops."""
    from google.genai.errors import APIError

    if responses and not content.candidates and content.prompt_feedback is None:
        body = responses[-1].json()
        error = body.get("error")
        if isinstance(error, Mapping):
            raise APIError(error.get("code") or 0, body, responses[-1])
    return Reply(content, {})


def _arguments(body: Body, read_timeout: float | None) -> dict[str, Any]:
    """The arguments of the SDK's method.

    Raises:
        InvalidRequestError: a parameter does not have the type that the API documents.
    """
    from google.genai.types import GenerateContentConfig
    from pydantic import ValidationError

    fields = GenerateContentConfig.model_fields
    known = {*fields, *(field.alias for field in fields.values() if field.alias), "extra_body"}
    config = with_extra_body(body["config"], frozenset(known))
    config["http_options"] = _http_options(
        config.pop("extra_body", None), config.get("http_options"), read_timeout
    )
    # Otherwise the SDK would run tools by itself, in a loop of its own, and silently repeat the
    # request for an answer that stopped or broke off.
    config.setdefault("automatic_function_calling", {"disable": True})
    if "automatic_continuation" in fields:
        config.setdefault("automatic_continuation", False)
    try:
        return {**body, "config": GenerateContentConfig(**config)}
    except ValidationError as exc:
        places = sorted({".".join(map(str, error["loc"][:2])) for error in exc.errors()})
        raise InvalidRequestError(
            f"the Gemini API does not accept the given value of: {', '.join(places)}",
            hint="see google.genai.types.GenerateContentConfig",
        ) from exc


def _http_options(extra: Any, given: Any, read_timeout: float | None) -> dict[str, Any]:
    limit = READ_TIMEOUT if read_timeout is None else read_timeout
    options: dict[str, Any] = {
        "timeout": max(1, int(limit * 1000)),
        "headers": {"X-Server-Timeout": str(max(math.ceil(limit), _SHORTEST_DEADLINE))},
    }
    if extra:
        try:
            json.dumps(extra)
        except (TypeError, ValueError) as exc:
            raise InvalidRequestError(
                "a parameter is not JSON serializable",
                hint="parameters are strings, numbers, lists and dicts; see __cause__",
            ) from exc
        options["extra_body"] = extra
    return {**options, **dict(given or {})}
