"""Whoever can write into the database still cannot run code or reach another file."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit.cache.bytes_only import open_database
from agentkit.cache.disk import DiskStore
from agentkit.cache.faults import CacheFault
from tests.cache.stores import rows

RAW, BINARY, TEXT, PICKLE = 1, 2, 3, 4


class Planted:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    store = DiskStore(tmp_path / "cache")
    store.set("g:k", b"v", 60.0)
    yield store
    store.close()


def plant(store: DiskStore, **columns: Any) -> None:
    with rows(store.path.parent) as database:
        for name, value in columns.items():
            database.execute(f"UPDATE Cache SET {name} = ?", (value,))


def touch_everything(store: DiskStore) -> None:
    """Every way in which a row is read, replaced, evicted and deleted."""
    with pytest.raises(CacheFault) as caught:
        store.get("g:k")
    assert caught.value.reason == "foreign"
    for key in ("g:k", "g:another"):
        store.set(key, b"new", 60.0)
    store.clear("g:")
    store.clear()


def test_a_planted_pickle_never_runs(store: DiskStore, tmp_path: Path) -> None:
    payload = pickle.dumps(Planted(tmp_path / "ran"))
    pickle.loads(payload)
    (tmp_path / "ran").rmdir()
    plant(store, mode=PICKLE, value=payload)
    touch_everything(store)
    assert not (tmp_path / "ran").exists()


def test_a_planted_pickle_in_a_file_never_runs(store: DiskStore, tmp_path: Path) -> None:
    (store.path / "evil.val").write_bytes(pickle.dumps(Planted(tmp_path / "ran")))
    plant(store, mode=PICKLE, value=None, filename="evil.val")
    touch_everything(store)
    assert not (tmp_path / "ran").exists()


def test_a_planted_pickle_as_a_key_never_runs(store: DiskStore, tmp_path: Path) -> None:
    plant(store, key=pickle.dumps(Planted(tmp_path / "ran")), raw=0)
    assert store.get("g:k") is None
    database = open_database(str(store.path), 2**20, 1.0)
    with pytest.raises(CacheFault):
        list(database)
    database.close()
    store.set("g:k", b"new", 60.0)
    store.clear()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("mode", [RAW, BINARY, TEXT, PICKLE])
@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("expired", [True, False])
def test_a_file_outside_is_neither_read_nor_deleted(
    store: DiskStore, tmp_path: Path, mode: int, absolute: bool, expired: bool
) -> None:
    outside = tmp_path / "cache" / "outside"
    outside.write_text("mine")
    name = str(outside) if absolute else "../outside"
    plant(store, mode=mode, value=None, filename=name, **({"expire_time": 1.0} if expired else {}))
    if expired:
        assert store.get("g:k") is None
        store.set("g:another", b"v", 60.0)
        store.clear()
    else:
        touch_everything(store)
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("value", ["text", 7, 1.5, None])
def test_a_value_that_is_not_bytes_is_refused(store: DiskStore, value: Any) -> None:
    plant(store, value=value)
    touch_everything(store)


@pytest.mark.parametrize("value", ["text", ["list"], bytearray(b"x")])
def test_only_bytes_are_taken(store: DiskStore, value: Any) -> None:
    with pytest.raises(CacheFault):
        store.set("g:k", value, 60.0)


@pytest.mark.parametrize("key", [b"bytes", 7, ("tuple",), None])
def test_only_text_keys_are_taken(store: DiskStore, key: Any) -> None:
    with pytest.raises(CacheFault):
        store.get(key)
    with pytest.raises(CacheFault):
        store.set(key, b"v", 60.0)


def test_no_answer_ever_becomes_a_file_of_its_own(store: DiskStore) -> None:
    store.set("g:large", bytes(5_000_000), 60.0)
    assert {path.name for path in store.path.iterdir()} <= {
        "cache.db", "cache.db-wal", "cache.db-shm",
    }  # fmt: skip
