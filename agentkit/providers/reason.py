"""The reason and the place of a failure, for an error's message: without secrets, and short."""

from __future__ import annotations

import os
import re
import socket
import ssl
from contextlib import suppress
from typing import Any

from agentkit.policy.causes import causes_of

_LONGEST = 300
_READ = 10_000  # characters at most; enough for what remains after secrets are left out
_SECRETS = re.compile(
    r"(?i:bearer\s+\S+)"
    r"|(?:sk-|sk_|gsk_|AKIA|ASIA|AIza|xox[abp]-)[\w*.-]+"
    r"|(?<=://)[^/\s@]+@"  # the credentials in a URL
    r"|(?<=\S)\?[^\s=]+=\S*"  # its query
)


def printable(text: str) -> str:
    """`text` on one line, without keys and the credentials and queries of URLs, shortened."""
    line = _SECRETS.sub("***", " ".join(text[:_READ].split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def network_reason(exc: BaseException) -> str:
    """What the operating system or TLS says about a failed connection; empty if nothing."""
    reason = ""
    for each in causes_of(exc):
        if isinstance(each, OSError):
            reason = _own_reason(each) or reason
    return printable(reason)


def _own_reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError | socket.gaierror):  # with numbers of their own
        text = getattr(error, "verify_message", None) or error.strerror
        return text if isinstance(text, str) else ""
    if type(error).__name__ == "TunnelError" and type(error).__module__.startswith("agentkit."):
        return str(error)
    return os.strerror(error.errno) if isinstance(error.errno, int) else ""


def network_place(exc: BaseException) -> str:
    """Scheme, host and port of the request that failed, never more of its URL; empty if unknown.

    With host and port of its proxy, if the native transport sent it through one.
    """
    with suppress(Exception):  # httpx raises if an exception has no request
        url: Any = exc.request.url  # type: ignore[attr-defined]
        host = f"[{url.host}]" if ":" in url.host else url.host
        port = "" if url.port is None else f":{url.port}"
        proxy = getattr(exc.request, "proxy", None)  # type: ignore[attr-defined]
        through = f" through the proxy {proxy}" if isinstance(proxy, str) else ""
        return f"{url.scheme}://{host}{port}{through}"
    return ""
