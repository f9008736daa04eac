"""Processes that share a cache file read it complete, and one at a time if they lock it."""

from __future__ import annotations

import json
import multiprocessing
import stat
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from agentkit.bedrock.catalog.json_file import JsonFile

SPAWN = multiprocessing.get_context("spawn")


def write_often(path: Path, value: str) -> None:
    for _ in range(200):
        JsonFile(path).write([value] * 2000)


def hold_lock(path: Path, held: Event) -> None:
    with JsonFile(path).locked():
        held.set()
        SPAWN.Event().wait(60)


@pytest.mark.processes
def test_a_reader_sees_one_writer_or_the_other_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "shared.json"
    writers = [SPAWN.Process(target=write_often, args=(path, value)) for value in ("a", "b")]
    for writer in writers:
        writer.start()
    seen: set[str] = set()
    while any(writer.is_alive() for writer in writers):
        value: Any = JsonFile(path).read()
        if value is not None:
            assert len(value) == 2000
            assert len(set(value)) == 1
            seen.add(value[0])
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen <= {"a", "b"}
    assert [one.name for one in tmp_path.iterdir()] == ["shared.json"]


@pytest.mark.processes
def test_the_lock_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    path, held = tmp_path / "shared.json", SPAWN.Event()
    holder = SPAWN.Process(target=hold_lock, args=(path, held))
    holder.start()
    assert held.wait(30)
    import fcntl

    with (
        (tmp_path / "shared.lock").open("rb") as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder.kill()
    holder.join()
    with JsonFile(path).locked():
        assert JsonFile(path).write({"mine": True})
    assert JsonFile(path).read() == {"mine": True}


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "shared.json"
    JsonFile(path).write(1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shared.json"
    JsonFile(path).write({"old": True})

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    assert JsonFile(path).write({"new": True}) is False
    assert JsonFile(path).read() == {"old": True}
    assert [one.name for one in tmp_path.iterdir()] == ["shared.json"]


def test_a_lock_that_cannot_be_had_is_not_needed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with JsonFile(tmp_path / "file" / "below").locked():
        pass
