"""Sockets that are connected to a server of a store, and logged in."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final

from agentkit.state.address import CONNECT_TIMEOUT, Address
from agentkit.state.line import Node
from agentkit.state.resp import MISSING, Command, Replies, ReplyError, pack

_VERIFY: Final = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}


def open_socket(address: Address, node: Node) -> socket.socket:
    """A socket for one server at `address`, which does not block.

    Raises:
        OSError: it cannot be reached, or does not answer in time.
        ReplyError: it does not accept the user or the database.
    """
    sock = _connect(address, node)
    try:
        _log_in(sock, address)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(address: Address, node: Node) -> socket.socket:
    if address.kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(CONNECT_TIMEOUT)
            sock.connect(address.path)
        except BaseException:
            sock.close()
            raise
        return sock
    sock = socket.create_connection(node, CONNECT_TIMEOUT)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if address.tls is not None:
            return _context(address.tls).wrap_socket(sock, server_hostname=node[0])
    except BaseException:
        sock.close()
        raise
    return sock


def _context(options: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    verify = _VERIFY[options.get("ssl_cert_reqs", "required")]
    context.check_hostname = verify is not ssl.CERT_NONE and options.get("ssl_check_hostname", True)
    context.verify_mode = verify
    if "ssl_certfile" in options:
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context


def _log_in(sock: socket.socket, address: Address) -> None:
    commands: list[Command] = []
    if address.password is not None or address.username is not None:
        user = () if address.username is None else (address.username,)
        commands.append(("AUTH", *user, address.password or ""))
    if address.db:
        commands.append(("SELECT", address.db))
    if not commands:
        return
    sock.sendall(b"".join(pack(each) for each in commands))
    replies = Replies()
    for _ in commands:
        while (reply := replies.take()) is MISSING:
            data = sock.recv(4096)
            if not data:
                raise ConnectionError("the server closed the connection")
            replies.feed(data)
        if isinstance(reply, ReplyError):
            raise reply
