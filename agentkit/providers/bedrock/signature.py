"""AWS Signature Version 4 of requests that differ only in their path, body, time and credentials.

botocore's own signer takes a third of what a request over the native transport costs, since it
derives the key and reads the headers anew each time. It stays the reference: a `SignatureV4` is
read from a request that botocore signed, and only if both agree on that request's signature.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from time import gmtime, strftime
from typing import Any, Final
from urllib.parse import quote, urlsplit

_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^,]+?/(?P<date>\d{8})/(?P<region>[^/,]+)/(?P<service>[^/,]+)"
    r"/aws4_request, SignedHeaders=(?P<signed>[^,]+), Signature=[0-9a-f]{64}"
)
_SIGNED: Final = frozenset({"content-type", "host", "x-amz-date"})
_TOKEN: Final = "x-amz-security-token"  # noqa: S105 - the name of a header


class SignatureV4:
    """Signs requests to one endpoint; make one with `signature_like`."""

    def __init__(self, endpoint: str, content_type: str, region: str, service: str) -> None:
        parts = urlsplit(endpoint)
        self._path = parts.path
        self._scope = f"{region}/{service}/aws4_request"
        self._scope_parts = (region, service, "aws4_request")
        self._head = f"content-type:{content_type}\nhost:{parts.netloc.lower()}\nx-amz-date:"
        self._key: tuple[str, str, bytes] = ("", "", b"")
        """A secret key, a date, and the key that both give."""

    def headers(
        self, path: str, body: bytes, credentials: Any, *, at: str | None = None
    ) -> dict[str, str]:
        """The headers that prove a request.

        Args:
            path: below the endpoint, percent-encoded.
            body: of the request.
            credentials: botocore's frozen credentials.
            at: the time (``20261121T235959Z``); default: now.
        """
        time = at or strftime("%Y%m%dT%H%M%SZ", gmtime())
        date = time[:8]
        token = credentials.token
        proof = {"X-Amz-Date": time}
        signed, more = "content-type;host;x-amz-date", ""
        if token:
            proof["X-Amz-Security-Token"] = token
            signed, more = f"{signed};{_TOKEN}", f"{_TOKEN}:{' '.join(token.split())}\n"
        canonical = (
            f"POST\n{_quoted(self._path + path)}\n\n{self._head}{time}\n{more}\n"
            f"{signed}\n{sha256(body).hexdigest()}"
        )
        text = (
            f"AWS4-HMAC-SHA256\n{time}\n{date}/{self._scope}\n"
            f"{sha256(canonical.encode()).hexdigest()}"
        )
        key = self._key_of(credentials.secret_key, date)
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        proof["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{date}/{self._scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )
        return proof

    def _key_of(self, secret: str, date: str) -> bytes:
        known_secret, known_date, key = self._key
        if secret != known_secret or date != known_date:
            key = f"AWS4{secret}".encode()
            for part in (date, *self._scope_parts):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = secret, date, key
        return key


@lru_cache(64)  # a model has two paths
def _quoted(path: str) -> str:
    return quote(path, safe="/~")


def signature_like(
    endpoint: str, path: str, body: bytes, headers: Mapping[str, str], credentials: Any
) -> SignatureV4 | None:
    """What signs as botocore signed the request with these `headers`.

    None: it signs by other means, or signs other headers.
    """
    known = {name.lower(): value for name, value in headers.items()}
    found = _AUTHORIZATION.fullmatch(known.get("authorization", ""))
    if found is None or set(found["signed"].split(";")) - {_TOKEN} != _SIGNED:
        return None
    made = SignatureV4(endpoint, known["content-type"], found["region"], found["service"])
    again = made.headers(path, body, credentials, at=known["x-amz-date"])
    return made if all(known.get(name.lower()) == value for name, value in again.items()) else None
