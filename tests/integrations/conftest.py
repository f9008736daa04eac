"""What tests of batches share."""

from __future__ import annotations

from tests.manager.batches import folder, log, source

__all__ = ["folder", "log", "source"]
