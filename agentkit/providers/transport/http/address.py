"""The address of an API, its proxy, and the certificates that are trusted."""

from __future__ import annotations

import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from agentkit.errors import ConfigurationError

END_SECONDS: Final = 0.1
"""Seconds that a request waits for the end of the last response on a connection, which follows the
last event of a stream in a packet of its own. A new connection takes about as long."""
NEXT_ADDRESS_SECONDS: Final = 0.5
"""Seconds after which the next address of a name is tried, such as the IPv4 one."""


class TunnelError(ConnectionRefusedError):
    """The proxy did not open a tunnel."""


class Address:
    """The address of an API, and the proxy in front of it.

    Attributes:
        host: its host, without the brackets of an IPv6 address.
        authority: its host and port, as the header ``Host`` has them.
        path: what the path of every request begins with; the complete URL, if a proxy forwards
            them.
        secure: whether it is reached over TLS.
        first_address: the host and the port to connect to.
        tunnel: the request by which a proxy opens a tunnel; None: there is no tunnel.
        proxy: host and port of its proxy; None: there is none.
        ca_bundle: a file or a folder with the certificates that are trusted; None: see
            `tls_context`.
    """

    def __init__(self, url: str, proxy: SplitResult | None) -> None:
        parts = urlsplit(url)
        self.scheme, self.port = parts.scheme, parts.port
        self.secure = parts.scheme == "https"
        self.host = _ascii_host(parts)
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.authority = host if parts.port is None else f"{host}:{parts.port}"
        self.path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
        self.headers: dict[str, str] = _credentials(parts, "Authorization")
        """What every request has for the user and the password of the URL, and for the proxy."""
        port = parts.port or (443 if self.secure else 80)
        self.first_address = (self.host, port)
        self.tunnel: bytes | None = None
        self.proxy: str | None = None
        self.ca_bundle: str | None = None
        if proxy is None:
            return
        self.first_address = (proxy.hostname or "", proxy.port or 80)
        self.proxy = "{}:{}".format(*self.first_address)
        headers = _credentials(proxy, "Proxy-Authorization")
        if self.secure:
            lines = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            self.tunnel = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        else:
            self.path = f"{self.scheme}://{self.authority}{self.path}"
            self.headers |= headers

    def check_tunnel(self, status: int) -> None:
        """Raises `TunnelError` if the proxy did not open a tunnel."""
        if not 200 <= status < 300:
            raise TunnelError(f"the proxy answered {status}")

    def __repr__(self) -> str:
        return f"<Address {self.scheme}://{self.authority}>"


def address_of(url: str, proxies: Mapping[str, str] | None = None) -> Address:
    """The address at `url`, with the proxy for its scheme in `proxies`.

    None: with the proxy that the environment names for it.

    Raises:
        ConfigurationError: the proxy is not an HTTP proxy; the message has no part of its URL but
            the scheme, since it may contain a password.
    """
    parts = urlsplit(url)
    if proxies is None:
        whose, found = "the environment's proxy", getproxies()
        bypassed = bool(proxy_bypass(parts.netloc.rpartition("@")[2])) or _is_in_no_proxy(
            parts.hostname or "", found.get("no", "")
        )
    else:
        whose, found, bypassed = "the proxy", dict(proxies), False
    named = found.get(parts.scheme) or found.get("all")
    if not named or bypassed:
        return Address(url, None)
    proxy = _parse_proxy(named)
    if proxy is None:
        raise ConfigurationError(
            f"{whose} for {parts.scheme} is not a valid URL",
            hint="write it as http://host:port",
        )
    if proxy.scheme != "http":
        raise ConfigurationError(
            f"{whose} for {parts.scheme} has the scheme {proxy.scheme!r}",
            hint="the native transport can use an http:// proxy; or use transport='sdk'",
        )
    return Address(url, proxy)


def _is_in_no_proxy(host: str, listed: str) -> bool:
    """Whether `host` is in the value of NO_PROXY, by what `urllib` leaves out.

    It knows names, and the SDKs know networks such as ``10.0.0.0/8``, ``*.example.com``, addresses
    of IPv6, and ``*`` beside others.
    """
    for each in listed.lower().split(","):
        name = each.strip()
        if name == "*" or (name.startswith("*.") and host.endswith(name[1:])):
            return True
        with suppress(ValueError):  # not an address
            if ip_address(host) in ip_network(name.strip("[]"), strict=False):
                return True
    return False


def _parse_proxy(named: str) -> SplitResult | None:
    try:
        proxy = urlsplit(named if "://" in named else f"http://{named}")
        _ = proxy.port  # one that is not a number raises only here
    except ValueError:
        return None
    return proxy if proxy.hostname else None


def _ascii_host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:  # an address of IPv6
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise ConfigurationError(f"base_url has an invalid host: {host!r}") from None


def _credentials(url: SplitResult, header: str) -> dict[str, str]:
    """The header with the user and the password in a URL, if it has any."""
    if url.username is None:
        return {}
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {header: f"Basic {b64encode(pair.encode()).decode()}"}


def tls_context(ca_bundle: str | None = None) -> ssl.SSLContext:
    """The certificates that are trusted: those of `ca_bundle`, which is a file or a folder.

    None: those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's.

    Raises:
        ConfigurationError: they cannot be read.
    """
    if ca_bundle is not None:
        in_folder = Path(ca_bundle).is_dir()
        return _tls_context(None if in_folder else ca_bundle, ca_bundle if in_folder else None)
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    return _tls_context(file or None, folder or None)


@lru_cache(16)  # reading them takes longer than a call
def _tls_context(file: str | None, folder: str | None) -> ssl.SSLContext:
    if file is None and folder is None:
        import certifi

        file = certifi.where()
    try:
        context = ssl.create_default_context(cafile=file, capath=folder)
    except OSError as error:
        raise ConfigurationError(
            f"the certificates in {file or folder} cannot be read: {error}",
            hint="check ca_bundle=, SSL_CERT_FILE and SSL_CERT_DIR, or AWS_CA_BUNDLE for Bedrock",
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def set_options(connected: socket.socket) -> None:
    """Send small packets at once, and notice in two minutes that the other side is gone."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if (option := getattr(socket, name, None)) is not None:  # not on every platform
            connected.setsockopt(socket.IPPROTO_TCP, option, value)
