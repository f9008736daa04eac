"""Google: the generateContent API of Gemini models."""

from agentkit.providers.google.generate import Google

__all__ = ["Google"]
