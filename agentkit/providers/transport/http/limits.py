"""The steps of a new connection, and the error of each if it takes too long."""

from __future__ import annotations

from typing import NamedTuple

from agentkit.providers.transport.http.address import Address
from agentkit.providers.transport.http.failures import HttpTimeoutError


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
    """The steps of a new connection to `address`, in order; `seconds` limits each.

    Attributes:
        dns: finds the addresses of the host.
        connect: connects to one of them.
        tunnel: the proxy connects to the host.
        tls: the handshake.
    """

    __slots__ = ("connect", "dns", "tls", "tunnel")

    def __init__(self, address: Address, seconds: float) -> None:
        host, port = address.first_address
        self.dns = Step(f"DNS: no address of {host} was found", seconds)
        self.connect = Step(f"connect: {host}:{port} did not accept a connection", seconds)
        self.tunnel = Step(f"connect: the proxy {host}:{port} opened no tunnel", seconds)
        self.tls = Step(f"TLS: {address.host} did not complete the handshake", seconds)
