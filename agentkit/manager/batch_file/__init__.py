"""A file of requests becomes a file of answers, and an interrupted run goes on where it was.

Both are JSON lines. Each item is written, whole and synced to disk, the moment it is finished; a
run that begins again keeps what was answered and asks only the rest. At most the calls that were
under way when a run was killed are made again.
"""

from __future__ import annotations

from agentkit.manager.batch_file.run import PATIENCE, Progress, complete_file

__all__ = ["PATIENCE", "Progress", "complete_file"]
