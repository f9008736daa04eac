"""The disk tier: one SQLite database in a private directory, shared by processes."""

from __future__ import annotations

import os
import stat
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agentkit._fork import ForkGate, fork_safe_lock, on_fork
from agentkit.cache.directory import chosen_directory, platform_directory
from agentkit.cache.faults import CacheFault
from agentkit.cache.memory import SHARE
from agentkit.errors import ConfigurationError
from agentkit.policy.validation import whole_number

if TYPE_CHECKING:
    import sqlite3

FORMAT: Final = "responses-v1"
"""Name of the directory inside the given one. A new format gets a new directory."""

_DATABASE: Final = "cache.db"
LOCK_TIMEOUT: Final = 1.0
"""Seconds for which an operation waits for another writer."""

_SMALLEST: Final = 2**20
_inherited: list[Any] = []
_sqlite: Final = ForkGate(5.0)
"""SQLite has locks of its own for the process, and so has the import of its wrapper."""


class DiskStore:
    """A `Store` on disk. Entries are kept until they expire or, oldest first, until space runs out.

    Threads and processes can share it, forked ones included; it is not meant for network file
    systems. Nothing is opened or created before the first use. Deleted text is overwritten with
    zeros (SQLite's ``secure_delete``). A damaged database is renamed to ``responses-v1.damaged``,
    replacing an earlier one, and a new database is created.

    Args:
        directory: the parent of the directory ``responses-v1``, which is created with mode 0700
            (default ``AGENTKIT_CACHE_DIR``, or else the platform's user cache directory).
        size_limit: bytes on disk (default 1 GiB, at least 1 MiB). A value larger than 1 % of it is
            rejected.

    Raises:
        ConfigurationError: `directory` is not a path, or `size_limit` is out of range.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, size_limit: int = 2**30
    ) -> None:
        given: Any = directory
        if not isinstance(given, str | os.PathLike | None) or given == "":
            raise ConfigurationError(
                f"the response cache's directory must be a path, got {given!r}",
                hint="pass a path, or None for the user's cache directory",
            )
        self.size_limit = whole_number("size_limit", size_limit, minimum=_SMALLEST)
        self.largest = self.size_limit // SHARE
        self._chosen = chosen_directory(directory)
        self._lock = fork_safe_lock()
        self._path: Path | None = None
        self._database = ""
        self._cache: Any = None
        self._inode: tuple[int, int] | None = None
        on_fork(self._leave_to_parent)

    @property
    def path(self) -> Path:
        """The directory that holds the database."""
        if self._path is None:
            self._path = (self._chosen or platform_directory()).absolute() / FORMAT
            self._database = str(self._path / _DATABASE)
        return self._path

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`, or None. Raises `CacheFault`."""
        try:
            with _sqlite:
                return (self._cache or self._open()).get(key)  # type: ignore[no-any-return]
        except Exception as error:
            raise self._fault("read", error) from error

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep `value` for `ttl` seconds. Raises `CacheFault`.

        The part of `key` before the first colon is its group (see `clear`).
        """
        if len(value) > self.largest:
            raise CacheFault(
                "too_large",
                f"a response of {len(value):,} bytes exceeds the limit of {self.largest:,} on disk",
            )
        try:
            with _sqlite:
                cache = self._cache or self._open()
                if self._file_id() != self._inode:
                    cache = self._reopen(cache)
                cache.set(key, value, expire=ttl, tag=_group(key))
        except Exception as error:
            raise self._fault("write", error) from error

    def clear(self, prefix: str = "") -> None:
        """Delete the entries of one group (``"group:"``), or all entries. Raises `CacheFault`."""
        try:
            _remove(self._damaged)
            if self._cache is None and not (self.path / _DATABASE).exists():
                return
            with _sqlite:
                cache = self._cache or self._open()
                cache.evict(_group(prefix)) if prefix else cache.clear()
                # The write-ahead log still contains the deleted text.
                with closing(self._connect()) as connection:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except Exception as error:
            raise self._fault("clear", error) from error

    def release(self) -> None:
        """Close the calling thread's connection. Each thread that used the store has its own."""
        cache = self._cache
        if cache is not None:
            with _sqlite:
                cache.close()

    def close(self) -> None:
        """Close the database. The next use opens it again."""
        with self._lock:
            cache, self._cache = self._cache, None
        if cache is not None:
            with _sqlite:
                cache.close()

    def statistics(self) -> dict[str, int]:
        """``entries`` and ``bytes`` on disk, expired ones included; 0 before the first use."""
        cache = self._cache
        try:
            with _sqlite:
                count, size = (len(cache), cache.volume()) if cache is not None else (0, 0)
        except Exception as error:
            raise self._fault("read", error) from error
        return {"entries": count, "bytes": size}

    def _leave_to_parent(self) -> None:
        """In a forked child: open the database again, and leave the inherited connection alone.

        Even closing it would touch the parent's locks on the database.
        """
        if self._cache is not None:
            _inherited.append(self._cache)
            self._cache = None

    @property
    def _damaged(self) -> Path:
        return self.path.with_name(f"{FORMAT}.damaged")

    def _open(self) -> Any:
        with self._lock:
            if self._cache is None:
                _prepare(self.path)
                try:
                    cache = self._open_database()
                except Exception as error:
                    if not _is_damage(error):
                        raise
                    self._set_aside(self._file_id())
                    cache = self._open_database()
                self._inode = self._file_id()
                self._cache = cache
            return self._cache

    def _open_database(self) -> Any:
        from agentkit.cache.bytes_only import open_database

        # While it opens a database, diskcache waits up to 60 s for another writer. Fail sooner.
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        return open_database(str(self.path), self.size_limit, LOCK_TIMEOUT)

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        return sqlite3.connect(self.path / _DATABASE, timeout=LOCK_TIMEOUT, isolation_level=None)

    def _reopen(self, stale: Any) -> Any:
        with self._lock:
            if self._cache is stale:
                self._cache = None
        return self._open()

    def _file_id(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._database)  # noqa: PTH116  (a Path costs more than the call)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _set_aside(self, damaged: tuple[int, int] | None) -> None:
        """Rename the directory, unless another process has already replaced it."""
        if damaged is not None and self._file_id() == damaged:
            _remove(self._damaged)
            self.path.rename(self._damaged)
        _prepare(self.path)

    def _fault(self, operation: str, error: Exception) -> CacheFault:
        if isinstance(error, CacheFault):
            return error
        if _is_damage(error):
            with self._lock, suppress(OSError, CacheFault):
                self._set_aside(self._inode)
                self._cache = None
            message = f"the database in {self.path} is damaged and was set aside"
            return CacheFault("damaged", message)
        # The failed statement may have left its transaction open on this thread's connection.
        with suppress(Exception):
            self.release()
        if self._file_id() != self._inode:
            with self._lock:
                self._cache = None
        return CacheFault(operation, f"cannot {operation} {self.path}: {_reason(error)}")


