"""The disk tier keeps bytes in a private directory and survives what happens to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diskcache
import pytest

from agentkit.cache.disk import FORMAT, DiskStore
from agentkit.cache.faults import CacheFault
from agentkit.errors import ConfigurationError
from tests.cache.stores import rows
from tests.helpers import no_home


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    store = DiskStore(tmp_path / "cache")
    yield store
    store.close()


def folder(store: DiskStore) -> Path:
    return store.path.parent


def reason(store: DiskStore, key: str = "g:k") -> str:
    with pytest.raises(CacheFault) as caught:
        store.get(key)
    return caught.value.reason


def test_nothing_is_made_before_the_first_use(store: DiskStore) -> None:
    store.clear()
    store.close()
    assert store.statistics() == {"entries": 0, "bytes": 0}
    assert not folder(store).exists()


def test_without_a_home_nothing_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user id is in no list of users."""
    monkeypatch.delenv("AGENTKIT_CACHE_DIR", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", no_home)
    store = DiskStore()
    assert not store.path.exists()
    assert reason(store) == "directory"


@pytest.mark.parametrize("size", [0, 1, 40_000, 1_000_000])
def test_what_was_set_is_there_for_another_store_too(store: DiskStore, size: int) -> None:
    store.set("g:k", b"x" * size, 60.0)
    assert store.get("g:k") == b"x" * size
    other = DiskStore(folder(store))
    assert other.get("g:k") == b"x" * size
    assert other.get("g:other") is None
    other.close()
    assert store.statistics()["entries"] == 1


def test_an_entry_expires(store: DiskStore) -> None:
    store.set("g:k", b"v", 60.0)
    with rows(folder(store)) as database:
        database.execute("UPDATE Cache SET expire_time = ?", (time.time() - 1,))
    assert store.get("g:k") is None


def test_expired_entries_are_deleted_by_later_writes(store: DiskStore) -> None:
    store.set("g:k", b"v", 60.0)
    with rows(folder(store)) as database:
        database.execute("UPDATE Cache SET expire_time = ?", (time.time() - 1,))
    store.set("g:new", b"v", 60.0)
    with rows(folder(store)) as database:
        assert database.execute("SELECT key FROM Cache").fetchall() == [("g:new",)]


def test_the_directory_and_the_one_above_are_its_owners_alone(store: DiskStore) -> None:
    before = os.umask(0)
    try:
        store.set("g:k", b"v", 60.0)
    finally:
        os.umask(before)
    for path in (store.path, folder(store)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_readable_directory_of_ours_is_closed_to_others(store: DiskStore) -> None:
    store.path.mkdir(parents=True, mode=0o755)
    store.path.chmod(0o755)
    store.get("g:k")
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o702])
def test_a_directory_that_others_can_write_is_refused(store: DiskStore, mode: int) -> None:
    store.path.mkdir(parents=True)
    store.path.chmod(mode)
    assert reason(store) == "directory"
    assert list(store.path.iterdir()) == []


def test_a_directory_inside_one_that_everybody_can_rename_in_is_refused(store: DiskStore) -> None:
    folder(store).mkdir()
    folder(store).chmod(0o777)
    assert reason(store) == "directory"
    folder(store).chmod(0o1777)
    assert store.get("g:k") is None


