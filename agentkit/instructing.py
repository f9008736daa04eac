"""Moved to ``agentkit.integrations.instructor``. This path goes away in the next release."""

from agentkit.integrations.instructor import achat_create, chat_create

__all__ = ["achat_create", "chat_create"]
