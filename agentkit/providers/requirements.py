"""Checks of the SDK, the key and the address of a provider."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from agentkit.errors import ConfigurationError, MissingDependencyError
from agentkit.providers.reason import printable

TransportName: TypeAlias = Literal["sdk", "native"]
"""How the bytes of a provider move: through the vendor's SDK, or through our own HTTP client."""


def transport_name(given: str | None) -> TransportName:
    """`given`, else the one that the environment names, else the SDK.

    Raises:
        ConfigurationError: there is no such transport.
    """
    name = given or os.environ.get("AGENTKIT_TRANSPORT") or "sdk"
    if name == "native":
        return "native"
    if name == "sdk":
        return "sdk"
    raise ConfigurationError(f"transport {name!r} is unknown", hint="use 'sdk' or 'native'")


def is_installed(sdk: str) -> bool:
    """Whether the package can be imported; it is not imported to find out."""
    try:
        return find_spec(sdk) is not None
    except (ImportError, ValueError):
        return False


def require_sdk(sdk: str, extra: str, *, native: Sequence[str] = ()) -> None:
    """Check that an SDK is installed, without importing it.

    `native` are the packages of the native transport, where it works without the SDK.

    Raises:
        MissingDependencyError: it is not; names the command that installs it, and the native
            transport if its packages are installed.
    """
    if not is_installed(sdk):
        hint = f'pip install "agentkit-llms[{extra}]"'
        if native and all(map(is_installed, native)):
            hint += ", or choose transport='native', which is installed"
        raise MissingDependencyError(f"the {sdk} package is not installed", hint=hint)


def key_from_environment(*variables: str, provider: str) -> str:
    """The API key in the first of `variables` that is not empty.

    Raises:
        ConfigurationError: all are unset or empty, or the key cannot be sent.
    """
    for variable in variables:
        value = os.environ.get(variable, "").strip()
        if value:
            return check_key(value, provider)
    raise ConfigurationError(
        f"{provider} has no API key", hint=f"set {' or '.join(variables)}, or give api_key="
    )


def check_key(key: str, provider: str) -> str:
    """`key`, if it can be sent in a header; an HTTP client would quote a bad one in its error.

    Raises:
        ConfigurationError: it is empty, or contains spaces, line breaks or non-ASCII characters.
    """
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        what = "contains characters that cannot be sent in a header" if key else "is empty"
        raise ConfigurationError(
            f"the API key for {provider} {what}", hint="copy it again from the provider's console"
        )
    return key


def check_base_url(url: str) -> str:
    """`url` without white space around it and a trailing slash.

    Raises:
        ConfigurationError: it is not a valid http or https URL, or has a query, which no request
            would be sent with. The message has no user and password of it.
    """
    url = url.strip()
    host = query = ""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and url.isprintable():
            host, query = parts.hostname or "", parts.query
        _ = parts.port  # a port that is not a number raises only here
    except ValueError:
        host = ""
    if not host or " " in host:
        raise ConfigurationError(
            f"base_url {printable(url)!r} is not a valid URL", hint="write it as https://host/path"
        )
    if query:
        raise ConfigurationError(
            f"base_url of {host} has a query", hint="pass it as extra_query to each call"
        )
    return url.rstrip("/")
