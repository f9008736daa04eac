"""What interrupts a thread inside the OpenTelemetry SDK waits for none of the SDK's locks."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import opentelemetry.sdk.metrics
import pytest

import agentkit.telemetry.outbox
from agentkit import LLMManager
from agentkit.testing import ScriptedModel
from tests.interruptions import Interruption, in_time
from tests.telemetry.observing import Observed, attributes

SDK = str(Path(opentelemetry.sdk.metrics.__file__).parent.parent)
OUTBOX = agentkit.telemetry.outbox.__file__
LINES = 400
"""How many lines of the SDK are tried at most, at equal distances."""


def manager_of(seen: Observed) -> LLMManager:
    return seen.manager(("m", ScriptedModel(then="one two").as_stream()))


def lines_of(work: Callable[[], object]) -> range:
    """Lines of the SDK that `work` runs, by number."""
    counting = Interruption(-1, work, SDK)
    counting.during(work)
    assert counting.lines > 100
    return range(1, counting.lines, 1 + counting.lines // LINES)


@contextmanager
def no_other_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def leave_a_stream(llm: LLMManager) -> None:
    """An open stream that only the garbage collector will find."""
    stream = llm.stream("hi")
    next(stream)
    cycle: list[object] = [stream]
    cycle.append(cycle)


@pytest.mark.parametrize("where", ["agentkit records", "an exporter collects"])
def test_a_stream_may_be_collected_at_any_line_of_the_sdk(
    small_heap: None, seen: Observed, where: str
) -> None:
    llm = manager_of(seen)

    def record() -> None:
        llm.generate("hi")

    work = record if where == "agentkit records" else seen.metrics
    work()
    lines = lines_of(work)
    seen.exporter.clear()

    def every_line() -> None:
        for at in lines:
            leave_a_stream(llm)
            collection = Interruption(at, lambda: gc.collect(0), SDK)
            collection.during(work)
            assert collection.happened

    with no_other_collection():
        in_time(every_line)
    llm.generate("the last one records what waited")
    outcomes = [attributes(each)["agentkit.outcome"] for each in seen.named("agentkit.generate")]
    assert outcomes.count("cancelled") == len(lines)


def test_a_signal_handler_may_send_a_request_at_any_line_of_the_sdk(seen: Observed) -> None:
    llm = manager_of(seen)

    def ask() -> None:
        assert llm.generate("hi") == "one two"

    ask()
    lines = lines_of(ask)
    before = llm.get_metrics()["total_requests"]

    def every_line() -> None:
        for at in lines:
            Interruption(at, ask, SDK).during(ask)

    in_time(every_line)
    assert llm.get_metrics()["total_requests"] == before + 2 * len(lines)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_while_a_collection_begins_or_ends_silences_no_thread(
    small_heap: None, seen: Observed
) -> None:
    llm = manager_of(seen)

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    with no_other_collection():
        counting = Interruption(-1, gc.collect, OUTBOX)
        counting.during(gc.collect)
        assert counting.lines > 1
        for at in range(1, counting.lines + 1):
            seen.exporter.clear()
            Interruption(at, ctrl_c, OUTBOX).during(gc.collect)
            gc.collect()
            llm.generate("hi")
            assert seen.named("agentkit.generate"), at
