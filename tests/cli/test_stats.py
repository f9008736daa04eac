"""``agentkit stats``: counts the content of a directory without changing it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentkit import LLMManager
from agentkit.cache.disk import FORMAT, DiskStore
from agentkit.cli.app import app
from agentkit.cli.stats import read_statistics


def stats(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["stats", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def inventory(*arguments: object) -> dict[str, Any]:
    code, shown, _ = stats(*arguments, "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(shown)
    return found


def alpha(prompt: str, kwargs: dict[str, Any]) -> str:
    return f"alpha says {prompt}"


def beta(prompt: str, kwargs: dict[str, Any]) -> str:
    return f"beta says {prompt}"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two answers of alpha and one of beta, stored by a manager."""
    monkeypatch.delenv("AGENTKIT_CACHE", raising=False)
    root = tmp_path / "own"
    with LLMManager(cache_dir=str(root)) as manager:
        manager.register_model("alpha", alpha)
        manager.register_model("beta", beta)
        for model, prompt in (("alpha", "one"), ("alpha", "two"), ("beta", "one")):
            manager.complete(prompt, model=model)
    return root


def listing(path: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(file.relative_to(path)): (
            file.stat().st_mtime_ns,
            file.stat().st_mode,
            file.read_bytes() if file.is_file() else b"",
        )
        for file in path.rglob("*")
    }


def test_entries_are_counted_by_the_model_that_answered(directory: Path) -> None:
    found = inventory(directory)
    assert (found["entries"], found["expired"], found["unreadable"]) == (3, 0, 0)
    assert found["models"] == {"alpha": 2, "beta": 1}
    assert 0 < found["bytes"] < found["bytes_on_disk"]
    assert found["format"] == FORMAT
    oldest, newest = (datetime.fromisoformat(found[end]) for end in ("oldest", "newest"))
    assert oldest <= newest <= datetime.now(UTC)


def test_the_text_says_the_same(directory: Path) -> None:
    code, shown, _ = stats(directory)
    assert code == 0
    lines = [line.split() for line in shown.splitlines()]
    assert ["entries", "3"] in lines
    assert ["alpha", "2"] in lines
    assert ["beta", "1"] in lines


def test_the_default_is_the_directory_a_manager_would_use(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTKIT_CACHE_DIR", str(directory))
    assert inventory()["entries"] == 3


def test_the_inner_directory_can_be_named_too(directory: Path) -> None:
    assert inventory(directory / FORMAT) == inventory(directory)


def test_stats_changes_nothing(directory: Path) -> None:
    before = listing(directory)
    stats(directory)
    assert listing(directory) == before


def test_a_response_cache_in_use_can_be_read(directory: Path) -> None:
    store = DiskStore(directory)
    store.set("group:key", b"not an answer", 60.0)
    found = inventory(directory)
    store.close()
    assert (found["entries"], found["unreadable"]) == (4, 1)


def test_expired_entries_are_counted(directory: Path) -> None:
    found = read_statistics(directory)
    assert found.newest is not None
    later = read_statistics(directory, now=found.newest + 3601)
    assert (found.expired, later.expired, later.entries) == (0, 3, 3)


def test_a_row_of_another_program_is_counted_but_not_read(directory: Path) -> None:
    with closing(sqlite3.connect(directory / FORMAT / "cache.db")) as connection, connection:
        connection.execute(
            "INSERT INTO Cache (key, raw, store_time, mode, value) VALUES (7, 0, 1.0, 4, 'x')"
        )
    found = inventory(directory)
    assert (found["entries"], found["unreadable"]) == (4, 1)


def test_a_missing_directory_is_exit_code_1(tmp_path: Path) -> None:
    code, shown, stderr = stats(tmp_path / "nowhere")
    assert (code, shown) == (1, "")
    assert "nowhere does not exist" in stderr
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_directory_with_other_content_is_exit_code_1(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "letters.txt").write_text("private", encoding="utf-8")
    code, shown, stderr = stats(tmp_path, *options)
    assert (code, shown) == (1, "")
    assert "contains no response cache" in stderr
    assert [file.name for file in tmp_path.iterdir()] == ["letters.txt"]


def test_a_file_is_not_a_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    code, _, stderr = stats(file)
    assert code == 1
    assert "is not a directory" in stderr


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_another_kind_of_database_is_reported_and_not_changed(
    tmp_path: Path, content: bytes
) -> None:
    database = tmp_path / FORMAT / "cache.db"
    database.parent.mkdir()
    database.write_bytes(content)
    code, shown, stderr = stats(tmp_path)
    assert (code, shown) == (1, "")
    assert "cannot be read" in stderr
    assert database.read_bytes() == content
