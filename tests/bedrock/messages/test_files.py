"""Only regular files of an allowed size and place become part of a message."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agentkit.bedrock.messages.files import read_file
from agentkit.errors import RequestValidationError


def test_a_file_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_file(path, limit=5) == b"12345"
    with pytest.raises(RequestValidationError, match="has 5 bytes; the limit is 4"):
        read_file(path, limit=4)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(RequestValidationError, match="empty"):
        read_file(tmp_path / "a", limit=5)


@pytest.mark.promise("S1-13")
@pytest.mark.parametrize("name", ["absent", "", "bad\0name"])
def test_what_is_not_there_is_not_read(name: str, tmp_path: Path) -> None:
    with pytest.raises((FileNotFoundError, RequestValidationError)):
        read_file(f"{tmp_path}/{name}", limit=5)


@pytest.mark.promise("S1-13")
def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="folder"):
        read_file(tmp_path, limit=5)


@pytest.mark.promise("S1-14")
def test_a_device_is_refused() -> None:
    with pytest.raises(RequestValidationError, match="not a regular file"):
        read_file("/dev/null", limit=5)


def test_a_pipe_without_a_writer_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RequestValidationError, match="not a regular file"):
        read_file(tmp_path / "pipe", limit=5)


def test_an_unreadable_file_is_an_error_of_our_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"1")

    def refuse(*_: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RequestValidationError, match="Permission denied"):
        read_file(tmp_path / "a", limit=5)


def test_a_link_to_a_file_is_followed_where_no_folder_is_set(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert read_file(tmp_path / "link", limit=5) == b"1"


@pytest.mark.promise("S1-14")
def test_no_link_leads_out_of_the_allowed_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(b"1")
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "own").write_bytes(b"2")
    (inside / "good").symlink_to(inside / "own")
    for path in (inside / "link", inside / ".." / "secret", tmp_path / "secret"):
        with pytest.raises(RequestValidationError, match="outside the allowed folder"):
            read_file(path, limit=5, allowed_folder=inside)
    assert read_file(inside / "good", limit=5, allowed_folder=inside) == b"2"


def test_a_folder_that_becomes_a_link_after_the_check_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder, text in ((inside / "sub" / "deep", b"1"), (outside / "deep", b"secret")):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(text)
    assert read_file(inside / "sub" / "deep" / "file", limit=9, allowed_folder=inside) == b"1"
    really_open = os.open

    def swap(*args: Any, **how: Any) -> int:
        if not (inside / "moved").exists():
            (inside / "sub").rename(inside / "moved")
            (inside / "sub").symlink_to(outside)
        return really_open(*args, **how)

    monkeypatch.setattr(os, "open", swap)
    before = open_files()
    with pytest.raises(RequestValidationError, match="cannot be read"):
        read_file(inside / "sub" / "deep" / "file", limit=9, allowed_folder=inside)
    assert open_files() == before


@pytest.mark.parametrize("change", [b"123456", b"1"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    change: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"123")
    fstat = os.fstat

    def then_change(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        path.write_bytes(change)
        return status

    monkeypatch.setattr(os, "fstat", then_change)
    with pytest.raises(RequestValidationError, match="changed while it was read"):
        read_file(path, limit=100)


@pytest.mark.promise("S1-14")
def test_no_file_stays_open(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "big").write_bytes(b"1" * 9)
    before = open_files()
    read_file(tmp_path / "a", limit=5)
    with pytest.raises(RequestValidationError):
        read_file(tmp_path / "big", limit=5)
    assert open_files() == before


def open_files() -> int:
    listing = Path("/proc/self/fd")
    return len(list(listing.iterdir())) if listing.exists() else 0
