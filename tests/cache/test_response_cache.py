"""What the engine sees of the response cache: an answer or nothing, never an exception."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit.cache.disk import DiskStore
from agentkit.cache.faults import CacheFault
from agentkit.cache.memory import MemoryStore, RecentTable
from agentkit.cache.response import ResponseCache
from agentkit.testing.clock import FakeClock
from agentkit.types import Response, ToolCall
from tests.cache.stores import ANSWER, BrokenStore, DictStore, Warnings, rows


@pytest.fixture
def messages() -> Iterator[list[str]]:
    handler, log = Warnings(), logging.getLogger("agentkit.cache")
    log.addHandler(handler)
    yield handler.lines
    log.removeHandler(handler)


def text(cache: ResponseCache, key: str = "k", *, durable: bool = True) -> str | None:
    found = cache.load(key, durable)
    return None if found is None else found.text


def test_an_answer_comes_back_as_the_callers_own_copy_marked_as_cached() -> None:
    cache = ResponseCache()
    assert cache.load("k", True) is None
    cache.save("k", ANSWER, True)
    first, second = cache.load("k", True), cache.load("k", True)
    assert first is not None
    assert second is not None
    assert first.cached
    assert (first.text, first.usage, first.model, first.provider) == (
        ANSWER.text, ANSWER.usage, ANSWER.model, ANSWER.provider,
    )  # fmt: skip
    assert (first.finish_reason, first.response_id) == ("stop", "r-1")
    assert first.tool_calls == ANSWER.tool_calls
    arguments: Any = first.tool_calls[0].arguments
    arguments.clear()
    assert second.tool_calls == ANSWER.tool_calls
    assert first.ledger is not second.ledger


def test_what_the_caller_does_to_the_original_later_does_not_matter() -> None:
    arguments = {"city": "Paris"}
    cache = ResponseCache(DictStore())
    cache.save("k", Response("", tool_calls=(ToolCall("1", "t", arguments),)), True)
    arguments["city"] = "Rome"
    found = cache.load("k", True)
    assert found is not None
    assert found.tool_calls[0].arguments == {"city": "Paris"}


def test_memory_and_store_give_the_same_answer() -> None:
    store = DictStore()
    ResponseCache(store).save("k", ANSWER, True)
    fresh = ResponseCache(store)
    assert fresh.load("k", True) == fresh.load("k", True) is not None
    assert fresh.statistics()["store_hits"] == 1
    assert fresh.statistics()["hits"] == 2


def test_prompts_are_not_in_the_bytes_and_neither_is_the_namespace() -> None:
    store = DictStore()
    ResponseCache(store, namespace="customer-7").save("k", ANSWER, True)
    assert "customer-7" not in repr(store.entries)


@pytest.mark.parametrize("later", [True, False])
def test_what_is_not_durable_stays_in_memory(later: bool) -> None:
    store = DictStore()
    cache = ResponseCache(store)
    (cache.save_later if later else cache.save)("k", ANSWER, False)
    assert cache.flush()
    assert text(cache, durable=False) == ANSWER.text
    assert store.entries == {}
    cache.load("other", False)
    assert store.reads == []


def test_an_answer_saved_later_is_there_at_once_and_in_the_store_soon() -> None:
    store = DictStore()
    cache = ResponseCache(store)
    cache.save_later("k", ANSWER, True)
    assert text(cache) == ANSWER.text
    assert cache.flush()
    assert text(ResponseCache(store)) == ANSWER.text
    cache.close()


def test_an_answer_is_as_old_as_its_first_storing_in_every_tier() -> None:
    store, clock, wall = DictStore(), FakeClock(), FakeClock()
    cache = ResponseCache(store, ttl=60.0, clock=clock, wall=wall)
    cache.save("k", ANSWER, True)
    for each in (clock, wall):
        each.advance(40.0)
    other = ResponseCache(store, ttl=60.0, clock=clock, wall=wall)
    assert text(cache) == text(other) == ANSWER.text
    for each in (clock, wall):
        each.advance(20.0)
    assert text(cache) is text(other) is None


def test_the_readers_time_to_live_counts_not_the_writers() -> None:
    store, wall = DictStore(), FakeClock()
    ResponseCache(store, ttl=1000.0, wall=wall).save("k", ANSWER, True)
    wall.advance(100.0)
    assert text(ResponseCache(store, ttl=60.0, wall=wall)) is None
    assert text(ResponseCache(store, ttl=600.0, wall=wall)) == ANSWER.text


def test_an_answer_from_the_future_is_as_doubtful_as_an_old_one() -> None:
    store, clock = DictStore(), FakeClock()
    ResponseCache(store, wall=lambda: 5000.0).save("k", ANSWER, True)
    assert text(ResponseCache(store, wall=lambda: 1400.0, clock=clock)) is None
    cache = ResponseCache(store, wall=lambda: 1500.0, clock=clock)
    assert text(cache) == ANSWER.text
    clock.advance(100.0)
    store.entries.clear()
    assert text(cache) is None


@pytest.mark.parametrize("kind", [DictStore, MemoryStore, DiskStore, None])
def test_clearing_forgets_this_namespace_only_and_for_later_processes_too(
    kind: Any, tmp_path: Path
) -> None:
    store = DiskStore(tmp_path) if kind is DiskStore else kind and kind()
    mine, theirs = (ResponseCache(store, namespace=name) for name in ("mine", "theirs"))
    for cache in (mine, theirs):
        cache.save("k", ANSWER, True)
    mine.clear()
    assert text(mine) is None
    assert text(theirs) == ANSWER.text
    if store is not None:
        assert text(ResponseCache(store, namespace="mine")) is None
        assert text(ResponseCache(store, namespace="theirs")) == ANSWER.text
        mine.save("k", ANSWER, True)
        assert text(ResponseCache(store, namespace="mine")) == ANSWER.text
    for cache in (mine, theirs):
        cache.close()


def test_clearing_drops_what_waits_to_be_written() -> None:
    entered, gate = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def set(self, key: str, value: bytes, ttl: float) -> None:
            entered.set()
            assert gate.wait(10)
            super().set(key, value, ttl)

    store = Slow()
    cache = ResponseCache(store)
    for number in range(5):
        cache.save_later(f"k{number}", ANSWER, True)
    assert entered.wait(10)
    clearing = threading.Thread(target=cache.clear)
    clearing.start()
    gate.set()
    clearing.join(10)
    assert cache.flush()
    assert store.statistics()["entries"] == 0
    cache.close()


def test_a_full_queue_drops_and_counts() -> None:
    gate = threading.Event()

    class Stuck(DictStore):
        def set(self, key: str, value: bytes, ttl: float) -> None:
            assert gate.wait(10)
            super().set(key, value, ttl)

    store = Stuck()
    cache = ResponseCache(store)
    for number in range(1_010):
        cache.save_later(f"k{number}", ANSWER, True)
    assert 9 <= cache.statistics()["dropped"] <= 10
    assert cache.statistics()["waiting"] >= 1_000
    gate.set()
    cache.close(10.0)
    assert len(store.entries) >= 1_000


ERRORS = [
    RuntimeError("prompt: my secret"), OSError(28, "no space"), TimeoutError(), KeyError("k"),
    CacheFault("write", "the disk is full"), RecursionError(), MemoryError(),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_broken_store_is_a_miss_a_count_and_a_warning_without_its_words(
    error: Exception, messages: list[str]
) -> None:
    cache = ResponseCache(BrokenStore(error))
    assert cache.load("key-material", True) is None
    cache.save("key-material", ANSWER, True)
    assert text(cache, "key-material") == ANSWER.text
    cache.clear()
    assert sum(cache.statistics()["faults"].values()) == 3
    assert 1 <= len(messages) <= 3
    assert not any(
        word in line for line in messages for word in ("secret", "key-material", "Paris")
    )


def test_an_interrupt_does_not_count_as_a_fault() -> None:
    cache = ResponseCache(BrokenStore(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        cache.load("k", True)


def test_one_warning_a_minute_and_reason(messages: list[str]) -> None:
    clock = FakeClock()
    cache = ResponseCache(BrokenStore(RuntimeError()), clock=clock)
    for _ in range(2):
        cache.load("k", True)
    assert len(messages) == 1
    cache.save("k", ANSWER, True)
    assert len(messages) == 2
    clock.advance(60.0)
    cache.load("other", True)
    assert len(messages) == 3
    assert cache.statistics()["faults"] == {"read": 3, "write": 1}


def test_a_store_that_keeps_failing_is_left_alone_for_half_a_minute() -> None:
    clock, store = FakeClock(), BrokenStore(RuntimeError())
    cache = ResponseCache(store, clock=clock)
    for _ in range(10):
        cache.load("k", True)
        cache.save_later("k2", ANSWER, True)
        assert cache.flush()
    assert store.asked <= 4
    asked = store.asked
    clock.advance(30.0)
    cache.load("k", True)
    assert store.asked == asked + 1
    cache.close()


def test_a_success_ends_the_faults_in_a_row() -> None:
    class Flaky(MemoryStore):
        asked = 0

        def get(self, key: str) -> bytes | None:
            self.asked += 1
            if self.asked % 3:
                raise RuntimeError
            return None

    store = Flaky()
    cache = ResponseCache(store)
    for _ in range(20):
        cache.load("k", True)
    assert store.asked == 20


@pytest.mark.parametrize(
    ("planted", "reason"),
    [
        (b"", "foreign"), (b"\x80\x04K\x01.", "foreign"), ("text", "foreign"),
        (b"AKRC\x09future", "newer"), (b"AKRC\x01" + b"0" * 50, "corrupt"),
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_read_is_a_counted_miss(planted: Any, reason: str) -> None:
    store = DictStore()
    writer = ResponseCache(store)
    writer.save("k", ANSWER, True)
    writer.save("good", ANSWER, True)
    (address,) = (key for key in store.entries if not key.endswith("good"))
    store.entries[address] = planted
    cache = ResponseCache(store)
    for _ in range(5):
        assert cache.load("k", True) is None
    assert cache.statistics()["faults"] == {reason: 5}
    assert text(cache, "good") == ANSWER.text
    cache.save("k", ANSWER, True)
    assert text(ResponseCache(store)) == ANSWER.text


def test_an_unusable_directory_leaves_memory_and_one_warning(
    tmp_path: Path, messages: list[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    clock = FakeClock()
    cache = ResponseCache(DiskStore(tmp_path / "file"), clock=clock)
    for number in range(20):
        cache.save(f"k{number}", ANSWER, True)
        assert text(cache, f"k{number}") == ANSWER.text
        cache.load("absent", True)
        clock.advance(61.0)
    assert len(messages) == 1
    assert "AGENTKIT_CACHE_DIR" in messages[0]
    assert cache.statistics()["faults"] == {"directory": 1}
    cache.close()


def test_an_answer_of_fifty_megabytes_is_counted_and_hurts_nothing(tmp_path: Path) -> None:
    cache = ResponseCache(DiskStore(tmp_path))
    cache.save("small", ANSWER, True)
    cache.save("large", Response("x" * 50_000_000), True)
    assert cache.load("large", True) is None
    assert cache.statistics()["faults"] == {"too_large": 1, "too_large_for_memory": 1}
    assert text(ResponseCache(DiskStore(tmp_path)), "small") == ANSWER.text
    cache.close()


def test_tool_arguments_that_are_not_json_are_not_stored() -> None:
    store = DictStore()
    cache = ResponseCache(store)
    strange: Response[Any] = Response("", tool_calls=(ToolCall("1", "t", {"x": object()}),))
    cache.save("k", strange, True)
    cache.save_later("k", strange, True)
    assert cache.load("k", True) is None
    assert store.entries == {}
    assert cache.statistics()["faults"] == {"unserialisable": 2}


def test_a_disk_hit_after_the_row_expired_is_a_miss(tmp_path: Path) -> None:
    cache = ResponseCache(DiskStore(tmp_path))
    cache.save("k", ANSWER, True)
    with rows(tmp_path) as database:
        database.execute("UPDATE Cache SET expire_time = 1.0")
    assert text(ResponseCache(DiskStore(tmp_path))) is None
    cache.close()


def test_closing_writes_what_waits_and_may_be_repeated(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    cache = ResponseCache(DiskStore(tmp_path))
    for number in range(50):
        cache.save_later(f"k{number}", ANSWER, True)
    cache.close()
    cache.close()
    assert set(threading.enumerate()) <= before
    assert text(cache, "k1") is None
    cache.save("k", ANSWER, True)
    cache.save_later("k", ANSWER, True)
    cache.clear()
    again = ResponseCache(DiskStore(tmp_path))
    assert all(text(again, f"k{number}") for number in range(50))
    again.close()
    assert [path.name for path in (tmp_path / "responses-v1").iterdir()] == ["cache.db"]


def test_the_counters_add_up() -> None:
    store = DictStore()
    ResponseCache(store).save("stored", ANSWER, True)
    table = RecentTable[Response[Any]](max_entries=5)
    cache = ResponseCache(store, memory=table)
    for key in ("absent", "stored", "stored", "absent"):
        cache.load(key, True)
    statistics = cache.statistics()
    assert {name: statistics[name] for name in ("hits", "misses", "store_hits", "entries")} == {
        "hits": 2, "misses": 2, "store_hits": 1, "entries": 1,
    }  # fmt: skip
    assert statistics["bytes"] > len(ANSWER.text)


def test_eight_threads_never_see_another_keys_answer(tmp_path: Path) -> None:
    small = RecentTable[Response[Any]](max_entries=5)
    cache = ResponseCache(DiskStore(tmp_path), memory=small)
    barrier = threading.Barrier(8)
    wrong: list[Any] = []

    def hammer(number: int) -> None:
        barrier.wait()
        for turn in range(60):
            key = f"k{(turn * 7 + number) % 25}"
            (cache.save_later if turn % 2 else cache.save)(key, Response(key), True)
            found = text(cache, f"k{(turn + number) % 25}")
            if found not in (None, f"k{(turn + number) % 25}"):
                wrong.append(found)
            if turn == 30:
                cache.clear()

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.flush(10.0)
    assert wrong == []
    assert cache.statistics()["faults"] == {}
    cache.close()
