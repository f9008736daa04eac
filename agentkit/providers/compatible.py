"""Servers with OpenAI's chat completions API: Ollama, vLLM, llama.cpp, LM Studio, gateways."""

from __future__ import annotations

import os
import re
from typing import Any, ClassVar

from agentkit.errors import ConfigurationError
from agentkit.providers.openai.chat import OpenAIChat
from agentkit.providers.parameters import Parameters
from agentkit.providers.transport.http import HttpApi
from agentkit.types import Request

_CUSTOM_HEADERS = "OPENAI_CUSTOM_HEADERS"  # what the SDK adds to each request, one per line


class Compatible(OpenAIChat):
    """A model of any server with OpenAI's chat completions API; a key is optional.

    Nothing that the environment sets for OpenAI itself is sent there: no key, no organization, no
    project, no custom headers.

    Args:
        model: the server's own name of the model.
        base_url: default: ``OPENAI_BASE_URL``.
    """

    provider: ClassVar[str] = "compatible"
    http_api: ClassVar[HttpApi] = HttpApi("/chat/completions", "")
    default_key: ClassVar[str | None] = "none"  # the SDK requires one; such servers ignore it
    parameter_names: ClassVar[frozenset[str] | None] = None
    max_tokens_name: ClassVar[str] = "max_tokens"
    url_variable: ClassVar[str | None] = "OPENAI_BASE_URL"
    """The environment variable of the address."""
    default_url: ClassVar[str | None] = None
    prompt_too_long_pattern: ClassVar[re.Pattern[str] | None] = re.compile(
        r"This model's maximum context length is \d+ tokens"  # vLLM
    )
    capabilities = frozenset({"messages", "tools", "vision", "json_schema", "json_object"})

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        **settings: Any,
    ) -> None:
        url = base_url or os.environ.get(self.url_variable or "") or self.default_url
        if not url:
            raise ConfigurationError(
                f"{self.provider}:{model} has no base_url", hint="give base_url='http://host/v1'"
            )
        super().__init__(model, api_key=api_key or None, base_url=url, **settings)

    def fit_to_model(self, request: Request, parameters: Parameters) -> None:
        """Nothing: what such a server takes is not known."""

    def client_options(self, sdk: Any) -> dict[str, Any]:
        """The arguments of a new client, without what the SDK reads from OpenAI's variables."""
        lines = os.environ.get(_CUSTOM_HEADERS, "").split("\n")
        custom = (line.partition(":")[0].strip() for line in lines if ":" in line)
        omitted = dict.fromkeys(("OpenAI-Organization", "OpenAI-Project", *custom), sdk.Omit())
        headers = {**omitted, "Authorization": f"Bearer {self.find_key()}"}
        return {**super().client_options(sdk), "default_headers": headers}

    def http_headers(self) -> dict[str, str]:
        """The key alone."""
        return {"Authorization": f"Bearer {self.find_key()}"}


class Ollama(Compatible):
    """A model of a local Ollama (http://localhost:11434)."""

    provider: ClassVar[str] = "ollama"
    url_variable: ClassVar[str | None] = None
    default_url: ClassVar[str | None] = "http://localhost:11434/v1"


class Vllm(Compatible):
    """A model of a local vLLM server (http://localhost:8000)."""

    provider: ClassVar[str] = "vllm"
    url_variable: ClassVar[str | None] = None
    default_url: ClassVar[str | None] = "http://localhost:8000/v1"


class LlamaCpp(Compatible):
    """The model of a local llama.cpp server (http://localhost:8080)."""

    provider: ClassVar[str] = "llamacpp"
    url_variable: ClassVar[str | None] = None
    default_url: ClassVar[str | None] = "http://localhost:8080/v1"


class LmStudio(Compatible):
    """A model of a local LM Studio (http://localhost:1234)."""

    provider: ClassVar[str] = "lmstudio"
    url_variable: ClassVar[str | None] = None
    default_url: ClassVar[str | None] = "http://localhost:1234/v1"


class Local(Compatible):
    """A model of a server on this machine: at ``LOCAL_BASE_URL``, else at Ollama's address."""

    provider: ClassVar[str] = "local"
    url_variable: ClassVar[str | None] = "LOCAL_BASE_URL"
    default_url: ClassVar[str | None] = Ollama.default_url
