"""Moved: use ``agentkit.provider_for``. This path goes away in the next release."""

from agentkit.providers.registry import provider_for

__all__ = ["provider_for"]
