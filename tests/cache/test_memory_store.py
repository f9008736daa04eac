"""The memory tier stays within its limits and forgets in time."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.cache.memory import MemoryStore, RecentTable
from agentkit.errors import ConfigurationError
from agentkit.testing.clock import FakeClock
from agentkit.types import Store
from tests.forks import forks, in_child
from tests.interruptions import Interruption


def test_it_is_a_store() -> None:
    store: Store = MemoryStore()
    store.set("k", b"v", 60.0)
    assert store.get("k") == b"v"
    assert store.get("other") is None


def test_a_value_lives_until_its_time_is_up_and_no_longer() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    store.set("k", b"v", 60.0)
    clock.advance(59.9)
    assert store.get("k") == b"v"
    clock.advance(0.1)
    assert store.get("k") is None
    assert store.statistics()["entries"] == store.statistics()["bytes"] == 0


def test_setting_again_starts_the_time_anew() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    store.set("k", b"old", 60.0)
    clock.advance(50.0)
    store.set("k", b"new", 60.0)
    clock.advance(50.0)
    assert store.get("k") == b"new"


def test_the_least_recently_used_goes_first() -> None:
    store = MemoryStore(max_entries=2)
    store.set("a", b"1", 60.0)
    store.set("b", b"2", 60.0)
    store.get("a")
    store.set("c", b"3", 60.0)
    assert [store.get(key) for key in "abc"] == [b"1", None, b"3"]
    assert store.statistics()["evicted"] == 1


def test_a_value_over_one_percent_is_not_kept_and_removes_the_older_one() -> None:
    store = MemoryStore(max_bytes=1000)
    store.set("k", b"x" * 10, 60.0)
    assert store.get("k") == b"x" * 10
    store.set("k", b"x" * 11, 60.0)
    assert store.get("k") is None
    assert store.statistics()["too_large"] == 1


def test_clearing_takes_a_prefix() -> None:
    store = MemoryStore()
    for key in ("a:1", "a:2", "b:1"):
        store.set(key, b"v", 60.0)
    store.clear("a:")
    assert [store.get(key) for key in ("a:1", "a:2", "b:1")] == [None, None, b"v"]
    store.clear()
    assert store.statistics()["bytes"] == 0


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 12), st.sampled_from([1.0, 5.0])),
        max_size=40,
    )
)
def test_it_never_holds_more_than_it_may_and_never_a_wrong_value(
    steps: list[tuple[str, int, float]],
) -> None:
    clock = FakeClock()
    store = MemoryStore(max_entries=3, max_bytes=1000, clock=clock)
    last: dict[str, tuple[bytes, float]] = {}
    for number, (key, size, ttl) in enumerate(steps):
        value = bytes([number]) * size
        store.set(key, value, ttl)
        last[key] = (value, clock() + ttl)
        clock.advance(1.0)
        held = {name: store.get(name) for name in "abcdef"}
        present = {name: value for name, value in held.items() if value is not None}
        for name, value in present.items():
            assert value == last[name][0]
            assert clock() < last[name][1]
        statistics = store.statistics()
        assert statistics["entries"] == len(present) <= 3
        assert statistics["bytes"] == sum(map(len, present.values())) <= 1000


@pytest.mark.parametrize("limits", [{"max_entries": 0}, {"max_bytes": -1}, {"max_entries": 1.5}])
def test_a_limit_that_cannot_work_is_refused(limits: Any) -> None:
    with pytest.raises(ConfigurationError):
        MemoryStore(**limits)


@forks
def test_a_child_that_is_forked_in_the_middle_of_a_change_has_the_right_sum() -> None:
    table = RecentTable[str]()
    table.put("a", "text", 60.0, 100)
    seen: list[str] = []

    class Size(int):
        forked = False

        def __radd__(self, total: int) -> int:
            if not self.forked:
                self.forked = True
                seen.append(in_child(lambda: table.statistics()["bytes"]))
            return total + int(self)

    table.put("b", "text", 60.0, Size(20))
    assert seen == ["120"]


def test_eight_threads_do_not_spoil_its_books() -> None:
    store = MemoryStore(max_entries=50, max_bytes=100_000)
    barrier = threading.Barrier(8)
    wrong: list[Any] = []

    def hammer(number: int) -> None:
        barrier.wait()
        for turn in range(500):
            key = f"{(turn * number) % 70}"
            store.set(key, key.encode() * (turn % 9 + 1), 60.0)
            found = store.get(key)
            if found is not None and set(found) != set(key.encode()):
                wrong.append((key, found))
            if turn % 100 == 0:
                store.clear("1")

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    statistics = store.statistics()
    assert statistics["entries"] <= 50
    store.clear()
    assert store.statistics()["bytes"] == 0


@pytest.mark.parametrize("after_calls", [False, True])
@pytest.mark.parametrize("handler", ["sets", "clears"])
@pytest.mark.parametrize("work", ["set", "get", "clear"])
def test_a_signal_handler_may_use_a_full_store_at_any_point(
    work: str, handler: str, after_calls: bool
) -> None:
    for at in itertools.count(1):
        store = MemoryStore(max_entries=3)
        for number in range(3):
            store.set(str(number), b"v", 60.0)
        does: dict[str, Callable[[], object]] = {
            "set": partial(store.set, "new", b"v", 60.0),
            "get": partial(store.get, "0"),
            "clear": store.clear,
            "sets": partial(store.set, "own", b"w", 60.0),
            "clears": store.clear,
        }
        interruption = Interruption(at, does[handler], after_calls=after_calls)
        interruption.during(does[work])
        figures = store.statistics()
        assert figures["entries"] == figures["bytes"] <= 3, at
        if not interruption.happened:
            break
    assert at > 3
