"""Telemetry of agents that goes to memory."""

from __future__ import annotations

from tests.telemetry.observing import observing

__all__ = ["observing"]
