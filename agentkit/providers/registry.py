"""Every provider that agentkit knows, in one table, and how a name becomes a provider object.

Providers of other packages are found through the entry-point group ``agentkit.providers``, whose
entries name a class or function that is called as
``factory(model, api_key=..., base_url=..., **settings)``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

from agentkit.errors import ConfigurationError
from agentkit.providers.requirements import (
    TransportName,
    check_base_url,
    require_sdk,
    transport_name,
)
from agentkit.providers.transport.options import ConnectionOptions

ENTRY_POINT_GROUP: Final = "agentkit.providers"

MODELS_AS_OF: Final = "2026-11-21"
"""When the default models of the table were last compared with the providers' own lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderInfo:
    """What is known about one provider before its adapter is imported.

    Attributes:
        name: the prefix of a provider spec (``openai`` in ``openai:gpt-…``).
        adapter: where its adapter is, as ``module:name``; empty for a provider of another package.
        sdk: the module of its SDK.
        extra: the extra of agentkit that installs the SDK.
        key_variables: environment variables that hold one API key each; the first that is not
            empty counts. Empty: the provider needs no key.
        key_list_variable: environment variable that holds several keys, separated by commas.
        model: the default model; None: one must be named.
        model_variable: environment variable that replaces `model`.
        model_prefixes: how the names of its own models begin; empty: it serves any model.
        max_tokens: the default limit on the tokens of an answer (None: the provider decides).
        sdk_always: whether its SDK is needed with the native transport as well.
    """

    name: str
    adapter: str = ""
    sdk: str = ""
    extra: str = ""
    key_variables: tuple[str, ...] = ()
    key_list_variable: str | None = None
    model: str | None = None
    model_variable: str | None = None
    model_prefixes: tuple[str, ...] = ()
    max_tokens: int | None = None
    sdk_always: bool = False

    @property
    def all_key_variables(self) -> tuple[str, ...]:
        """The variable of several keys, then those of one, in the order of precedence."""
        several = () if self.key_list_variable is None else (self.key_list_variable,)
        return (*several, *self.key_variables)


NATIVE_PACKAGES: Final = ("httptools", "msgspec", "certifi")
"""What the native transport needs; the extra ``native`` installs it."""

_OPENAI = ProviderInfo(
    name="openai",
    adapter="agentkit.providers.openai.chat:OpenAIChat",
    sdk="openai",
    extra="openai",
    key_variables=("OPENAI_API_KEY",),
    key_list_variable="OPENAI_API_KEYS",
    model="gpt-6.1-terra",
    model_variable="OPENAI_MODEL",
    model_prefixes=("gpt-", "o1", "o3", "o4", "chatgpt-", "codex-", "ft:"),
)


def _server(name: str, adapter: str, model_variable: str | None = None) -> ProviderInfo:
    """A server that speaks OpenAI's chat completions and needs no key."""
    return ProviderInfo(
        name=name,
        adapter=f"agentkit.providers.compatible:{adapter}",
        sdk="openai",
        extra="openai",
        model_variable=model_variable,
    )


_ROWS = (
    _OPENAI,
    replace(
        _OPENAI,
        name="openai-responses",
        adapter="agentkit.providers.openai.responses:OpenAIResponses",
    ),
    ProviderInfo(
        name="anthropic",
        adapter="agentkit.providers.anthropic.messages:AnthropicMessages",
        sdk="anthropic",
        extra="anthropic",
        key_variables=("ANTHROPIC_API_KEY",),
        key_list_variable="ANTHROPIC_API_KEYS",
        model="claude-sonnet-5-5",
        model_variable="ANTHROPIC_MODEL",
        model_prefixes=("claude-",),
        max_tokens=8_192,  # its API requires a limit; this one fits into its smallest quota
    ),
    ProviderInfo(
        name="google",
        adapter="agentkit.providers.google.generate:Google",
        sdk="google.genai",
        extra="google",
        key_variables=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        key_list_variable="GOOGLE_API_KEYS",
        model="gemini-3.8-flash",
        model_variable="GOOGLE_MODEL",
        model_prefixes=("gemini-", "gemma-", "models/"),
    ),
    ProviderInfo(
        name="groq",
        adapter="agentkit.providers.groq:Groq",
        sdk="groq",
        extra="groq",
        key_variables=("GROQ_API_KEY",),
        key_list_variable="GROQ_API_KEYS",
        model="openai/gpt-oss-120b",
        model_variable="GROQ_MODEL",
    ),
    ProviderInfo(
        name="bedrock",
        adapter="agentkit.bedrock.provider:provider",
        sdk="boto3",
        extra="bedrock",
        sdk_always=True,
    ),
    _server("compatible", "Compatible"),
    _server("ollama", "Ollama", "OLLAMA_MODEL"),
    _server("vllm", "Vllm", "VLLM_MODEL"),
    _server("llamacpp", "LlamaCpp", "LLAMACPP_MODEL"),
    _server("lmstudio", "LmStudio", "LMSTUDIO_MODEL"),
    _server("local", "Local", "LOCAL_MODEL"),
)

