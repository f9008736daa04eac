"""A model at a provider: three pure parts, and a transport that moves the bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import replace
from itertools import chain
from re import Pattern
from typing import Any, ClassVar, NamedTuple, Protocol, Self
from urllib.parse import urlsplit

from agentkit.errors import LLMError
from agentkit.providers.errors import message_of_400, refusal_of_400
from agentkit.providers.parameters import Parameters
from agentkit.providers.registry import provider_info
from agentkit.providers.requirements import (
    TransportName,
    check_base_url,
    check_key,
    key_from_environment,
    transport_name,
)
from agentkit.providers.response_fields import prompt_too_long
from agentkit.providers.state import OMITTED, StateMemory
from agentkit.providers.transport.base import Body, Reply, Transport, unreadable
from agentkit.providers.transport.connection import CancelScope
from agentkit.providers.transport.http import HttpApi, HttpTransport, Record
from agentkit.providers.transport.options import ConnectionOptions, check_connections
from agentkit.providers.transport.sdk import SdkMethod, SdkTransport
from agentkit.types import End, Request, Response, StreamEvent

_UNREADABLE = (AttributeError, TypeError, KeyError, IndexError)
"""What decoding a response of an unexpected shape raises: the SDKs do not validate responses."""


def _host_and_port(url: str) -> str:
    """Without user and password: the origin of a state is stored with conversations."""
    return urlsplit(url).netloc.rpartition("@")[2]


class StreamDecoder(Protocol):
    """Decodes the events of one stream."""

    def events(self, event: Any) -> Iterable[StreamEvent]:
        """The stream events in one event of the provider."""
        ...

    def end(self) -> Iterable[StreamEvent]:
        """The stream events at the end; an `End` only if the provider sent its end mark."""
        ...


class Encoded(NamedTuple):
    """A request, its body, and the names of what was left out of it."""

    request: Request
    body: Body
    omitted: Sequence[str]


class Adapter(ABC):
    """A model at a provider; see `agentkit.types.Provider`.

    Args:
        model: the provider's own name of the model.
        api_key: default: the provider's variable in the environment, read when first needed.
        base_url: replaces the provider's own address.
        transport: ``"sdk"`` or ``"native"`` (default: the variable ``AGENTKIT_TRANSPORT``, else
            ``"sdk"``); see `make_transport`.
        connections: options of the connections, for ``"native"`` only (default:
            ``ConnectionOptions()``).
        settings: defaults of the model's parameters; a call's own win, None leaves one out.

    Raises:
        ConfigurationError: the address is not valid, the transport unknown, or `connections` are
            given to an SDK.
    """

    provider: ClassVar[str] = "custom"
    api: ClassVar[str | None] = None
    """The name of its API in the origin of provider states (default: `provider`)."""
    end_mark: ClassVar[bool] = True
    timed: ClassVar[bool] = True
    cancel_scope: ClassVar[type[CancelScope]] = CancelScope
    sdk_method: ClassVar[SdkMethod]
    """The method of the SDK that creates a response."""
    http_api: ClassVar[HttpApi]
    """The same method without an SDK."""
    record: ClassVar[type[Record]] = Record
    """What its responses are read as without an SDK."""
    default_key: ClassVar[str | None] = None
    """Sent if no key is given; None: the environment must have one."""
    prompt_too_long_pattern: ClassVar[Pattern[str] | None] = None
    """Matches the message of a 400 for too long a prompt, where no error code says so."""
    parameter_names: ClassVar[frozenset[str] | None] = None
    """The parameters of its API, by the names of `agentkit.providers.parameters`; None: any."""
    capabilities: frozenset[str] = frozenset({"messages"})

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        transport: TransportName | None = None,
        connections: ConnectionOptions | None = None,
        **settings: Any,
    ) -> None:
        self.model = model
        self.base_url = None if base_url is None else check_base_url(base_url)
        self.transport = transport_name(transport)
        check_connections(connections, self.transport)
        self.connections = connections
        self.settings: Mapping[str, Any] = settings
        self._api_key = api_key
        host = "" if self.base_url is None else f"@{_host_and_port(self.base_url)}"
        self.states = StateMemory(f"{self.api or self.provider}:{model}{host}")
        """What the model sent with its answers and needs back."""
        self._transport = self.make_transport()

    @abstractmethod
    def encode_with(
        self, request: Request, parameters: Parameters, *, stream: bool = False
    ) -> Body:
        """`request` as the body that the provider's API documents.

        `parameters` are those of `request`, and become a part of the body.
        """

    def encode(self, request: Request, *, stream: bool = False) -> Body:
        """`request` with its own parameters as the body that the provider's API documents."""
        return self.encode_with(request, self.parameters(request), stream=stream)

    @abstractmethod
    def decode(self, reply: Reply) -> Response[Any]:
        """A complete response."""

    @abstractmethod
    def stream_decoder(self, headers: Mapping[str, str]) -> StreamDecoder:
        """The decoder of a stream whose response has these headers."""

    def prepare(self) -> None:
        """Import the SDK, which takes up to a second."""
        self._transport.prepare()

    def warm_up(self, connections: int) -> None:
        """Open connections until as many are idle, at most 100.

        Only the native transport can; an SDK is imported, and connects with its first request.
        """
        self._transport.warm_up(connections)

    async def awarm_up(self, connections: int) -> None:
        """Like `warm_up`, for the running event loop."""
        await self._transport.awarm_up(connections)

    def send(self, request: Request) -> Response[Any]:
        """Send a request and return the complete response."""
        sent = self._encoded(request)
        while True:
            try:
                reply = self._transport.send(sent.body, read_timeout=request.timeout)
            except Exception as exc:
                again = self._without_states(sent, exc)
                if again is None:
                    raise
                sent = again
            else:
                return self._decode(reply, sent.omitted)

    async def asend(self, request: Request) -> Response[Any]:
        """Like `send`, for asyncio."""
        sent = self._encoded(request)
        while True:
            try:
                reply = await self._transport.asend(sent.body, read_timeout=request.timeout)
            except Exception as exc:
                again = self._without_states(sent, exc)
                if again is None:
                    raise
                sent = again
            else:
                return self._decode(reply, sent.omitted)

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """Send a request and yield the events of its stream."""
        for events in self.stream_lists(request):
            yield from events

    async def astream(self, request: Request) -> AsyncIterator[StreamEvent]:
        """Like `stream`, for asyncio."""
        async with aclosing(self.astream_lists(request)) as lists:
            async for events in lists:
                for event in events:
                    yield event

    def stream_lists(self, request: Request) -> Generator[list[StreamEvent]]:
        """Like `stream`, with the events that arrived together in one list."""
        sent = self._encoded(request, stream=True)
        while True:
            try:
                with self._transport.stream(sent.body, read_timeout=request.timeout) as reply:
                    decoder = self.stream_decoder(reply.headers)
                    for together in reply.content:
                        decoded = chain.from_iterable(map(decoder.events, together))
                        yield from self._decode_events(decoded, sent.omitted)
                    yield from self._decode_events(decoder.end(), sent.omitted)
                return
            except Exception as exc:
                again = self._without_states(sent, exc, stream=True)
                if again is None:
                    raise
                sent = again

    async def astream_lists(self, request: Request) -> AsyncGenerator[list[StreamEvent]]:
        """Like `stream_lists`, for asyncio."""
        sent = self._encoded(request, stream=True)
        while True:
            try:
                async with self._transport.astream(
                    sent.body, read_timeout=request.timeout
                ) as reply:
                    decoder = self.stream_decoder(reply.headers)
                    async for together in reply.content:
                        decoded = chain.from_iterable(map(decoder.events, together))
                        for events in self._decode_events(decoded, sent.omitted):
                            yield events
                    for events in self._decode_events(decoder.end(), sent.omitted):
                        yield events
                return
            except Exception as exc:
                again = self._without_states(sent, exc, stream=True)
                if again is None:
                    raise
                sent = again

    def translate(self, exc: Exception) -> LLMError | None:
        """What an exception means if the general rules would not know it."""
        if isinstance(exc, LLMError):
            return None
        error: LLMError | None
        pattern = self.prompt_too_long_pattern
        if pattern is not None and pattern.match(message_of_400(exc)):
            error = prompt_too_long(self.model, request_id=getattr(exc, "request_id", None))
        else:
            error = self._transport.translate(exc, self.model)
        if error is not None:
            error.__cause__ = exc
        return error

    def make_transport(self) -> Transport:
        """A new transport; its clients are made when first needed.

        ``"sdk"`` is the vendor's SDK, ``"native"`` an HTTP client of ours, which takes a tenth of
        the time.
        """
        if self.transport == "native":
            return HttpTransport(
                self.http_api,
                self._http_address,
                self.locate,
                record=self.record,
                reply_record=self.reply_record,
                event_record=self.event_record,
                options=self.connections or ConnectionOptions(),
            )
        return SdkTransport(self.sdk_method, self.client_options)

    def http_headers(self) -> dict[str, str]:
        """What authenticates a request without an SDK.

        Raises:
            ConfigurationError: there is no key, or it cannot be sent.
        """
        return {"Authorization": f"Bearer {self.find_key()}"}

    def locate(self, body: Body, stream: bool) -> tuple[str, Body]:
        """The path of a request without an SDK, and its JSON."""
        return self.http_api.path, body

    def reply_record(self) -> type[Any] | None:
        """The type of msgspec that most complete responses have without an SDK, if there is one."""
        return None

    def event_record(self) -> type[Any] | None:
        """The type of msgspec that most events of a stream have without an SDK, if there is one."""
        return None

    def _http_address(self) -> tuple[str, dict[str, str]]:
        """The address, and the headers of every request."""
        return self.http_api.address(self.base_url), self.http_headers()

    def client_options(self, sdk: Any) -> dict[str, Any]:
        """The arguments of a new client of the SDK.

        Raises:
            ConfigurationError: there is no key, or it cannot be sent.
        """
        return {"api_key": self.find_key(), "base_url": self.base_url}

    def find_key(self) -> str:
        """The key that was given, else the default, else that in the environment.

        Raises:
            ConfigurationError: there is none, or it cannot be sent.
        """
        if self._api_key is not None:
            return check_key(self._api_key.strip(), self.provider)
        if self.default_key is not None:
            return self.default_key
        variables = provider_info(self.provider).key_variables
        return key_from_environment(*variables, provider=self.provider)

    def with_key(self, api_key: str) -> Self:
        """The same model and settings with another key; both remember the same answers."""
        other = type(self)(
            self.model,
            api_key=api_key,
            base_url=self.base_url,
            transport=self.transport,
            connections=self.connections,
            **self.settings,
        )
        other.states = self.states
        return other

    def parameters(self, request: Request) -> Parameters:
        """The request's parameters over the adapter's settings; None leaves one out."""
        return Parameters(
            {**self.settings, **request.params},
            own=self.parameter_names,
            fixed=request.fixed_params,
        )

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._transport.close()

    async def aclose(self) -> None:
        """Like `close`, for asyncio."""
        await self._transport.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model}>"

    def _encoded(
        self, request: Request, *, stream: bool = False, omitted: Sequence[str] = ()
    ) -> Encoded:
        parameters = self.parameters(request)
        body = self.encode_with(request, parameters, stream=stream)
        return Encoded(request, body, [*parameters.omitted, *omitted])

    def _without_states(
        self, sent: Encoded, exc: Exception, *, stream: bool = False
    ) -> Encoded | None:
        """What to send instead if the provider refused the states of the messages, else None.

        A refusal comes before any work is done, so that both requests are one attempt.
        """
        request = self.states.without_states(sent.request, refusal_of_400(exc))
        if request is None:
            return None
        return self._encoded(request, stream=stream, omitted=(OMITTED,))

    def _decode(self, reply: Reply, omitted: Sequence[str]) -> Response[Any]:
        try:
            response = self.decode(reply)
        except _UNREADABLE as exc:
            raise unreadable(self.model) from exc
        self.states.remember(response.tool_calls, response.state)
        return replace(response, omitted=tuple(omitted)) if omitted else response

    def _decode_events(
        self, events: Iterable[StreamEvent], omitted: Sequence[str]
    ) -> Iterator[list[StreamEvent]]:
        """The events in one list, up to one that cannot be decoded, which is raised after them."""
        decoded: list[StreamEvent] = []
        error: Exception | None = None
        try:
            decoded.extend(events)
        except _UNREADABLE as exc:
            error = unreadable(self.model)
            error.__cause__ = exc
        except Exception as exc:  # noqa: BLE001 - raised after the events before it
            error = exc
        if decoded and isinstance(decoded[-1], End):
            end = decoded[-1]
            self.states.remember(end.tool_calls, end.state)
            if omitted:
                decoded[-1] = replace(end, omitted=tuple(omitted))
        if decoded:
            yield decoded
        if error is not None:
            raise error
