"""The exceptions of the native transport."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from agentkit.providers.transport.http.address import Address


class HttpStatusError(Exception):
    """The response has a status other than 2xx.

    `body` is the JSON of the response, or None if it has none.
    """

    def __init__(self, status_code: int, headers: Mapping[str, str], body: Any) -> None:
        super().__init__(f"HTTP {status_code}")
        self.status_code = status_code
        self.headers = headers
        self.body = body
        self.request_id = headers.get("x-request-id") or headers.get("request-id")


class HttpConnectionError(ConnectionError):
    """No connection to the address, or one that broke."""

    def __init__(self, address: Address, what: str) -> None:
        super().__init__(what)
        url = SimpleNamespace(scheme=address.scheme, host=address.host, port=address.port)
        self.request = SimpleNamespace(url=url, proxy=address.proxy)


class HttpTimeoutError(TimeoutError):
    """The connection was not established, or no byte came, within its time limit."""


class MalformedResponseError(Exception):
    """What the server sent is not HTTP, or not what its headers say."""


class UnsendableHeaderError(Exception):
    """A header of a request that would break it. The message has its name, never its value."""


class IncompleteResponseError(ConnectionError):
    """The connection was closed before the response had ended."""


def connection_error(error: OSError, address: Address) -> HttpConnectionError | HttpTimeoutError:
    """What an exception of a socket means; one of this module stays as it is."""
    if isinstance(error, HttpTimeoutError):
        return error
    if isinstance(error, TimeoutError):
        return HttpTimeoutError("no response in time")
    return HttpConnectionError(address, str(error))
