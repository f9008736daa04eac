"""Groq, whose API is OpenAI's chat completions."""

from __future__ import annotations

from typing import ClassVar

from agentkit.providers.openai.chat import OpenAIChat
from agentkit.providers.transport.sdk import SdkMethod


class Groq(OpenAIChat):
    """A model at Groq, through Groq's own SDK."""

    provider: ClassVar[str] = "groq"
    sdk_method: ClassVar[SdkMethod] = SdkMethod("groq", "Groq", "chat.completions")
    daily_requests: ClassVar[bool] = True