PROVIDERS: Final[dict[str, ProviderInfo]] = {row.name: row for row in _ROWS}
"""agentkit's own providers, by name."""

PROVIDERS_BY_KEY: Final = ("anthropic", "openai", "google", "groq")
"""Providers that a key in the environment alone sets up, in the order in which keys are sought."""


def provider_info(name: str) -> ProviderInfo:
    """The row of `name`; one without any defaults for a provider of another package."""
    return PROVIDERS.get(name) or ProviderInfo(name=name)


def provider_names() -> list[str]:
    """Every name that `provider_for` understands: agentkit's own, then those of other packages."""
    others = sorted(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))
    return [*PROVIDERS, *(name for name in others if name not in PROVIDERS)]


def provider_for(
    spec: str,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    transport: TransportName | None = None,
    connections: ConnectionOptions | None = None,
    **settings: Any,
) -> Any:
    """The provider object for ``"<provider>:<model>"``.

    Args:
        spec: such as ``"openai:gpt-…"``; everything after the first colon is the model.
        api_key: default: the provider's variable in the environment, read when it is needed.
        base_url: replaces the provider's own address (http or https).
        transport: ``"sdk"``: through the vendor's SDK, or ``"native"``: without it (default:
            the environment variable ``AGENTKIT_TRANSPORT``, else ``"sdk"``). Bedrock needs its SDK
            with both.
        connections: time limits, idle connections and certificates of the native transport.
        settings: defaults of the model's own parameters, such as ``max_tokens``.

    Raises:
        ConfigurationError: the provider is unknown, the model is missing, or the URL, the key or
            the transport is not valid, or `connections` are given to an SDK.
        MissingDependencyError: the provider's SDK, or the extra ``native``, is not installed.
    """
    name, colon, model = spec.partition(":")
    factory = _factory(name.strip().lower(), spec, transport)
    if transport is not None:
        settings["transport"] = transport
    if connections is not None:
        settings["connections"] = connections
    if not colon or not model.strip():
        raise ConfigurationError(f"{spec!r} does not name a model", hint=f"write '{name}:<model>'")
    if base_url is not None:
        check_base_url(base_url)
        settings["base_url"] = base_url
    if api_key is not None:
        settings["api_key"] = api_key.strip()
        if not settings["api_key"]:
            raise ConfigurationError(
                f"the API key for {name} is empty", hint="give one, or leave it out"
            )
    return factory(model.strip(), **settings)


def require_native() -> None:
    """Check that the packages of the native transport are installed, without importing them.

    Raises:
        MissingDependencyError: one is not.
    """
    for package in NATIVE_PACKAGES:
        require_sdk(package, "native")


def _factory(name: str, spec: str, transport: str | None) -> Callable[..., Any]:
    """The adapter class or function of a provider.

    Raises:
        ConfigurationError: no provider has this name, or the transport is unknown.
        MissingDependencyError: what its transport needs is not installed.
    """
    chosen = transport_name(transport)
    info = PROVIDERS.get(name)
    if info is not None:
        if chosen == "native":
            require_native()
        if chosen == "sdk" or info.sdk_always:
            native = () if info.sdk_always else NATIVE_PACKAGES
            require_sdk(info.sdk, info.extra, native=native)
        module, _, attribute = info.adapter.partition(":")
        factory: Callable[..., Any] = getattr(import_module(module), attribute)
        return factory
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            loaded: Callable[..., Any] = entry.load()
            return loaded
    names = provider_names()
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{close[0]}:…'?" if close else f"known providers: {', '.join(names)}"
    raise ConfigurationError(f"unknown provider {name!r} in {spec!r}", hint=hint)
