"""Keeps the tests, the pages and the examples on this machine."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any

_GUARDED = {"socket.connect", "socket.getaddrinfo", "socket.sendto"}


def forbid_network() -> None:
    """Make every later attempt to leave this machine fail loudly, for the life of the process."""
    sys.addaudithook(_refuse)


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    if event not in _GUARDED:
        return
    host = args[0] if event == "socket.getaddrinfo" else args[1]
    if isinstance(host, tuple):
        host = host[0]
    elif event != "socket.getaddrinfo":
        return  # a Unix socket: its address is a path
    if not _local(host):
        msg = f"{event} to {host!r}: the tests stay on this machine"
        raise RuntimeError(msg)


def _local(host: Any) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in {None, "", "localhost"}:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
