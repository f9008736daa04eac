"""The head of an HTTP/1.1 request. Nothing here needs the packages of the native transport."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from agentkit.providers.transport.http.failures import UnsendableHeaderError

_OWN_HEADERS = frozenset({"content-length", "transfer-encoding", "connection", "upgrade"})
"""Headers that say where a request ends, or what becomes of its connection."""
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BREAK = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


def merge_headers(*groups: Mapping[str, Any]) -> dict[str, str]:
    """The headers of all `groups`; a later one replaces an earlier one, whatever the case.

    Raises:
        UnsendableHeaderError: one cannot be sent, or is the client's own; names it, without its
            value.
    """
    merged: dict[str, tuple[str, str]] = {}
    for group in groups:
        for name, value in group.items():
            key = name.lower()
            if key in _OWN_HEADERS:
                raise UnsendableHeaderError(f"the header {name!r} is set by the client")
            if not _NAME.fullmatch(name) or not isinstance(value, str) or _BREAK.search(value):
                raise UnsendableHeaderError(f"the header {name!r} cannot be sent")
            merged[key] = name, value
    return dict(merged.values())


def encode_query(query: Mapping[str, Any]) -> str:
    """The query of a URL as OpenAI's and Anthropic's SDKs write it.

    Booleans in lower case, without values that are None; ``{"a": {"b": 1}, "c": [2, 3]}`` is
    ``a[b]=1&c[]=2&c[]=3``, percent-encoded.
    """
    return urlencode([pair for name, value in query.items() for pair in _pairs(name, value)])


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _pairs(f"{name}[{key}]", each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _pairs(f"{name}[]", each)
    elif value is not None:
        yield name, str(value).lower() if isinstance(value, bool) else str(value)


def request_head(target: str, host: str, headers: Mapping[str, str]) -> bytes:
    """The head of a POST up to the value of its ``Content-Length``, which comes last.

    `headers` are those of `merge_headers`.
    """
    lines = [f"POST {target} HTTP/1.1"]
    if not any(name.lower() == "host" for name in headers):
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append("Content-Length: ")
    return "\r\n".join(lines).encode("latin-1")
