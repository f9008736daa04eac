"""The address of an API, its proxy, and the certificates that are trusted."""

from __future__ import annotations

import os
import ssl
from base64 import b64encode
from functools import cache
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from agentkit.errors import ConfigurationError

IDLE_SECONDS: Final = 60.0
"""Seconds after which an idle connection is closed, before most servers close it."""


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
    """

    def __init__(self, url: str, proxy: SplitResult | None) -> None:
        parts = urlsplit(url)
        self.scheme, self.port = parts.scheme, parts.port
        self.secure = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.authority = parts.netloc.rpartition("@")[2]
        self.path = parts.path
        self.headers: dict[str, str] = {}
        """What every request has for the proxy."""
        port = parts.port or (443 if self.secure else 80)
        self.first_address = (self.host, port)
        self.tunnel: bytes | None = None
        if proxy is None:
            return
        self.first_address = (proxy.hostname or "", proxy.port or 80)
        headers = _credentials(proxy)
        if self.secure:
            host = f"[{self.host}]" if ":" in self.host else self.host
            lines = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            self.tunnel = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        else:
            self.path = f"{self.scheme}://{self.authority}{parts.path}"
            self.headers = headers

    def check_tunnel(self, status: int) -> None:
        """Raises `ConnectionError` if the proxy did not open a tunnel."""
        if status != 200:
            raise ConnectionRefusedError(f"the proxy answered {status}")


def address_of(url: str) -> Address:
    """The address at `url`, with the proxy that the environment names for it.

    Raises:
        ConfigurationError: the proxy is not an HTTP proxy.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    named = proxies.get(parts.scheme) or proxies.get("all")
    if not named or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return Address(url, None)
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise ConfigurationError(
            f"the proxy for {parts.scheme} has the scheme {proxy.scheme!r}",
            hint="the native transport can use an http:// proxy; or use transport='sdk'",
        )
    return Address(url, proxy)


def _credentials(proxy: SplitResult) -> dict[str, str]:
    """The header with the user and the password in the URL of a proxy."""
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


@cache
def tls_context() -> ssl.SSLContext:
    """The certificates that are trusted: those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if not file and not folder:
        import certifi

        file = certifi.where()
    context = ssl.create_default_context(cafile=file or None, capath=folder or None)
    context.set_alpn_protocols(["http/1.1"])
    return context
