"""Servers that speak OpenAI's chat completions: Ollama, vLLM, llama.cpp, LM Studio, gateways."""

from __future__ import annotations

import os
import re
from typing import Any, ClassVar

from agentkit.errors import ConfigurationError
from agentkit.providers.openai.chat import OpenAIChat

_NO_KEY = "none"  # the SDK wants one; such servers ignore it
_CUSTOM_HEADERS = "OPENAI_CUSTOM_HEADERS"  # what the SDK adds to each request, one a line


class Compatible(OpenAIChat):
    """A model at any address that speaks OpenAI's chat completions; a key is optional.

    Nothing that the environment holds for OpenAI itself is sent there: no key, no organization, no
    project, no custom headers.

    Args:
        model: the server's own name of the model.
        base_url: default: ``OPENAI_BASE_URL``.
    """

    provider: ClassVar[str] = "compatible"
    limit_name: ClassVar[str] = "max_tokens"
    url_variable: ClassVar[str | None] = "OPENAI_BASE_URL"
    """Where the environment may say the address."""
    usual_url: ClassVar[str | None] = None
    too_long = re.compile(r"This model's maximum context length is \d+ tokens")  # vLLM
    capabilities = frozenset({"messages", "tools", "vision", "json_schema", "json_object"})

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        **settings: Any,
    ) -> None:
        told = os.environ.get(self.url_variable) if self.url_variable is not None else None
        url = base_url or told or self.usual_url
        if not url:
            raise ConfigurationError(
                f"compatible:{model} has no address", hint="give base_url='http://host/v1'"
            )
        super().__init__(model, api_key=api_key, base_url=url, **settings)

    def _headers(self, sdk: Any) -> dict[str, Any]:
        lines = os.environ.get(_CUSTOM_HEADERS, "").split("\n")
        custom = (line.partition(":")[0].strip() for line in lines if ":" in line)
        names = ("OpenAI-Organization", "OpenAI-Project", *custom)
        return {**dict.fromkeys(names, sdk.Omit()), "Authorization": f"Bearer {self._key()}"}

    def _key(self) -> str:
        return super()._key() if self._api_key else _NO_KEY


class Ollama(Compatible):
    """A model of a local Ollama (http://localhost:11434)."""

    provider: ClassVar[str] = "ollama"
    url_variable: ClassVar[str | None] = None
    usual_url: ClassVar[str | None] = "http://localhost:11434/v1"


class Vllm(Compatible):
    """A model of a local vLLM server (http://localhost:8000)."""

    provider: ClassVar[str] = "vllm"
    url_variable: ClassVar[str | None] = None
    usual_url: ClassVar[str | None] = "http://localhost:8000/v1"


class LlamaCpp(Compatible):
    """The model of a local llama.cpp server (http://localhost:8080)."""

    provider: ClassVar[str] = "llamacpp"
    url_variable: ClassVar[str | None] = None
    usual_url: ClassVar[str | None] = "http://localhost:8080/v1"


class LmStudio(Compatible):
    """A model of a local LM Studio (http://localhost:1234)."""

    provider: ClassVar[str] = "lmstudio"
    url_variable: ClassVar[str | None] = None
    usual_url: ClassVar[str | None] = "http://localhost:1234/v1"


class Local(Compatible):
    """A model of whatever serves on this machine: ``LOCAL_BASE_URL``, else Ollama's address."""

    provider: ClassVar[str] = "local"
    url_variable: ClassVar[str | None] = "LOCAL_BASE_URL"
    usual_url: ClassVar[str | None] = Ollama.usual_url
