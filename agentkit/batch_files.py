"""Moved: use ``agentkit.complete_file``. This path goes away in the next release."""

from agentkit.manager.batch_file import complete_file

__all__ = ["complete_file"]
