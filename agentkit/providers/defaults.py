"""What a provider is asked when nobody says: one table, checked on the date in `AS_OF`."""

from __future__ import annotations

from typing import Final, NamedTuple

AS_OF: Final = "2026-11-21"
"""When the models of the table were last compared with the providers' own lists."""


class ProviderDefaults(NamedTuple):
    """The defaults of one kind of provider.

    Attributes:
        key_variables: environment variables that hold keys, the first that is not empty counts;
            one whose name ends with ``S`` holds several, separated by commas. Empty: needs no key.
        model: asked when no model is named; None: one must be named.
        max_tokens: most tokens of an answer (None: the provider decides); never more than a key's
            limits let through in a minute.
        model_variable: environment variable that replaces `model`; None: there is none.
        model_prefixes: how the names of its own models begin; empty: it serves any.
    """

    key_variables: tuple[str, ...] = ()
    model: str | None = None
    max_tokens: int | None = None
    model_variable: str | None = None
    model_prefixes: tuple[str, ...] = ()


_OPENAI: Final = ProviderDefaults(
    ("OPENAI_API_KEYS", "OPENAI_API_KEY"),
    "gpt-6.1-terra",
    None,
    "OPENAI_MODEL",
    ("gpt-", "o1", "o3", "o4", "chatgpt-", "codex-", "ft:"),
)

DEFAULTS: Final[dict[str, ProviderDefaults]] = {
    "anthropic": ProviderDefaults(
        ("ANTHROPIC_API_KEYS", "ANTHROPIC_API_KEY"),
        "claude-sonnet-5-5",
        8_192,  # its API demands a limit; this one fits into its smallest quota
        "ANTHROPIC_MODEL",
        ("claude-",),
    ),
    "openai": _OPENAI,
    "openai-responses": _OPENAI,
    "google": ProviderDefaults(
        ("GOOGLE_API_KEYS", "GOOGLE_API_KEY", "GEMINI_API_KEY"),
        "gemini-3.8-flash",
        None,
        "GOOGLE_MODEL",
        ("gemini-", "gemma-", "models/"),
    ),
    "groq": ProviderDefaults(
        ("GROQ_API_KEYS", "GROQ_API_KEY"), "openai/gpt-oss-120b", None, "GROQ_MODEL"
    ),
    "ollama": ProviderDefaults(model_variable="OLLAMA_MODEL"),
    "vllm": ProviderDefaults(model_variable="VLLM_MODEL"),
    "llamacpp": ProviderDefaults(model_variable="LLAMACPP_MODEL"),
    "lmstudio": ProviderDefaults(model_variable="LMSTUDIO_MODEL"),
    "local": ProviderDefaults(model_variable="LOCAL_MODEL"),
    "bedrock": ProviderDefaults(),
    "compatible": ProviderDefaults(),
}
"""By the prefix of a provider spec (``openai`` in ``openai:gpt-…``).

The order of the first four is the order in which keys are looked for when there is no file.
"""

FROM_KEYS: Final = ("anthropic", "openai", "google", "groq")
"""Providers that a key in the environment alone sets up."""
