"""diskcache without pickle and without side files. Imported when a disk tier is first opened.

diskcache unpickles keys and values and follows file names that it finds in its database
(CVE-2025-69872). Here a key is text, a value is bytes inside the database, and a row that says
anything else is neither read nor acted upon.
"""

from __future__ import annotations

import sys
from typing import Any

from diskcache import Cache, Disk
from diskcache.core import MODE_RAW

from agentkit.cache.faults import CacheFault


class BytesOnlyDisk(Disk):  # type: ignore[misc]  # published without types
    """Text keys, bytes values, all of them in the database."""

    def put(self, key: Any) -> tuple[str, bool]:
        """The key's column. Raises `CacheFault` for anything but text."""
        if type(key) is not str:
            raise CacheFault("foreign", "a key that is no text was refused")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        """The key of a row. Raises `CacheFault` for a pickled one."""
        if not raw or type(key) is not str:
            raise CacheFault("foreign", "a row with a key that is no text was refused")
        return key

    def store(self, value: Any, read: Any, key: Any = None) -> tuple[int, int, None, bytes]:
        """The value's columns: size, mode, no file name, value."""
        if type(value) is not bytes or read:
            raise CacheFault("foreign", "a value that is not bytes was refused")
        return 0, MODE_RAW, None, value

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> bytes:
        """The value of a row. Raises `CacheFault` for a pickle or a file name."""
        if mode != MODE_RAW or filename is not None or type(value) is not bytes or read:
            raise CacheFault("foreign", "a row that agentkit did not write was refused")
        return value

    def remove(self, file_path: Any) -> None:
        """Nothing: no row of ours has a file, so a file named in a row is somebody else's."""


def open_database(directory: str, size_limit: int, timeout: float) -> Any:
    """The diskcache in `directory`, with our settings, whatever its own table says of them."""
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
        # Reading a mapped file that another process cuts short would kill this one.
        sqlite_mmap_size=0,
        # One large answer must not leave a log of its size behind.
        sqlite_journal_size_limit=4 * 2**20,
    )
