"""Telemetry that goes to memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.telemetry.observing import Observed, observing

__all__ = ["observing", "seen"]


@pytest.fixture
def seen(observing: Callable[..., Observed]) -> Observed:
    """An `Observed` with the default settings."""
    return observing()
