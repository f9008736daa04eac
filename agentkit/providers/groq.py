"""Groq through its own SDK, which speaks OpenAI's chat completions."""

from __future__ import annotations

from typing import ClassVar

from agentkit.providers.openai.chat import OpenAIChat
from agentkit.providers.sdk import parameter_names


class Groq(OpenAIChat):
    """A model at Groq."""

    provider: ClassVar[str] = "groq"
    sdk: ClassVar[str] = "groq"
    client_names: ClassVar[tuple[str, str]] = ("Groq", "AsyncGroq")
    key_variables: ClassVar[tuple[str, ...]] = ("GROQ_API_KEY",)
    daily_requests: ClassVar[bool] = True

    def _known(self) -> frozenset[str]:
        from groq.resources.chat.completions import Completions

        return parameter_names(Completions.create)
