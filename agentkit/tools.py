"""Moved: use ``agentkit.tool_spec``. This path goes away in the next release."""

from agentkit.output.tools import tool_spec

__all__ = ["tool_spec"]
