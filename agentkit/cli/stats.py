"""``agentkit stats``: what the directory of a response cache contains."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import quote

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from agentkit.cli.output import AsJson, console, fail, print_json, print_text

if TYPE_CHECKING:
    from rich.console import Console

_DATABASE = "cache.db"
_ROWS = "SELECT key, store_time, expire_time, value FROM Cache"


def command(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            help="The directory of a response cache; default: the one that a manager uses.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the directory of a response cache contains, without changing it.

    Exit code 1: there is no response cache.
    """
    try:
        found = read_statistics(directory)
    except NoResponseCacheError as error:
        fail(str(error))
    if as_json:
        print_json(
            {
                **asdict(found),
                "directory": str(found.directory),
                "oldest": _iso(found.oldest),
                "newest": _iso(found.newest),
            }
        )
    else:
        _report(console(), found)


class NoResponseCacheError(Exception):
    """A directory contains no response cache; the message says why."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The entries of one directory.

    Attributes:
        directory: where the files are.
        format: the name of the storage format.
        entries: all entries, including expired and unreadable ones.
        expired: entries past their lifetime that were not evicted yet.
        unreadable: entries that this version of agentkit did not write.
        bytes: the size of the answers.
        bytes_on_disk: the size of the files.
        oldest: when the oldest entry was stored, in seconds since 1970; None without entries.
        newest: when the newest entry was stored.
        models: the number of entries of each model, the largest first.
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


class _Entry(NamedTuple):
    model: str | None
    stored: float
    expires: float | None
    size: int


def read_statistics(directory: Path | None, now: float | None = None) -> Statistics:
    """What `directory` contains (default: a manager's own) at `now`, in seconds since 1970.

    `directory` can be the one given to a manager or the one inside it, named after the format.

    Raises:
        NoResponseCacheError: it does not exist, contains something else, or cannot be read.
    """
    from agentkit.cache.disk import FORMAT

    path = _find(directory)
    now = time.time() if now is None else now
    entries = list(_entries(path / _DATABASE))
    stored = [entry.stored for entry in entries]
    models = Counter(entry.model for entry in entries)
    unreadable = models.pop(None, 0)
    return Statistics(
        directory=path,
        format=FORMAT,
        entries=len(entries),
        expired=sum(each.expires is not None and each.expires < now for each in entries),
        unreadable=unreadable,
        bytes=sum(entry.size for entry in entries),
        bytes_on_disk=sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        oldest=min(stored, default=None),
        newest=max(stored, default=None),
        models={str(model): count for model, count in models.most_common()},
    )


def _find(directory: Path | None) -> Path:
    """The directory that contains the database."""
    from agentkit.cache.disk import FORMAT, DiskStore

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
    raise NoResponseCacheError(f"{root} contains no response cache ({FORMAT}/{_DATABASE})")


def _entries(database: Path) -> Iterator[_Entry]:
    # Without a write-ahead log the database is not in use. SQLite must not create one then, as only
    # a writer removes it.
    in_use = database.with_name(f"{_DATABASE}-wal").exists()
    uri = f"file:{quote(str(database))}?mode=ro{'' if in_use else '&immutable=1'}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as connection:
            for key, stored, expires, value in connection.execute(_ROWS):
                size = len(value) if isinstance(value, bytes) else 0
                yield _Entry(_model_of(key, value), stored, expires, size)
    except sqlite3.Error as error:
        raise NoResponseCacheError(f"{database} cannot be read: {error}") from None


def _model_of(key: object, value: object) -> str | None:
    """The model that gave the answer; None for an entry that this version did not write."""
    from agentkit.cache.faults import CacheFault
    from agentkit.cache.record import decode

    if not (isinstance(key, str) and isinstance(value, bytes)):
        return None
    try:
        return decode(key, value)[0].model
    except CacheFault:
        return None


def _report(out: Console, found: Statistics) -> None:
    remarks = [
        f"{count:,} {what}"
        for what, count in (("expired", found.expired), ("unreadable", found.unreadable))
        if count
    ]
    lines = {
        "directory": str(found.directory),
        "format": found.format,
        "entries": f"{found.entries:,}" + (f" ({', '.join(remarks)})" if remarks else ""),
        "size": f"{found.bytes:,} bytes of answers, {found.bytes_on_disk:,} on disk",
        "oldest": _iso(found.oldest) or "–",
        "newest": _iso(found.newest) or "–",
    }
    for name, value in lines.items():
        print_text(out, Text.assemble((f"{name:11}", "dim"), value))
    if found.models:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("model", overflow="fold")
        table.add_column("entries", justify="right")
        for model, entries in found.models.items():
            table.add_row(Text(model), f"{entries:,}")
        out.print(table)


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
