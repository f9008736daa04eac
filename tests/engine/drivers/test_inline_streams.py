"""A blocking stream without a time limit of its own is read in the caller's thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import DeadlineExceededError, LLMManager
from agentkit.testing import FakeClock


def test_the_deadline_ends_it_between_two_events() -> None:
    clock = FakeClock()

    def dripping(prompt: str, kwargs: dict[str, Any]) -> Iterator[str]:
        for _ in range(100):
            clock.advance(1.0)
            yield "drip "

    llm = LLMManager(enable_caching=False, clock=clock)
    llm.register_model("m", dripping)
    since = clock()
    shown: list[str] = []
    with pytest.raises(DeadlineExceededError):
        shown.extend(llm.stream("hi", deadline=10.0))
    assert clock() - since == 10.0
