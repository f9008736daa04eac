"""The options of the native transport's connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.policy.validation import checked_keywords, instance, number, whole_number
from agentkit.providers.transport.base import CONNECT_TIMEOUT


@checked_keywords(timeout="connect_timeout", verify="ca_bundle")
@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """How the native transport opens and keeps connections to a provider.

    A connection carries one request at a time, so ``max_concurrency`` of a model limits how many
    there are: further calls wait for a place.

    Args:
        connect_timeout: seconds for each step of a new connection: finding the host's address,
            connecting, the tunnel of a proxy, and the TLS handshake (default 5.0). The time limit
            of the request holds for all of them together.
        keepalive_expiry: seconds after which an idle connection is not used again (default 60.0,
            since most servers close it then). They are measured by the time of day, which includes
            the time that the machine sleeps; if it jumps, an idle connection is lost, no more.
        max_keepalive_connections: idle connections that are kept for each key, by each event loop
            and by all threads together (default 100). 0: each request has a connection of its own.
        ca_bundle: a file with the certificates that are trusted (PEM), or a folder prepared by
            ``openssl rehash``, in place of all others (default: those of ``SSL_CERT_FILE`` and
            ``SSL_CERT_DIR``, else of certifi; for Bedrock, botocore's).

    Raises:
        ConfigurationError: a value is out of range.
    """

    connect_timeout: float = CONNECT_TIMEOUT
    keepalive_expiry: float = 60.0
    max_keepalive_connections: int = 100
    ca_bundle: str | None = None

    def __post_init__(self) -> None:
        number("connect_timeout", self.connect_timeout, above=True)
        number("keepalive_expiry", self.keepalive_expiry, above=True)
        whole_number("max_keepalive_connections", self.max_keepalive_connections, minimum=0)
        bundle: Any = self.ca_bundle
        if bundle is not None and not (isinstance(bundle, str) and bundle):
            raise ConfigurationError(
                f"ca_bundle must be a path, got {bundle!r}",
                hint="pass the path of a file or a folder of certificates as a string",
            )


def check_connections(connections: Any, transport: str, *, hint: str | None = None) -> None:
    """Check that `connections`, if given, are options of the native transport, which is chosen.

    `hint` says what to do where an SDK is chosen.

    Raises:
        ConfigurationError: they are not, or it is not.
    """
    if connections is None:
        return
    instance(
        "connections",
        connections,
        ConnectionOptions,
        hint="pass ConnectionOptions(connect_timeout=2)",
    )
    if transport != "native":
        raise ConfigurationError(
            "connections= is for the native transport, and this model uses the SDK",
            hint=hint or "choose transport='native', or leave connections= out",
        )
