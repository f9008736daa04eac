"""Telemetry that goes to memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace

from tests.telemetry.observing import Observed


@pytest.fixture
def observing() -> Iterator[Callable[..., Observed]]:
    """Makes an `Observed` with the `Telemetry` settings it is given."""
    made: list[Observed] = []

    def make(**telemetry: Any) -> Observed:
        made.append(Observed(**telemetry))
        return made[-1]

    yield make
    for each in made:
        each.close()
    assert not trace.get_current_span().get_span_context().is_valid, "a span stayed current"


@pytest.fixture
def seen(observing: Callable[..., Observed]) -> Observed:
    """An `Observed` with the default settings."""
    return observing()
