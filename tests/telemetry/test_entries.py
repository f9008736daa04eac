"""A call enters the OpenTelemetry SDK as often as what it writes takes, and no more."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import opentelemetry.context
import pytest

import agentkit
from agentkit import LLMManager
from tests.telemetry.observing import Observed

OURS = str(Path(agentkit.__file__).parent)
THEIRS = str(Path(opentelemetry.context.__file__).parent.parent)


def entries(work: Callable[[], object]) -> Counter[str]:
    """The functions of OpenTelemetry that agentkit calls during `work`."""
    found: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or frame.f_back is None:
            return
        caller, called = frame.f_back.f_code, frame.f_code
        if caller.co_filename.startswith(OURS) and called.co_filename.startswith(THEIRS):
            found[called.co_name] += 1

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


def answer(prompt: str, options: dict[str, Any]) -> str:
    return "fine"


async def aanswer(prompt: str, options: dict[str, Any]) -> str:
    return "fine"


async def agenerate(llm: LLMManager) -> None:
    await llm.agenerate("hi")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_call_enters_the_sdk_for_two_spans_and_three_measurements(
    seen: Observed, is_async: bool
) -> None:
    llm = seen.manager(("m", aanswer if is_async else answer))

    def work() -> None:
        if is_async:
            asyncio.run(agenerate(llm))
        else:
            llm.generate("hi")

    work()
    assert entries(work) == {
        "get_current": 1,
        "start_span": 2,
        "is_recording": 1,
        "set_span_in_context": 2,
        "attach": 1,
        "detach": 1,
        "record": 3,
        "set_attribute": 1,
        "set_attributes": 1,
        "end": 2,
    }
