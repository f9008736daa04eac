"""What the SDKs of OpenAI, Groq and Anthropic have in common: raw answers, streams, failures."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar, Protocol

from agentkit.errors import ContextLengthError, InvalidRequestError, InvalidResponseError, LLMError
from agentkit.providers.sdk import CONNECT_TIMEOUT, SdkProvider
from agentkit.providers.sse import remove_byte_order_mark
from agentkit.types import Request, Response, StreamEvent

READ_TIMEOUT = 600.0
"""Seconds without a byte where nobody sets a time limit."""

_UNREADABLE = (AttributeError, TypeError, KeyError, IndexError)
"""What reading an answer of an unexpected shape raises: the SDKs build objects unchecked."""


class Listener(Protocol):
    """Turns one stream's events, as the SDK gives them, into ours."""

    def events(self, event: Any) -> Iterable[StreamEvent]:
        """What one of the SDK's events says."""
        ...

    def end(self) -> Iterable[StreamEvent]:
        """What the end of the stream says; the end mark only if the provider set one."""
        ...


class ToldError(Exception):
    """An error that the provider told inside an answer with status 200."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"the answer is an error: {error.get('code') or error.get('type')}")
        self.code = error.get("code")
        self.body = {"error": dict(error)}


class HttpSdkProvider(SdkProvider):
    """A model behind one of these SDKs, with its retries off."""

    sdk: ClassVar[str]
    """The SDK's module."""
    client_names: ClassVar[tuple[str, str]]
    """Its blocking and its async client."""
    too_long: ClassVar[re.Pattern[str] | None] = None
    """How the message of a 400 begins that blames the prompt's length, where no code says so."""

    @abstractmethod
    def _create(self, client: Any) -> Callable[..., Any]:
        """The client's method that asks and gives the raw answer."""

    @abstractmethod
    def _encoded(self, request: Request, *, stream: bool = False) -> dict[str, Any]:
        """That method's arguments, but for the time limit."""

    @abstractmethod
    def _decoded(self, answer: Any, headers: Mapping[str, str]) -> Response[Any]:
        """The SDK's answer as ours."""

    @abstractmethod
    def _listener(self, headers: Mapping[str, str]) -> Listener:
        """What listens to a new stream."""

    def send(self, request: Request) -> Response[Any]:
        """Answer, blocking."""
        raw = self._create(self._clients.sync())(**self._arguments(request))
        return self._read(raw.parse(), raw.headers)

    async def asend(self, request: Request) -> Response[Any]:
        """Answer, async."""
        raw = await self._create(self._clients.of_loop())(**self._arguments(request))
        parsed = raw.parse()
        if hasattr(parsed, "__await__"):
            parsed = await parsed
        return self._read(parsed, raw.headers)

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """Stream, blocking."""
        raw = self._create(self._clients.sync())(**self._arguments(request, stream=True))
        remove_byte_order_mark(raw.http_response)
        events, listener = raw.parse(), self._listener(raw.headers)
        try:
            for event in events:
                yield from self._heard(listener.events(event))
            yield from self._heard(listener.end())
        finally:
            _reading(events).close()
            events.close()

    async def astream(self, request: Request) -> AsyncIterator[StreamEvent]:
        """Stream, async."""
        raw = await self._create(self._clients.of_loop())(**self._arguments(request, stream=True))
        remove_byte_order_mark(raw.http_response)
        events = raw.parse()
        if hasattr(events, "__await__"):
            events = await events
        listener = self._listener(raw.headers)
        try:
            async for event in events:
                for each in self._heard(listener.events(event)):
                    yield each
            for each in self._heard(listener.end()):
                yield each
        finally:
            await _reading(events).aclose()
            await events.close()

    def translate(self, exc: Exception) -> LLMError | None:
        """What the SDK cannot read is an invalid response; what it cannot send, an invalid request.

        The general rules would take both for a fault of a program.
        """
        error: LLMError | None = None
        unreadable = isinstance(exc, json.JSONDecodeError | UnicodeDecodeError)
        if unreadable or type(exc).__name__ == "APIResponseValidationError":
            error = self._unreadable()
        elif isinstance(exc, TypeError):
            error = InvalidRequestError(
                f"the request to {self.model} cannot be written down",
                hint="parameters are texts, numbers, lists and dicts; see __cause__",
            )
        elif self.too_long is not None and self.too_long.match(_complaint(exc)):
            error = ContextLengthError(
                f"the prompt does not fit into the context window of {self.model}",
                status=400,
                request_id=getattr(exc, "request_id", None),
                hint="shorten the prompt or add a fallback with a larger context_window",
            )
        if error is not None:
            error.__cause__ = exc
        return error

    def _arguments(self, request: Request, *, stream: bool = False) -> dict[str, Any]:
        options = self._encoded(request, stream=stream)
        limit = options.get("timeout") if request.timeout is None else request.timeout
        if isinstance(limit, int | float):
            connect = min(limit, CONNECT_TIMEOUT)
            options["timeout"] = import_module(self.sdk).Timeout(limit, connect=connect)
        return options

    def _read(self, answer: Any, headers: Mapping[str, str]) -> Response[Any]:
        try:
            return self._decoded(answer, headers)
        except _UNREADABLE as exc:
            raise self._unreadable() from exc

    def _heard(self, events: Iterable[StreamEvent]) -> list[StreamEvent]:
        try:
            return list(events)
        except _UNREADABLE as exc:
            raise self._unreadable() from exc

    def _unreadable(self) -> InvalidResponseError:
        return InvalidResponseError(f"{self.model} sent an answer that cannot be read")

    def _make_sync(self) -> Any:
        return self._client(0)

    def _make_async(self) -> Any:
        return self._client(1)

    def _headers(self, sdk: Any) -> dict[str, Any] | None:
        """What every request carries, or leaves out, besides what the SDK sends by itself."""
        return None

    def _client(self, colour: int) -> Any:
        sdk = import_module(self.sdk)
        return getattr(sdk, self.client_names[colour])(
            api_key=self._key(),
            default_headers=self._headers(sdk),
            base_url=self._base_url,
            max_retries=0,
            timeout=sdk.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT),
        )


def _reading(events: Any) -> Any:
    """The generator that reads a stream: closing the stream alone leaves it to the garbage."""
    return events._iterator


def _complaint(exc: Exception) -> str:
    """The message in the body of a 400; empty for anything else."""
    body = getattr(exc, "body", None)
    if getattr(exc, "status_code", None) != 400 or not isinstance(body, Mapping):
        return ""
    inner = body.get("error")
    return str((inner if isinstance(inner, Mapping) else body).get("message") or "")
