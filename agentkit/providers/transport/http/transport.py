"""The native transport: requests as JSON over HTTP, responses as records."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from agentkit.errors import InvalidRequestError, LLMError
from agentkit.providers.requirements import check_base_url
from agentkit.providers.response_fields import ReportedError
from agentkit.providers.transport.base import READ_TIMEOUT, Body, Reply, unreadable
from agentkit.providers.transport.clients import SdkClients
from agentkit.providers.transport.http.address import Address, address_of, tls_context
from agentkit.providers.transport.http.body import (
    ACCEPTED_ENCODINGS,
    BodyDecoder,
    EventParser,
    MalformedBodyError,
    aread_body,
    read_body,
)
from agentkit.providers.transport.http.failures import (
    HttpStatusError,
    MalformedResponseError,
    UnsendableHeaderError,
)
from agentkit.providers.transport.http.record import Record, parse, serialize, typed_parser
from agentkit.providers.transport.http.request_head import (
    encode_query,
    merge_headers,
    request_head,
)
from agentkit.providers.transport.options import ConnectionOptions

if TYPE_CHECKING:
    from agentkit.providers.transport.http.asyncio_client import AsyncHttpClient, AsyncHttpReply
    from agentkit.providers.transport.http.sync_client import SyncHttpClient

_DONE = b"[DONE]"
_LONGEST_ERROR = 1 << 20
_MOST_HEADS = 16


class HttpApi(NamedTuple):
    """A method of an API that is called with JSON over HTTP.

    Attributes:
        path: the path of the method, below the address.
        url: the provider's own address.
        variables: how the environment variables begin that replace the address (``…_BASE_URL``)
            and add headers (``…_CUSTOM_HEADERS``, one per line), as the SDK does; empty: none.
    """

    path: str
    url: str
    variables: str = ""

    def address(self, given: str | None) -> str:
        """The address: `given`, else that in the environment, else the provider's own.

        Raises:
            ConfigurationError: the one in the environment is not valid.
        """
        named = os.environ.get(f"{self.variables}_BASE_URL") if self.variables else None
        return check_base_url(given or named or self.url)

    def custom_headers(self) -> dict[str, str]:
        """The headers that the environment adds."""
        text = os.environ.get(f"{self.variables}_CUSTOM_HEADERS", "") if self.variables else ""
        pairs = (line.partition(":") for line in text.split("\n") if ":" in line)
        return {name.strip(): value.strip() for name, _, value in pairs}


class HttpTransport:
    """One method of an HTTP API, called without an SDK.

    `address` gives the address and the headers that authenticate; it is called when a client is
    first needed. `locate` gives the path of a request and its JSON; it may change the body.
    Responses are records of the type `record`. `reply_record` and `event_record` give the types of
    msgspec that most complete responses and most events of a stream have, or None. `options` are
    those of its connections.
    """

    def __init__(
        self,
        api: HttpApi,
        address: Callable[[], tuple[str, dict[str, str]]],
        locate: Callable[[Body, bool], tuple[str, Body]],
        *,
        record: type[Record] = Record,
        reply_record: Callable[[], type[Any] | None] = lambda: None,
        event_record: Callable[[], type[Any] | None] = lambda: None,
        options: ConnectionOptions = ConnectionOptions(),  # noqa: B008 - immutable
    ) -> None:
        self._api = api
        self._address = address
        self._locate = locate
        self._record = record
        self._reply_record = reply_record
        self._event_record = event_record
        self._options = options
        self._prefix = ""
        self._host = ""
        self._headers: dict[str, str] = {}
        self._heads: dict[str, bytes] = {}
        """The heads of requests without headers of their own, by path."""
        self._clients: SdkClients[SyncHttpClient, AsyncHttpClient] = SdkClients(
            self._new_sync, self._new_async
        )

    def prepare(self) -> None:
        """Import the HTTP clients, and read the certificates."""
        for name in ("sync_client", "asyncio_client"):
            import_module(f"agentkit.providers.transport.http.{name}")
        import_module("msgspec")
        if self._address()[0].startswith("https:"):
            tls_context(self._options.ca_bundle)

    def warm_up(self, connections: int) -> None:
        """Open connections until as many are idle."""
        self._clients.sync().open_idle(connections)

    async def awarm_up(self, connections: int) -> None:
        """Like `warm_up`, for the running event loop."""
        await self._clients.of_loop().open_idle(connections)

    def send(self, body: Body, *, read_timeout: float | None) -> Reply:
        """Send a request and receive its complete response."""
        client = self._clients.sync()
        reply = client.post(*self._request(body, read_timeout, stream=False))
        data = read_body(reply)
        _check_status(reply.status, reply.headers, data)
        return Reply(_read(data, self._reply_record(), self._record), reply.headers)

    async def asend(self, body: Body, *, read_timeout: float | None) -> Reply:
        """Like `send`, for asyncio."""
        client = self._clients.of_loop()
        reply = await client.post(*self._request(body, read_timeout, stream=False))
        data = await aread_body(reply)
        _check_status(reply.status, reply.headers, data)
        return Reply(_read(data, self._reply_record(), self._record), reply.headers)

    @contextmanager
    def stream(self, body: Body, *, read_timeout: float | None) -> Iterator[Reply]:
        """Send a request and open the stream of its response."""
        client = self._clients.sync()
        reply = client.post(*self._request(body, read_timeout, stream=True))
        if not 200 <= reply.status < 300:
            _check_status(reply.status, reply.headers, read_body(reply))
        reader = _EventReader(reply.headers, self._record, self._event_record())
        try:
            yield Reply(_events(reply.chunks(), reader), reply.headers)
        finally:
            reply.release(finished=reader.finished)

    @asynccontextmanager
    async def astream(self, body: Body, *, read_timeout: float | None) -> AsyncIterator[Reply]:
        """Like `stream`, for asyncio."""
        client = self._clients.of_loop()
        reply = await client.post(*self._request(body, read_timeout, stream=True))
        if not 200 <= reply.status < 300:
            _check_status(reply.status, reply.headers, await aread_body(reply))
        reader = _EventReader(reply.headers, self._record, self._event_record())
        try:
            yield Reply(_aevents(reply, reader), reply.headers)
        finally:
            reply.release(finished=reader.finished)

    def translate(self, exc: Exception, model: str) -> LLMError | None:
        """The error of a response that cannot be read, or of a request that cannot be sent."""
        if isinstance(
            exc, MalformedResponseError | MalformedBodyError | ValueError | RecursionError
        ):
            return unreadable(model)
        if isinstance(exc, UnsendableHeaderError):
            return InvalidRequestError(str(exc), hint="check extra_headers and …_CUSTOM_HEADERS")
        if isinstance(exc, TypeError):
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

    def _new_sync(self) -> SyncHttpClient:
        from agentkit.providers.transport.http.sync_client import SyncHttpClient

        return SyncHttpClient(self._find_address(), options=self._options)

    def _new_async(self) -> AsyncHttpClient:
        from agentkit.providers.transport.http.asyncio_client import AsyncHttpClient

        return AsyncHttpClient(self._find_address(), options=self._options)

    def _find_address(self) -> Address:
        url, headers = self._address()
        address = address_of(url)
        address.ca_bundle = self._options.ca_bundle
        usual = {
            "Content-Type": "application/json",
            "Accept-Encoding": ACCEPTED_ENCODINGS,
            "User-Agent": "agentkit",
        }
        self._headers = merge_headers(usual, headers, self._api.custom_headers(), address.headers)
        self._prefix, self._host, self._heads = address.path, address.authority, {}
        return address

    def _request(
        self, body: Body, read_timeout: float | None, *, stream: bool
    ) -> tuple[bytes, float]:
        """The bytes and the time limit of a request.

        ``extra_body``, ``extra_headers``, ``extra_query`` and ``timeout`` mean what they mean to
        the SDKs.
        """
        more, query = body.pop("extra_headers", None), body.pop("extra_query", None)
        extra, timeout = body.pop("extra_body", None), body.pop("timeout", None)
        if extra:
            body.update(extra)
        path, content = self._locate(body, stream)
        if query:
            path += ("&" if "?" in path else "?") + encode_query(query)
        if read_timeout is None:
            read_timeout = timeout if isinstance(timeout, int | float) else READ_TIMEOUT
        data = serialize(content)
        return b"%s%d\r\n\r\n%s" % (self._head(path, more), len(data), data), read_timeout

    def _head(self, path: str, more: Mapping[str, str] | None) -> bytes:
        if more:
            return request_head(self._prefix + path, self._host, merge_headers(self._headers, more))
        head = self._heads.get(path)
        if head is None:
            head = request_head(self._prefix + path, self._host, self._headers)
            if len(self._heads) < _MOST_HEADS:
                self._heads[path] = head
        return head


class _EventReader:
    """Reads the records in the body of an event stream."""

    __slots__ = ("_event_record", "_parser", "_record", "body", "error", "finished")

    def __init__(
        self,
        headers: Mapping[str, str],
        record: type[Record],
        event_record: type[Any] | None,
    ) -> None:
        self.body = BodyDecoder(headers.get("content-encoding"))
        self._parser = EventParser()
        self._record = record
        self._event_record = event_record
        self.error: Exception | None = None
        """The fault in the body, or the error that it reports."""
        self.finished = False
        """Whether the end of the body, or the mark at the end of the events, was read."""

    def read(self, chunk: bytes) -> list[Any]:
        """The records that `chunk` completes, up to the fault that is kept in `error`."""
        records: list[Any] = []
        try:
            for data in self._parser.feed(self.body.feed(chunk)):
                if data.startswith(_DONE):
                    self.finished = True
                    break
                records.append(_without_error(_read(data, self._event_record, self._record)))
        except Exception as fault:  # noqa: BLE001 - raised after the records before it
            self.error = fault
        return records


def _check_status(status: int, headers: Mapping[str, str], data: bytes) -> None:
    """Raises `HttpStatusError` if the response with the body `data` is an error."""
    if 200 <= status < 300:
        return
    content = None
    if len(data) <= _LONGEST_ERROR:
        try:
            content = parse(data)
        except ValueError:
            content = data.decode(errors="replace")
    raise HttpStatusError(status, headers, content)


def _read(data: bytes, typed: type[Any] | None, kind: type[Record]) -> Any:
    """JSON as an object of the type `typed` of msgspec, or else as a record.

    Raises `MalformedResponseError` if it is not an object.
    """
    if typed is not None:
        try:
            return typed_parser(typed)(data)
        except ValueError:
            pass
    return _as_record(parse(data), kind)


def _as_record(content: Any, kind: type[Record]) -> Record:
    """JSON as a record. Raises `MalformedResponseError` if it is not an object."""
    if not isinstance(content, dict):
        raise MalformedResponseError(f"the response is a JSON {type(content).__name__}")
    return kind(content)


def _without_error(record: Any) -> Any:
    """`record`. Raises the error that it reports."""
    error = record.error
    if error:
        raise ReportedError(error if isinstance(error, dict) else {"message": error})
    return record


def _events(chunks: Iterator[bytes], reader: _EventReader) -> Iterator[list[Any]]:
    for chunk in chunks:
        if records := reader.read(chunk):
            yield records
        if reader.error is not None:
            raise reader.error
        if reader.finished:
            return
    reader.finished = True


async def _aevents(reply: AsyncHttpReply, reader: _EventReader) -> AsyncIterator[list[Any]]:
    while chunk := await reply.next_chunk():
        if records := reader.read(chunk):
            yield records
        if reader.error is not None:
            raise reader.error
        if reader.finished:
            return
    reader.finished = True