def _group(key: str) -> str:
    return key.partition(":")[0]


def _remove(path: Path) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def _is_damage(error: Exception) -> bool:
    """Whether the file is damaged, as opposed to a full disk, a lock or missing permissions."""
    import sqlite3

    if not isinstance(error, sqlite3.DatabaseError):
        return False
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _reason(error: Exception) -> str:
    """Why an operation failed: never the text of a foreign error, which may quote a response."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return getattr(error, "sqlite_errorname", type(error).__name__)


def _prepare(path: Path) -> None:
    """Make sure that `path` is a directory which only its owner can use.

    Raises:
        CacheFault: it cannot be created, or other users could change its contents.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status, above = path.lstat(), path.parent.stat()
    except OSError as error:
        raise _unusable(path, f"cannot be created ({error.strerror})") from None
    if os.path.expandvars(path) != str(path):
        raise _unusable(path, "contains an unexpanded variable")
    if not stat.S_ISDIR(status.st_mode):
        raise _unusable(path, "is not a directory")
    if not hasattr(os, "geteuid"):  # Windows: the user's own directory is private there
        return
    if status.st_uid != os.geteuid():
        raise _unusable(path, "belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _unusable(path, "can be written by other users")
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise _unusable(path.parent, "can be written by other users")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise _unusable(path, "cannot be written")
    if status.st_mode & 0o077:
        path.chmod(0o700)


def _unusable(path: Path, why: str) -> CacheFault:
    return CacheFault(
        "directory",
        f"{path} {why}; until the process ends, responses are cached in memory only. "
        "Set AGENTKIT_CACHE_DIR or cache_dir to a private directory, or use cache='memory'",
        permanent=True,
    )