def test_a_directory_of_another_user_is_refused(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(CacheFault, match="belongs to another user") as caught:
        store.get("g:k")
    assert caught.value.permanent


def test_a_link_in_place_of_the_directory_is_refused(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder(store).mkdir()
    store.path.symlink_to(tmp_path / "elsewhere")
    assert reason(store) == "directory"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_in_place_of_the_directory_is_left_alone(store: DiskStore) -> None:
    folder(store).write_text("mine")
    assert reason(store) == "directory"
    assert folder(store).read_text() == "mine"


def test_a_file_in_place_of_the_inner_directory_is_left_alone(store: DiskStore) -> None:
    folder(store).mkdir()
    store.path.write_text("mine")
    assert reason(store) == "directory"


def test_a_directory_that_cannot_be_written_is_refused(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CacheFault, match="cannot be written"):
        store.set("g:k", b"v", 60.0)


def test_a_directory_that_cannot_be_made_is_reported_with_the_remedy() -> None:
    with pytest.raises(CacheFault, match="AGENTKIT_CACHE_DIR") as caught:
        DiskStore("/proc/agentkit").get("g:k")
    assert caught.value.permanent


def test_a_name_that_would_be_expanded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELSEWHERE", "x")
    store = DiskStore(tmp_path / "$ELSEWHERE")
    assert reason(store) == "directory"
    assert not (tmp_path / "x").exists()


def test_argument_environment_and_platform_name_the_directory_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTKIT_CACHE_DIR", str(tmp_path / "environment"))
    assert DiskStore(tmp_path / "argument").path == tmp_path / "argument" / FORMAT
    assert DiskStore().path == tmp_path / "environment" / FORMAT
    monkeypatch.setenv("AGENTKIT_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert DiskStore().path.is_relative_to(tmp_path)
    assert DiskStore("~/here").path == tmp_path / "home" / "here" / FORMAT


@pytest.mark.parametrize("directory", ["", 7, b"bytes", True])
def test_a_directory_must_be_a_path(directory: Any) -> None:
    with pytest.raises(ConfigurationError):
        DiskStore(directory)


@pytest.mark.parametrize("limit", [0, -1, 1000, 1.5e9, True])
def test_a_limit_that_cannot_work_is_a_configuration_error(limit: Any) -> None:
    with pytest.raises(ConfigurationError):
        DiskStore(size_limit=limit)


def test_secure_delete_is_on_for_every_connection(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def recorded(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", recorded)
    store.set("g:k", b"v", 60.0)
    seen: list[Any] = []

    def look() -> None:
        store.get("g:k")
        for pragma in ("secure_delete", "mmap_size"):
            seen.extend(opened[-1].execute(f"PRAGMA {pragma}").fetchone())
        store.release()

    look()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [1, 0, 1, 0]
    with rows(folder(store)) as database:  # not merely this SQLite's own default
        setting = "SELECT value FROM Settings WHERE key = 'sqlite_secure_delete'"
        assert database.execute(setting).fetchone() == (1,)


def test_cleared_text_is_nowhere_in_the_directory_any_more(store: DiskStore) -> None:
    text = b"an answer that is private " * 100
    store.set("g:k", text, 60.0)
    kept = [path for path in folder(store).rglob("*") if path.is_file()]
    assert any(text[:26] in path.read_bytes() for path in kept)
    store.clear("g:")
    kept = [path for path in folder(store).rglob("*") if path.is_file()]
    assert not any(text[:26] in path.read_bytes() for path in kept)


def test_clearing_a_group_leaves_the_others(store: DiskStore) -> None:
    for number in range(150):
        store.set(f"a:{number}", b"v", 60.0)
    store.set("ab:1", b"v", 60.0)
    store.clear("a:")
    assert store.get("a:7") is None
    assert store.get("ab:1") == b"v"
    store.clear()
    assert store.get("ab:1") is None


def test_a_value_over_one_percent_is_refused_and_evicts_nothing(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, size_limit=2**20)
    store.set("g:small", b"x" * 10_000, 60.0)
    for size in (2**20 // 100 + 1, 50_000_000):
        with pytest.raises(CacheFault) as caught:
            store.set("g:large", bytes(size), 60.0)
        assert caught.value.reason == "too_large"
    assert store.get("g:small") == b"x" * 10_000
    store.close()


def test_the_oldest_go_when_the_limit_is_reached(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, size_limit=2**20)
    for number in range(200):
        store.set(f"g:{number}", os.urandom(10_000), 60.0)
    assert store.statistics()["bytes"] < 2 * 2**20
    assert store.get("g:199") is not None
    assert store.get("g:0") is None
    store.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" * 300])
def test_a_damaged_database_is_set_aside_and_started_anew(store: DiskStore, content: bytes) -> None:
    store.path.mkdir(parents=True, mode=0o700)
    (store.path / "cache.db").write_bytes(content)
    assert store.get("g:k") is None
    store.set("g:k", b"v", 60.0)
    assert store.get("g:k") == b"v"
    aside = folder(store) / f"{FORMAT}.damaged"
    assert (aside / "cache.db").read_bytes() == content
    store.clear()
    assert not aside.exists()


def test_damage_while_it_is_open_is_one_fault_and_then_a_fresh_start(store: DiskStore) -> None:
    for number in range(50):
        store.set(f"g:{number}", b"v" * 1000, 60.0)
    store.close()
    store.get("g:0")
    database = store.path / "cache.db"
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (database.stat().st_size - 4096))
    found = []
    for number in range(50):
        try:
            found.append(store.get(f"g:{number}"))
        except CacheFault as fault:
            found.append(fault.reason.encode())
    assert b"damaged" in found
    store.set("g:k", b"v", 60.0)
    assert store.get("g:k") == b"v"


def test_a_directory_deleted_underneath_is_made_again(store: DiskStore) -> None:
    store.set("g:k", b"v", 60.0)
    shutil.rmtree(folder(store))
    store.set("g:k2", b"v", 60.0)
    assert DiskStore(folder(store)).get("g:k2") == b"v"


def test_a_newer_format_is_left_alone(store: DiskStore) -> None:
    newer = folder(store) / "responses-v2"
    newer.mkdir(parents=True, mode=0o700)
    (newer / "cache.db").write_bytes(b"from the future")
    assert store.get("g:k") is None
    store.clear()
    assert (newer / "cache.db").read_bytes() == b"from the future"


def test_another_writer_costs_a_fault_after_a_second_and_not_a_minute(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentkit.cache.disk.LOCK_TIMEOUT", 0.01)
    other = DiskStore(folder(store))
    other.set("g:k", b"v", 60.0)
    other.close()
    with rows(folder(store)) as database:
        database.execute("BEGIN IMMEDIATE")
        assert reason(store) == "read"
        with pytest.raises(CacheFault, match="SQLITE_BUSY"):
            store.get("g:k")
    assert store.get("g:k") == b"v"
    with rows(folder(store)) as database:
        database.execute("BEGIN IMMEDIATE")
        assert store.get("g:k") == b"v", "a reader waits for no writer"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (sqlite3.OperationalError("a response"), "OperationalError"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_a_full_disk_is_a_fault_and_the_next_write_works(
    store: DiskStore, error: Exception, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set("g:k", b"v", 60.0)

    def full(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(diskcache.Cache, "_row_insert", full)
        with pytest.raises(CacheFault) as caught:
            store.set("g:k2", b"v", 60.0)
    assert caught.value.reason == "write"
    assert str(caught.value) == f"cannot write {store.path}: {why}"
    store.set("g:k2", b"v", 60.0)
    assert store.get("g:k2") == b"v"


def test_eight_threads_at_once_read_what_was_written(store: DiskStore) -> None:
    barrier = threading.Barrier(8)
    wrong: list[Any] = []

    def hammer(number: int) -> None:
        barrier.wait()
        for turn in range(30):
            key = f"g:{(turn + number) % 20}"
            try:
                store.set(key, key.encode() * 50, 60.0)
                found = store.get(key)
            except CacheFault as fault:
                wrong.append(fault)
            else:
                if found != key.encode() * 50:
                    wrong.append((key, found))
        store.release()

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
