"""Processing of a file of requests into a file of answers; an interrupted run can be continued.

Both files are JSON lines. Each result is written and synced to disk as soon as its request
finishes. A later run keeps the answers and sends only the other requests, so that at most the
calls in flight when a run was killed are repeated.
"""

from __future__ import annotations

from agentkit.manager.batch_file.run import PATIENCE, Progress, complete_file

__all__ = ["PATIENCE", "Progress", "complete_file"]
