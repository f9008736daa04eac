"""The interface of a transport."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from agentkit.errors import InvalidResponseError, LLMError

CONNECT_TIMEOUT: Final = 5.0
"""Seconds to connect; a provider that takes longer counts as down."""
READ_TIMEOUT: Final = 600.0
"""Seconds without a byte where the request has no time limit."""

Body: TypeAlias = dict[str, Any]
"""An encoded request. A transport may change the outermost dict; it is made for one call."""


class Reply(NamedTuple):
    """A response as the transport received it.

    Attributes:
        content: the complete response, or an iterator of lists of a stream's events, each with
            those that arrived together (an async iterator from `Transport.astream`); objects with
            the attributes that the API documents.
        headers: of the HTTP response.
    """

    content: Any
    headers: Mapping[str, str]


class Transport(Protocol):
    """Sends encoded requests to one provider; it neither encodes nor decodes.

    `read_timeout` limits the seconds between two bytes; None: `READ_TIMEOUT`. Nothing is retried.
    When the context of a stream is left, its connection is released. Safe to use from many threads
    and event loops.
    """

    def prepare(self) -> None:
        """Do what takes long and is needed once, such as importing an SDK."""
        ...

    def warm_up(self, connections: int) -> None:
        """Open connections until as many are idle; an SDK cannot, and only makes its client."""
        ...

    async def awarm_up(self, connections: int) -> None:
        """Like `warm_up`, for the running event loop."""
        ...

    def send(self, body: Body, *, read_timeout: float | None) -> Reply:
        """Send a request and receive its complete response."""
        ...

    async def asend(self, body: Body, *, read_timeout: float | None) -> Reply:
        """Like `send`, for asyncio."""
        ...

    def stream(self, body: Body, *, read_timeout: float | None) -> AbstractContextManager[Reply]:
        """Send a request and open the stream of its response."""
        ...

    def astream(
        self, body: Body, *, read_timeout: float | None
    ) -> AbstractAsyncContextManager[Reply]:
        """Like `stream`, for asyncio."""
        ...

    def translate(self, exc: Exception, model: str) -> LLMError | None:
        """The agentkit error for an exception of the transport; None: use the general rules."""
        ...

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        ...

    async def aclose(self) -> None:
        """Like `close`, for asyncio."""
        ...


def unreadable(model: str) -> InvalidResponseError:
    """The error of a response that does not have the shape that its API documents."""
    return InvalidResponseError(f"{model} sent a response that cannot be read")


def with_extra_body(arguments: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """`arguments` with those that the SDK does not know moved into ``extra_body``."""
    unknown = [name for name in arguments if name not in known]
    if not unknown:
        return arguments
    extra = dict(arguments.get("extra_body") or {})
    for name in unknown:
        extra[name] = arguments.pop(name)
    return {**arguments, "extra_body": extra}
