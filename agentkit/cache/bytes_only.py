"""diskcache without pickle and without side files. Imported when a disk tier is first opened.

diskcache unpickles keys and values, and opens files whose names it finds in its database
(CVE-2025-69872). Here every key is a string and every value is bytes inside the database; any other
row is rejected.
"""

from __future__ import annotations

import sys
from typing import Any

from diskcache import Cache, Disk
from diskcache.core import MODE_RAW

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


def open_database(directory: str, size_limit: int, timeout: float) -> Any:
    """Open the diskcache in `directory` with our settings, which override the stored ones."""
    return Cache(
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
