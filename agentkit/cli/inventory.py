"""What a response cache's directory holds, read without changing anything in it."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from agentkit.cache.disk import FORMAT, DiskStore
from agentkit.cache.faults import CacheFault
from agentkit.cache.record import decode

_DATABASE = "cache.db"
_ROWS = "SELECT key, store_time, expire_time, value FROM Cache"


class NoResponseCacheError(Exception):
    """There is no response cache in a directory; the message says why not."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """Entries of one directory.

    `bytes` is the size of the answers, `bytes_on_disk` that of the files. `oldest` and `newest` are
    seconds since 1970, None without entries. `models` counts entries by the model that answered,
    most first; `unreadable` those that no agentkit of this version wrote. `expired` ones are
    counted everywhere else, too, until they are evicted.
    """

    directory: Path
    format: str
    entries: int
    expired: int
    unreadable: int
    bytes: int
    bytes_on_disk: int
    oldest: float | None
    newest: float | None
    models: dict[str, int]


class _Row(NamedTuple):
    key: str
    stored: float
    expires: float | None
    value: bytes


def take_inventory(directory: Path | None, now: float | None = None) -> Inventory:
    """What `directory` holds (default: a manager's own), at wall time `now` in seconds.

    It may be the directory given to a manager or the one inside it that bears the format's name.

    Raises:
        NoResponseCacheError: it is absent, holds something else, or cannot be read.
    """
    path = _of_this_format(directory)
    now = time.time() if now is None else now
    entries = expired = unreadable = size = 0
    oldest = newest = None
    models: Counter[str] = Counter()
    for row in _rows(path):
        entries += 1
        size += len(row.value)
        expired += row.expires is not None and row.expires < now
        oldest = row.stored if oldest is None else min(oldest, row.stored)
        newest = row.stored if newest is None else max(newest, row.stored)
        model = _model_of(row)
        if model is None:
            unreadable += 1
        else:
            models[model] += 1
    return Inventory(
        path, FORMAT, entries, expired, unreadable, size, _bytes_on_disk(path), oldest, newest,
        dict(models.most_common()),
    )  # fmt: skip


def _of_this_format(directory: Path | None) -> Path:
    if directory is not None and directory.name == FORMAT:
        directory = directory.parent
    path = DiskStore(directory).path
    if (path / _DATABASE).is_file():
        return path
    root = path.parent
    if not root.exists():
        raise NoResponseCacheError(f"{root} does not exist: nothing has been stored there yet")
    if not root.is_dir():
        raise NoResponseCacheError(f"{root} is not a directory")
    raise NoResponseCacheError(f"{root} holds no response cache (no {FORMAT}/{_DATABASE} in it)")


def _rows(path: Path) -> Iterator[_Row]:
    database = path / _DATABASE
    # Without a log nobody has it open. Then SQLite must not make one: only a writer removes it.
    still = "" if database.with_name(f"{_DATABASE}-wal").exists() else "&immutable=1"
    address = f"file:{quote(str(database))}?mode=ro{still}"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=1.0)) as connection:
            for key, stored, expires, value in connection.execute(_ROWS):
                ours = isinstance(key, str) and isinstance(value, bytes)
                yield _Row(key, stored, expires, value) if ours else _Row("", stored, expires, b"")
    except sqlite3.Error as error:
        raise NoResponseCacheError(f"{database} cannot be read: {error}") from None


def _model_of(row: _Row) -> str | None:
    try:
        return decode(row.key, row.value)[0].model
    except CacheFault:
        return None


def _bytes_on_disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
