"""diskcache without pickle and without side files. Imported when a disk tier is first opened.

diskcache unpickles keys and values, and opens files whose names it finds in its database
(CVE-2025-69872). Here every key is a string and every value is bytes inside the database; any other
row is rejected.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from diskcache import Cache, Disk
from diskcache.core import DBNAME, MODE_RAW

from agentkit.cache.faults import CacheFault


class BytesOnlyDisk(Disk):  # type: ignore[misc]  # published without types
    """String keys and bytes values, all inside the database."""

    def put(self, key: Any) -> tuple[str, bool]:
        """The columns of a key. Raises `CacheFault` unless it is a string."""
        if type(key) is not str:
            raise CacheFault("foreign", "a key that is not a string was rejected")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        """The key of a row. Raises `CacheFault` for a pickled one."""
        if not raw or type(key) is not str:
            raise CacheFault("foreign", "a row whose key is not a string was rejected")
        return key

    def store(self, value: Any, read: Any, key: Any = None) -> tuple[int, int, None, bytes]:
        """The columns of a value: size, mode, file name (none), bytes."""
        if type(value) is not bytes or read:
            raise CacheFault("foreign", "a value that is not bytes was rejected")
        return 0, MODE_RAW, None, value

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> bytes:
        """The value of a row. Raises `CacheFault` for a pickle or a file name."""
        if mode != MODE_RAW or filename is not None or type(value) is not bytes or read:
            raise CacheFault("foreign", "a row that agentkit did not write was rejected")
        return value

    def remove(self, file_path: Any) -> None:
        """Does nothing: our rows have no files, and any other file is not ours to delete."""


class _Connection(sqlite3.Connection):
    """Closes itself with the last reference to it; Python 3.13 warns of one that is left open."""

    def __del__(self) -> None:
        with suppress(sqlite3.ProgrammingError):  # it was never opened
            self.close()


class _Database(Cache):  # type: ignore[misc]  # published without types
    """A diskcache that leaves no connection open.

    diskcache has one connection a thread, in a `threading.local`: when a thread ends or the cache
    is dropped, perhaps by another thread, the connection stays open.
    """

    @property
    def _con(self) -> sqlite3.Connection:
        """The connection of the calling thread, with the settings of the database."""
        connection: sqlite3.Connection | None = getattr(self._local, "con", None)
        if connection is None:
            connection = self._local.con = sqlite3.connect(
                Path(self._directory) / DBNAME,
                timeout=self._timeout,
                isolation_level=None,
                check_same_thread=False,  # only its end may come in another thread
                factory=_Connection,
            )
            with suppress(sqlite3.OperationalError):  # a new database has no settings yet
                for key, value in connection.execute("SELECT key, value FROM Settings").fetchall():
                    if key.startswith("sqlite_"):
                        self.reset(key, value, update=False)
        return connection


def open_database(directory: str, size_limit: int, timeout: float) -> Any:
    """Open the diskcache in `directory` with our settings, which override the stored ones."""
    return _Database(
        directory,
        timeout=timeout,
        disk=BytesOnlyDisk,
        size_limit=size_limit,
        eviction_policy="least-recently-stored",
        cull_limit=10,
        statistics=0,
        tag_index=1,
        disk_min_file_size=sys.maxsize,
        sqlite_secure_delete=1,
        # If another process truncated a mapped file, reading it would kill this process.
        sqlite_mmap_size=0,
        # One large response must not leave a log of its size behind.
        sqlite_journal_size_limit=4 * 2**20,
    )
