"""Groq through its own SDK, which speaks OpenAI's chat completions."""

from __future__ import annotations

from typing import Any, ClassVar

from agentkit.providers.openai import OpenAIChat
from agentkit.providers.sdk import parameter_names


class Groq(OpenAIChat):
    """A model at Groq."""

    provider: ClassVar[str] = "groq"
    key_variables: ClassVar[tuple[str, ...]] = ("GROQ_API_KEY",)
    daily_requests: ClassVar[bool] = True

    def _make_sync(self) -> Any:
        import groq

        return groq.Groq(**self._client_options(groq))

    def _make_async(self) -> Any:
        import groq

        return groq.AsyncGroq(**self._client_options(groq))

    def _known(self) -> frozenset[str]:
        from groq.resources.chat.completions import Completions

        return parameter_names(Completions.create)
