"""The SDK's connections: with the time limit of an attempt, and cancelled from any thread.

The SDK offers neither, so its connections get a class that knows which request they carry. What has
no public name in the SDK is used here only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from agentkit.providers.transport.connection import CancelScope, current_scope

_silence: ContextVar[float | None] = ContextVar("agentkit_bedrock_silence", default=None)


@contextmanager
def read_timeout(silence: float | None) -> Iterator[None]:
    """Requests of this context time out after `silence` seconds without data.

    None: as the client says.
    """
    token = _silence.set(silence)
    try:
        yield
    finally:
        _silence.reset(token)


def make_cancellable(client: Any) -> None:
    """Give the connections of an SDK client the class that obeys a `CancelScope`.

    A client with other internals than expected stays as it is; its own time limits end its
    requests.
    """
    pools = getattr(_http_session(client), "_pool_classes_by_scheme", None)
    if isinstance(pools, dict):
        pools.update(_pools())


def verification_of(client: Any) -> bool | str:
    """How an SDK client verifies certificates: against a file or a folder, by default, or not."""
    verify = getattr(_http_session(client), "_verify", True)
    return verify if isinstance(verify, bool) else str(verify)


def credentials_of(signer: Any) -> tuple[Any, Any]:
    """The credentials and the token with which botocore's `signer` signs, or None each.

    One that cannot be found is an object of another type.
    """
    return getattr(signer, "_credentials", signer), getattr(signer, "_auth_token", signer)


def _http_session(client: Any) -> Any:
    return getattr(getattr(client, "_endpoint", None), "http_session", None)


@functools.cache
def _pools() -> dict[str, Any]:
    from botocore import awsrequest

    def of(pool: Any) -> Any:
        connection = type("Connection", (_Cancellable, pool.ConnectionCls), {})
        return type("Pool", (pool,), {"ConnectionCls": connection})

    return {
        "http": of(awsrequest.AWSHTTPConnectionPool),
        "https": of(awsrequest.AWSHTTPSConnectionPool),
    }


class _Cancellable:
    """A mixin for the SDK's connections."""

    scope: CancelScope | None = None
    timeout: Any

    @property
    def socket(self) -> Any:
        return self.sock  # type: ignore[attr-defined]

    def request(self, *args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is not None:
            scope.use(self)
        self.timeout = limited(self.timeout)
        return super().request(*args, **kwargs)  # type: ignore[misc]

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is not None:
            scope.check()
        self.timeout = limited(self.timeout)
        return super().getresponse(*args, **kwargs)  # type: ignore[misc]


def limited(timeout: Any) -> Any:
    """`timeout`, or the seconds of `read_timeout` if they are fewer."""
    silence = _silence.get()
    if silence is None or not isinstance(timeout, int | float):
        return timeout
    return min(timeout, silence)
