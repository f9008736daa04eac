"""Providers by name: ``"openai:<model>"`` becomes an object that speaks to it.

Ours come from one table and are imported when first asked for; others are found through the
entry-point group ``agentkit.providers``, whose entries name a class or function called as
``factory(model, api_key=..., base_url=..., **settings)``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from agentkit.errors import ConfigurationError, MissingDependencyError

GROUP: Final = "agentkit.providers"


class Builtin(NamedTuple):
    """Where an adapter is, the SDK and extra it needs, and the variables that hold its key."""

    module: str
    factory: str
    sdk: str
    extra: str
    key_variables: tuple[str, ...] = ()


_OPENAI = ("openai", "openai", ("OPENAI_API_KEY",))
BUILTINS: Final[dict[str, Builtin]] = {
    "openai": Builtin("agentkit.providers.openai.chat", "OpenAIChat", *_OPENAI),
    "openai-responses": Builtin("agentkit.providers.openai.responses", "OpenAIResponses", *_OPENAI),
    "anthropic": Builtin(
        "agentkit.providers.anthropic.messages", "AnthropicMessages", "anthropic", "anthropic",
        ("ANTHROPIC_API_KEY",),
    ),
    "google": Builtin(
        "agentkit.providers.google.generate", "Google", "google.genai", "google",
        ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    ),
    "groq": Builtin("agentkit.providers.groq", "Groq", "groq", "groq", ("GROQ_API_KEY",)),
    "bedrock": Builtin("agentkit.bedrock.provider", "provider", "boto3", "bedrock"),
    "compatible": Builtin("agentkit.providers.compatible", "Compatible", "openai", "openai"),
    "ollama": Builtin("agentkit.providers.compatible", "Ollama", "openai", "openai"),
    "vllm": Builtin("agentkit.providers.compatible", "Vllm", "openai", "openai"),
    "llamacpp": Builtin("agentkit.providers.compatible", "LlamaCpp", "openai", "openai"),
    "lmstudio": Builtin("agentkit.providers.compatible", "LmStudio", "openai", "openai"),
    "local": Builtin("agentkit.providers.compatible", "Local", "openai", "openai"),
}  # fmt: skip


def provider_for(
    spec: str, *, api_key: str | None = None, base_url: str | None = None, **settings: Any
) -> Any:
    """The provider object for ``"<provider>:<model>"``.

    Args:
        spec: such as ``"openai:gpt-…"``; everything after the first colon is the model.
        api_key: default: the provider's variable in the environment, read when it is needed.
        base_url: in place of the provider's own address (http or https).
        settings: defaults of the model's own parameters, such as ``max_tokens``.

    Raises:
        ConfigurationError: no such provider, no model, a bad URL, no key.
        MissingDependencyError: the provider's SDK is not installed.
    """
    name, colon, model = spec.partition(":")
    factory = _factory(name.strip().lower(), spec)
    if not colon or not model.strip():
        raise ConfigurationError(f"{spec!r} names no model", hint=f"write '{name}:<model>'")
    if base_url is not None:
        checked_url(base_url)
    if api_key is not None and not api_key.strip():
        raise ConfigurationError(
            f"the API key for {name} is empty", hint="give one, or leave it out"
        )
    if api_key is not None:
        settings["api_key"] = api_key.strip()
    if base_url is not None:
        settings["base_url"] = base_url
    return factory(model.strip(), **settings)


def known_providers() -> list[str]:
    """Every name that `provider_for` understands: ours, then those of entry points."""
    others = sorted(entry.name for entry in entry_points(group=GROUP))
    return [*BUILTINS, *(name for name in others if name not in BUILTINS)]


def key_from_environment(*variables: str, provider: str) -> str:
    """The first of `variables` that is set.

    Raises:
        ConfigurationError: none is, or it is empty.
    """
    for variable in variables:
        value = os.environ.get(variable)
        if value is not None and value.strip():
            return checked_key(value.strip(), provider)
    raise ConfigurationError(
        f"{provider} has no API key", hint=f"set {' or '.join(variables)}, or give api_key="
    )


def checked_key(key: str, provider: str) -> str:
    """`key`, if it can travel in a header; else a transport would quote it in its complaint.

    Raises:
        ConfigurationError: it is empty, or holds blanks, line ends or letters beyond ASCII.
    """
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        what = "holds characters that no key has" if key else "is empty"
        raise ConfigurationError(
            f"the API key for {provider} {what}", hint="copy it again from the provider's console"
        )
    return key


def checked_url(url: str) -> str:
    """`url` without a slash at its end. Raises `ConfigurationError` unless it is http(s)."""
    try:
        found = urlsplit(url)
        usable = found.scheme in ("http", "https") and bool(found.hostname)
        _ = found.port
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            f"base_url {url!r} is no web address", hint="write it as https://host/path"
        )
    return url.rstrip("/")


def installed(sdk: str) -> bool:
    """Whether the package can be imported; it is not imported to find out."""
    try:
        return find_spec(sdk) is not None
    except (ImportError, ValueError):
        return False


def require(sdk: str, extra: str) -> None:
    """Check that an SDK is there, without importing it.

    Raises:
        MissingDependencyError: it is not; names the command that installs it.
    """
    if not installed(sdk):
        raise MissingDependencyError(
            f"the {sdk} package is not installed", hint=f"pip install 'agentkit-llms[{extra}]'"
        )


def _factory(name: str, spec: str) -> Callable[..., Any]:
    builtin = BUILTINS.get(name)
    if builtin is not None:
        require(builtin.sdk, builtin.extra)
        found: Callable[..., Any] = getattr(import_module(builtin.module), builtin.factory)
        return found
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            loaded: Callable[..., Any] = entry.load()
            return loaded
    known = known_providers()
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}:…'?" if close else f"known providers: {', '.join(known)}"
    raise ConfigurationError(f"unknown provider {name!r} in {spec!r}", hint=hint)
