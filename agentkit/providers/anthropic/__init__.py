"""Anthropic: the messages API of Claude models."""

from agentkit.providers.anthropic.messages import AnthropicMessages

__all__ = ["AnthropicMessages"]
