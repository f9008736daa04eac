"""The address of a store: its URL, checked, and a client for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agentkit.errors import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    import redis

PATIENCE: Final = 0.1
"""Seconds for which the store may be silent before it counts as lost."""
CONNECT_TIMEOUT: Final = 1.0
"""Seconds that a connection may take. Only the thread of the fleet waits for it."""

_SCHEMES: Final = {
    "valkey": "redis",
    "redis": "redis",
    "valkeys": "rediss",
    "rediss": "rediss",
    "unix": "unix",
}


def checked_url(url: Any) -> str:
    """The URL of a store in the form that redis-py reads.

    Raises:
        ConfigurationError: it is not the URL of a store. The message does not quote it, as it may
            contain a password.
    """
    scheme, separator, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    if not separator or not rest or scheme not in _SCHEMES:
        raise ConfigurationError(
            "fleet is not the URL of a store",
            hint="use valkey://host:6379/0, valkeys:// or rediss:// for TLS, or unix:///path",
        )
    return f"{_SCHEMES[scheme]}://{rest}"


def connect(url: str) -> redis.Redis:
    """A client for the store at `url`. It connects with the first command, and never retries.

    Raises:
        ConfigurationError: `url` is not the URL of a store.
        MissingDependencyError: redis-py is not installed.
    """
    address = checked_url(url)
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise MissingDependencyError(
            "a fleet needs the package redis",
            hint='install it with pip install "agentkit-llms[fleet]"',
        ) from error
    try:
        return redis.Redis.from_url(
            address,
            protocol=2,
            driver_info=None,  # else each connection takes two more round trips
            socket_timeout=PATIENCE,
            socket_connect_timeout=CONNECT_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
    except ValueError:  # without its text, which may quote a password
        raise ConfigurationError(
            "fleet is not a valid URL of a store",
            hint="use valkey://host:6379/0; quote special characters of the password (%40)",
        ) from None
