"""The writer writes in order, drops what does not fit, and ends on request."""

from __future__ import annotations

import threading

from agentkit.cache.writer import Writer


class Gate:
    """A write that waits until it may continue."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.written: list[int] = []

    def __call__(self, item: int) -> None:
        self.entered.set()
        assert self.open.wait(10)
        self.written.append(item)


def test_no_thread_before_the_first_write_and_none_after_closing() -> None:
    ended: list[str] = []
    names: list[str] = []
    writer = Writer[int](
        lambda _: names.append(threading.current_thread().name),
        lambda: ended.append(threading.current_thread().name),
    )
    before = set(threading.enumerate())
    assert writer.close(5.0) == 0
    assert set(threading.enumerate()) == before

    writer = Writer(
        lambda _: names.append(threading.current_thread().name),
        lambda: ended.append(threading.current_thread().name),
    )
    assert writer.submit(1, 1)
    assert writer.close(5.0) == 0
    assert set(threading.enumerate()) == before
    assert names == ended == ["agentkit-response-cache"]


def test_everything_is_written_in_order() -> None:
    written: list[int] = []
    writer = Writer(written.append)
    assert all(writer.submit(number, 1) for number in range(500))
    assert writer.flush(5.0)
    assert written == list(range(500))
    writer.close(5.0)


def test_what_does_not_fit_is_dropped() -> None:
    gate = Gate()
    writer = Writer(gate, capacity=3, capacity_bytes=100)
    assert writer.submit(0, 1)
    assert gate.entered.wait(10)
    assert [writer.submit(number, 40) for number in (1, 2, 3)] == [True, True, False]
    assert [writer.submit(number, 1) for number in (4, 5)] == [True, False]
    assert len(writer) == 3
    assert not writer.flush(0.0)
    gate.open.set()
    assert writer.flush(5.0)
    assert gate.written == [0, 1, 2, 4]
    writer.close(5.0)


def test_closing_gives_up_what_does_not_fit_into_its_time_and_says_how_much() -> None:
    gate = Gate()
    writer = Writer(gate)
    for number in range(4):
        writer.submit(number, 1)
    assert gate.entered.wait(10)
    assert writer.close(0.0) == 3
    assert not writer.submit(9, 1)
    gate.open.set()
    assert writer.close(5.0) == 0
    assert gate.written == [0]


def test_discarding_waits_for_the_write_under_way_and_drops_the_rest() -> None:
    gate = Gate()
    writer = Writer(gate)
    for number in range(3):
        writer.submit(number, 1)
    assert gate.entered.wait(10)
    seen: list[list[int]] = []
    thread = threading.Thread(target=lambda: writer.discard(lambda: seen.append([*gate.written])))
    thread.start()
    gate.open.set()
    thread.join(10)
    writer.flush(5.0)
    assert seen in ([[0]], [[0, 1]], [[0, 1, 2]])
    assert gate.written == seen[0]
    writer.close(5.0)
