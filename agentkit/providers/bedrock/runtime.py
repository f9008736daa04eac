"""Converse and ConverseStream over the native transport: no thread for a request or a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final

from agentkit.errors import ConfigurationError
from agentkit.providers.bedrock.connection import limited, verification_of
from agentkit.providers.bedrock.frames import EventDecoder
from agentkit.providers.bedrock.operation import Operation
from agentkit.providers.transport.clients import SdkClients
from agentkit.providers.transport.http.address import Address, address_of
from agentkit.providers.transport.http.body import BodyDecoder, aread_body, read_body
from agentkit.providers.transport.http.request_head import merge_headers, request_head
from agentkit.providers.transport.options import ConnectionOptions

if TYPE_CHECKING:
    from agentkit.providers.transport.http.asyncio_client import AsyncHttpClient, AsyncHttpReply
    from agentkit.providers.transport.http.sync_client import SyncHttpClient, SyncHttpReply

_CLIENT_HEADERS: Mapping[str, str] = {"Accept-Encoding": "identity"}
"""What is sent beside the headers of the SDK, and not signed."""


_MOST_IN_LOOP: Final = 100_000
"""Bytes of texts and documents above which a request is prepared on a thread: checking, encoding
and signing a megabyte takes 10 ms, in which an event loop would do nothing else."""


class HttpRuntime:
    """Calls the models of one Region as an SDK client does, without its connections.

    `converse` and `converse_stream` take the arguments of the SDK's methods and return the same;
    the methods with an ``a`` before are for asyncio. Safe to use from many threads and event loops.

    Args:
        client: the SDK client that has the endpoint, the credentials and the options.
        executor: gives the threads on which an asyncio caller's credentials are renewed, and its
            large requests are prepared.
        options: of the connections (default: the client's).

    Raises:
        ConfigurationError: the client has an option that only the SDK serves.
    """

    def __init__(
        self,
        client: Any,
        executor: Callable[[], Executor],
        options: ConnectionOptions | None = None,
    ) -> None:
        _check_options(client)
        self._options = _options_of(client) if options is None else options
        self._client = client
        self._executor = executor
        self._converse = Operation(client, "Converse")
        self._converse_stream = Operation(client, "ConverseStream")
        self._address = _address_of(client, self._converse.endpoint)
        self._address.ca_bundle = self._options.ca_bundle or self._address.ca_bundle
        self._headers = {
            each: merge_headers(_CLIENT_HEADERS, self._address.headers, each.headers)
            for each in (self._converse, self._converse_stream)
        }
        self._clients: SdkClients[SyncHttpClient, AsyncHttpClient] = SdkClients(
            self._new_sync, self._new_async
        )

    def converse(self, **arguments: Any) -> dict[str, Any]:
        """Send a conversation and return the complete answer."""
        operation = self._converse
        return _response(operation, self._post(operation, arguments))

    def converse_stream(self, **arguments: Any) -> dict[str, Any]:
        """Send a conversation and open the stream of its answer."""
        operation = self._converse_stream
        reply = self._post(operation, arguments)
        if reply.status != 200:
            return _response(operation, reply)
        events = HttpEventStream(reply, operation.events())
        return operation.opening(reply.status, reply.headers, events)

    async def aconverse(self, **arguments: Any) -> dict[str, Any]:
        """Like `converse`, for asyncio."""
        operation = self._converse
        return await _aresponse(operation, await self._apost(operation, arguments))

    async def aconverse_stream(self, **arguments: Any) -> dict[str, Any]:
        """Like `converse_stream`, for asyncio; the stream has the events that came together."""
        operation = self._converse_stream
        reply = await self._apost(operation, arguments)
        if reply.status != 200:
            return await _aresponse(operation, reply)
        events = AsyncHttpEventStream(reply, operation.events())
        return operation.opening(reply.status, reply.headers, events)

    def warm_up(self, connections: int) -> None:
        """Open connections until as many are idle, at most as many as are kept."""
        self._clients.sync().open_idle(connections)

    async def awarm_up(self, connections: int) -> None:
        """Like `warm_up`, for the running event loop."""
        await self._clients.of_loop().open_idle(connections)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._clients.close()

    async def aclose(self) -> None:
        """Like `close`, waiting for the connections of the running loop."""
        await self._clients.aclose()

    def _post(self, operation: Operation, arguments: Mapping[str, Any]) -> SyncHttpReply:
        request = self._request(operation, arguments)
        return self._clients.sync().post(request, self._read_timeout())

    async def _apost(self, operation: Operation, arguments: Mapping[str, Any]) -> AsyncHttpReply:
        client = self._clients.of_loop()
        turn = client.turns.next_one()
        if turn is not None:
            await turn
        if operation.may_wait() or _is_longer_than(_MOST_IN_LOOP, arguments):
            loop = asyncio.get_running_loop()
            request = await loop.run_in_executor(
                self._executor(), self._request, operation, arguments
            )
        else:
            request = self._request(operation, arguments)
        return await client.post(request, self._read_timeout())

    def _request(self, operation: Operation, arguments: Mapping[str, Any]) -> bytes:
        path, body, headers = operation.request(arguments)
        address = self._address
        sent = {**self._headers[operation], **merge_headers(headers)}
        head = request_head(address.path + path, address.authority, sent)
        return b"%s%d\r\n\r\n%s" % (head, len(body), body)

    def _read_timeout(self) -> float:
        return float(limited(self._client.meta.config.read_timeout))

    def _new_sync(self) -> SyncHttpClient:
        from agentkit.providers.transport.http.sync_client import SyncHttpClient

        return SyncHttpClient(self._address, options=self._options)

    def _new_async(self) -> AsyncHttpClient:
        from agentkit.providers.transport.http.asyncio_client import AsyncHttpClient

        return AsyncHttpClient(self._address, options=self._options)


class HttpEventStream:
    """The events of a stream; iterate to receive them, and close it."""

    def __init__(self, reply: SyncHttpReply, decoder: EventDecoder) -> None:
        self._reply = reply
        self._body = BodyDecoder(reply.headers.get("content-encoding"))
        self._decoder = decoder
        self._finished = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        decoder = self._decoder
        for chunk in self._reply.chunks():
            yield from decoder.feed(self._body.feed(chunk))
            if decoder.error is not None:
                raise decoder.error
        self._finished = True

    def close(self) -> None:
        """Release the connection."""
        self._reply.release(finished=self._finished)


class AsyncHttpEventStream:
    """The events of a stream, for asyncio: those that arrived together come in one list.

    An async iterator would be one more coroutine that each event passes through.
    """

    __slots__ = ("_body", "_decoder", "_reply", "next_chunk")

    def __init__(self, reply: AsyncHttpReply, decoder: EventDecoder) -> None:
        self._reply = reply
        self._body = BodyDecoder(reply.headers.get("content-encoding"))
        self._decoder = decoder
        self.next_chunk = reply.next_chunk
        """The bytes that arrive next; empty at the end."""

    @property
    def error(self) -> Exception | None:
        """What is wrong after the events of the last chunk."""
        return self._decoder.error

    def decode(self, chunk: bytes) -> list[dict[str, Any]]:
        """The events that `chunk` completes."""
        return self._decoder.feed(self._body.feed(chunk))

    def close(self, *, finished: bool) -> None:
        """Release the connection, which is kept if everything was read."""
        self._reply.release(finished=finished)


def _is_longer_than(most: int, value: Any) -> bool:
    """Whether the texts and the bytes in `value` have more bytes, or characters, than `most`."""
    waiting, found = [value], 0
    while waiting:
        each = waiting.pop()
        kind = type(each)
        if kind is str or kind is bytes or kind is bytearray:
            found += len(each)
            if found > most:
                return True
        elif kind is dict:
            waiting += each.values()
        elif kind is list or kind is tuple:
            waiting += each
    return False


def _response(operation: Operation, reply: SyncHttpReply) -> dict[str, Any]:
    """The complete response of `reply`, whose connection is released."""
    return operation.response(reply.status, reply.headers, read_body(reply))


async def _aresponse(operation: Operation, reply: AsyncHttpReply) -> dict[str, Any]:
    return operation.response(reply.status, reply.headers, await aread_body(reply))


def _address_of(client: Any, endpoint: str) -> Address:
    """The address of `endpoint`, with the proxy and the certificates of `client`."""
    address = address_of(endpoint, client.meta.config.proxies)
    verification = verification_of(client)
    address.ca_bundle = verification if isinstance(verification, str) else None
    return address


def _options_of(client: Any) -> ConnectionOptions:
    """Those of `client`, which keeps as many idle connections as it may have."""
    config, usual = client.meta.config, ConnectionOptions()
    return ConnectionOptions(
        connect_timeout=float(config.connect_timeout),
        max_keepalive_connections=max(config.max_pool_connections, usual.max_keepalive_connections),
    )


def _check_options(client: Any) -> None:
    config = client.meta.config
    given = {
        "client_cert": config.client_cert,
        "proxies_config": config.proxies_config,
        "verify=False": verification_of(client) is False,
    }
    named = [name for name, value in given.items() if value]
    if named:
        raise ConfigurationError(
            f"the native transport does not have the SDK's option {', '.join(named)}",
            hint="leave it out, or use transport='sdk'",
        )
