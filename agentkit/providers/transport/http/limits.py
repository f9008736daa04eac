"""The time limits of a new connection: one for each step."""

from __future__ import annotations

from typing import Final, NamedTuple

from agentkit.providers.transport.base import CONNECT_TIMEOUT
from agentkit.providers.transport.http.address import Address
from agentkit.providers.transport.http.failures import HttpTimeoutError

DNS_TIMEOUT: Final = 5.0
"""Seconds to find the addresses of a host: what resolvers wait for the first name server."""
TLS_TIMEOUT: Final = 5.0
"""Seconds for the TLS handshake."""


class ConnectLimits(NamedTuple):
    """Seconds for each step of a new connection.

    Attributes:
        dns: to find the addresses of the host.
        connect: to connect to one of them, and for a proxy to open a tunnel.
        tls: for the TLS handshake.
    """

    dns: float = DNS_TIMEOUT
    connect: float = CONNECT_TIMEOUT
    tls: float = TLS_TIMEOUT


class Step(NamedTuple):
    """One step of a new connection, and its limit in seconds.

    Attributes:
        failure: what its error says.
        seconds: its limit.
    """

    failure: str
    seconds: float

    def error(self, allowed: float) -> HttpTimeoutError:
        """The error if it took too long; `allowed` are the seconds that the request had left."""
        if allowed < self.seconds:
            return HttpTimeoutError(f"{self.failure} in the {allowed:.3g} s that the request had")
        return HttpTimeoutError(f"{self.failure} within {self.seconds:g} s")


class ConnectSteps:
    """The steps of a new connection to `address`, in order.

    Attributes:
        dns: finds the addresses of the host.
        connect: connects to one of them.
        tunnel: the proxy connects to the host.
        tls: the handshake.
    """

    __slots__ = ("connect", "dns", "tls", "tunnel")

    def __init__(self, address: Address, limits: ConnectLimits) -> None:
        host, port = address.first_address
        self.dns = Step(f"DNS: no address of {host} was found", limits.dns)
        self.connect = Step(f"connect: {host}:{port} did not accept a connection", limits.connect)
        self.tunnel = Step(f"connect: the proxy {host}:{port} opened no tunnel", limits.connect)
        self.tls = Step(f"TLS: {address.host} did not complete the handshake", limits.tls)
