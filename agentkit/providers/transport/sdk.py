"""The SDKs of OpenAI, Groq and Anthropic, which have the same shape."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple

from agentkit.errors import InvalidRequestError, InvalidResponseError, LLMError
from agentkit.providers.sse import remove_byte_order_mark
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
from agentkit.providers.transport.instrumentation import (
    aresume_instrumentation,
    resume_instrumentation,
    without_sdk_spans,
)
from agentkit.providers.transport.size_limit import alimit_size, limit_size


class SdkMethod(NamedTuple):
    """The method of an SDK that creates a response.

    Attributes:
        sdk: the module of the SDK.
        client: the name of its sync client; that of its async client begins with ``Async``.
        resource: the object with the method `create`, such as ``chat.completions``.
    """

    sdk: str
    client: str
    resource: str


class SdkTransport:
    """One method of an SDK, with the SDK's retries and redirects off.

    `client_options` receives the SDK's module and returns the arguments of a client (key, address,
    headers); it is called when a client is first needed.
    """

    def __init__(self, method: SdkMethod, client_options: Callable[[Any], dict[str, Any]]) -> None:
        self._method = method
        self._client_options = client_options
        self._create = attrgetter(f"{method.resource}.with_raw_response.create")
        self._clients: SdkClients[Any, Any] = SdkClients(
            lambda: self._new_client(method.client),
            lambda: self._new_client(f"Async{method.client}"),
        )
        self._parameters: frozenset[str] = frozenset()

    def prepare(self) -> None:
        """Import the SDK, and what it imports when it is first used."""
        sdk = import_module(self._method.sdk)
        with suppress(Exception):  # the first call raises what is wrong
            client = getattr(sdk, self._method.client)(api_key="unused")
            self._create(client)
            client.close()

    def warm_up(self, connections: int) -> None:
        """Make the client; the SDK connects with its first request."""
        self._clients.sync()

    async def awarm_up(self, connections: int) -> None:
        """Like `warm_up`, for the running event loop."""
        self._clients.of_loop()

    def send(self, body: Body, *, read_timeout: float | None) -> Reply:
        """Send a request and receive its complete response."""
        create = self._create(self._clients.sync())
        arguments = self._arguments(create, body, read_timeout)
        with without_sdk_spans():
            raw = create(**arguments)
        return Reply(raw.parse(), raw.headers)

    async def asend(self, body: Body, *, read_timeout: float | None) -> Reply:
        """Like `send`, for asyncio."""
        create = self._create(self._clients.of_loop())
        arguments = self._arguments(create, body, read_timeout)
        with without_sdk_spans():
            raw = await create(**arguments)
        return Reply(await _parsed(raw), raw.headers)

    @contextmanager
    def stream(self, body: Body, *, read_timeout: float | None) -> Iterator[Reply]:
        """Send a request and open the stream of its response."""
        create = self._create(self._clients.sync())
        arguments = self._arguments(create, body, read_timeout)
        with without_sdk_spans():
            raw = create(**arguments)
        remove_byte_order_mark(raw.http_response)
        stream = raw.parse()
        events = stream.__stream__()  # a generator of ours: closing `stream` leaves its own open
        try:
            yield Reply(([event] for event in events), raw.headers)
        finally:
            events.close()
            stream.close()

    @asynccontextmanager
    async def astream(self, body: Body, *, read_timeout: float | None) -> AsyncIterator[Reply]:
        """Like `stream`, for asyncio."""
        create = self._create(self._clients.of_loop())
        arguments = self._arguments(create, body, read_timeout)
        with without_sdk_spans():
            raw = await create(**arguments)
        remove_byte_order_mark(raw.http_response)
        stream = await _parsed(raw)
        events = stream.__stream__()
        try:
            yield Reply(([event] async for event in events), raw.headers)
        finally:
            await events.aclose()
            await stream.close()

    def translate(self, exc: Exception, model: str) -> LLMError | None:
        """The error of a response that the SDK cannot parse, or of a request that it cannot send.

        The general rules would take both for a bug.
        """
        if isinstance(
            exc.__cause__, InvalidResponseError
        ):  # the SDK takes it for a lost connection
            return InvalidResponseError(exc.__cause__.message)
        invalid = isinstance(exc, json.JSONDecodeError | UnicodeDecodeError | RecursionError)
        if invalid or type(exc).__name__ == "APIResponseValidationError":
            return unreadable(model)
        if isinstance(exc, TypeError | UnicodeEncodeError):
            return InvalidRequestError(
                f"the request to {model} is not JSON serializable",
                hint="parameters are strings, numbers, lists and dicts; see __cause__",
            )
        return None

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._clients.close()

    async def aclose(self) -> None:
        """Like `close`, for asyncio."""
        await self._clients.aclose()

    def _arguments(
        self, create: Callable[..., Any], body: Body, read_timeout: float | None
    ) -> dict[str, Any]:
        """The arguments of the SDK's method.

        The time limit is always given: without one, Anthropic's SDK refuses a large ``max_tokens``
        unless it streams.
        """
        if not self._parameters:
            self._parameters = frozenset(inspect.signature(create).parameters)
        arguments = with_extra_body(body, self._parameters)
        limit = arguments.get("timeout", READ_TIMEOUT) if read_timeout is None else read_timeout
        if isinstance(limit, int | float):
            sdk = import_module(self._method.sdk)
            limit = sdk.Timeout(limit, connect=min(limit, CONNECT_TIMEOUT))
        arguments["timeout"] = limit
        return arguments

    def _new_client(self, name: str) -> Any:
        sdk = import_module(self._method.sdk)
        # By default, an SDK sends the prompt again to whatever host a redirect names.
        hooks: dict[str, Any]
        if name.startswith("Async"):
            make = sdk.DefaultAsyncHttpxClient
            hooks = {"request": [aresume_instrumentation], "response": [alimit_size]}
        else:
            make = sdk.DefaultHttpxClient
            hooks = {"request": [resume_instrumentation], "response": [limit_size]}
        http = make(follow_redirects=False, event_hooks=hooks)
        options = {"http_client": http, **self._client_options(sdk)}
        make_client = getattr(sdk, name)
        if "open_telemetry" in inspect.signature(make_client).parameters:
            # Newer Anthropic SDKs write a span for each call, which would count its tokens twice.
            options.setdefault("open_telemetry", False)
        client = make_client(max_retries=0, **options)
        make_cancellable(client)
        return client


async def _parsed(raw: Any) -> Any:
    parsed = raw.parse()
    return await parsed if hasattr(parsed, "__await__") else parsed
