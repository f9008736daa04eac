"""OpenAI: the chat completions API and the responses API."""

from agentkit.providers.openai.chat import OpenAIChat
from agentkit.providers.openai.responses import OpenAIResponses

__all__ = ["OpenAIChat", "OpenAIResponses"]
