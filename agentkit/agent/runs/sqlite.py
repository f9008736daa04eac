"""A journal in a SQLite file, through the standard library.

A process that works on runs holds an exclusive lock on an empty file beside the database, whose
name is the owner of these runs. The operating system releases the lock when the process ends,
however it ends, so that another process on the machine knows at once which runs are abandoned;
neither clocks nor heartbeats are involved.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.errors import JournalError

V = TypeVar("V")
Execute: TypeAlias = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs one statement with ``?`` for each value, and returns its rows."""

SCHEMA_VERSION: Final = 1
"""The version of the tables; an older agentkit refuses a newer one."""
SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS agentkit_runs (
        id TEXT PRIMARY KEY, agent TEXT NOT NULL, status TEXT NOT NULL, owner TEXT NOT NULL,
        claims BIGINT NOT NULL, created DOUBLE PRECISION NOT NULL,
        updated DOUBLE PRECISION NOT NULL, note TEXT NOT NULL, pending TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS agentkit_steps (
        run TEXT NOT NULL, position BIGINT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
        digest TEXT NOT NULL, seconds DOUBLE PRECISION NOT NULL,
        recorded DOUBLE PRECISION NOT NULL, PRIMARY KEY (run, name))""",
    """CREATE TABLE IF NOT EXISTS agentkit_memories (
        name TEXT PRIMARY KEY, value TEXT NOT NULL, updated DOUBLE PRECISION NOT NULL)""",
)
_APPLICATION: Final = 0x616B7275
"""Marks the file as agentkit's, in the header that SQLite keeps for this purpose."""
_LEFT_AFTER: Final = 3600.0
"""Seconds; the file of a new owner may not be locked yet."""
_parents: Final[list[sqlite3.Connection]] = []
"""Connections that a forked child has from its parent, and may neither use nor close."""


class _Held:
    """The open parts of a database: two connections, and the file of the owner of its runs."""

    def __init__(self) -> None:
        self.connection: sqlite3.Connection | None = None
        self.ownership: sqlite3.Connection | None = None
        self.owner_file: Path | None = None

    @property
    def connections(self) -> list[sqlite3.Connection]:
        return [each for each in (self.connection, self.ownership) if each is not None]

    def release(self) -> None:
        for connection in self.connections:
            connection.close()
        if self.owner_file is not None:
            with suppress(OSError):
                self.owner_file.unlink()
        self.forget()

    def forget(self) -> None:
        self.connection = self.ownership = self.owner_file = None


class SQLiteDatabase:
    """One SQLite file, or a database in memory for an empty `path`.

    Waits at most `patience` seconds for another process that writes.

    Every transaction is on the disk when it returns (``synchronous=FULL``). The file is readable
    and writable by its owner only. Safe to use from many threads and processes of one machine.
    """

    def __init__(self, path: str, patience: float) -> None:
        self.label = f"the journal {Path(path).name}" if path else "the journal in memory"
        self._path = path
        self._patience = patience
        self._lock = fork_safe_lock()
        self._held = _Held()
        self._owner = ""
        weakref.finalize(self, self._held.release)
        on_fork(self._leave_to_parent)

    def transaction(self, work: Callable[[Execute], V]) -> V:
        """The result of `work`, after its statements are on the disk; all of them, or none.

        Raises:
            JournalError: the file cannot be opened, read or written, or is not a journal.
        """
        with self._lock:
            try:
                connection = self._open()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    result = work(lambda sql, values: connection.execute(sql, values).fetchall())
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._unusable(error) from error
            else:
                return result

    def owner(self) -> str:
        """The name under which this object owns runs, until it is closed or the process ends."""
        with self._lock:
            if not self._owner:
                owner = uuid.uuid4().hex
                if self._path:
                    try:
                        connection = self._open()
                        file = self._owner_file(owner)
                        self._held.ownership = self._hold(file, create=True)
                        self._held.owner_file = file
                        self._remove_left_files(connection)
                    except (sqlite3.Error, OSError) as error:
                        raise self._unusable(error) from error
                self._owner = owner
            return self._owner

    def is_alive(self, owner: str, _: Execute) -> bool:
        """Whether the process that owns runs as `owner` is still there."""
        if owner == self._owner:
            return True
        return bool(self._path) and self._is_held(self._owner_file(owner))

    def close(self) -> None:
        """Release everything that this object owns. Closing twice does nothing.

        A database that is no longer used, and one at the end of the process, is closed as well.
        """
        with self._lock:
            self._held.release()
            self._owner = ""

    def _owner_file(self, owner: str) -> Path:
        return Path(f"{self._path}.owner-{owner}")

    def _is_held(self, file: Path) -> bool:
        """Whether a process holds `file`, which is removed otherwise."""
        if not file.exists():
            return False
        try:
            self._hold(file, create=False).close()
        except sqlite3.Error:
            return True
        with suppress(OSError):
            file.unlink()
        return False

    def _remove_left_files(self, connection: sqlite3.Connection) -> None:
        """Remove the files of owners that were killed when they had no run under way."""
        old = time.time() - _LEFT_AFTER
        connection.execute("BEGIN IMMEDIATE")  # one process at a time looks who holds what
        try:
            for file in Path(self._path).parent.glob(f"{escape(Path(self._path).name)}.owner-*"):
                with suppress(OSError):  # SQLite keeps its journal of a held file beside it
                    if not file.name.endswith("-journal") and file.stat().st_mtime < old:
                        self._is_held(file)
        finally:
            connection.execute("COMMIT")

    def _hold(self, file: Path, *, create: bool) -> sqlite3.Connection:
        if create:
            _create_private(file)
        connection = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self) -> sqlite3.Connection:
        if self._held.connection is None:
            if self._path:
                try:
                    _create_private(Path(self._path))
                except OSError as error:
                    raise self._unusable(error) from error
            connection = sqlite3.connect(
                self._path or ":memory:",
                timeout=self._patience,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._held.connection = connection
        return self._held.connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        def number(pragma: str) -> int:
            return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])

        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        application = number("application_id")
        if application == _APPLICATION:
            require_version(self.label, number("user_version"))
        elif application or connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise JournalError(
                f"{self.label} is a database of another application",
                hint="give the journal a file of its own",
            )
        else:
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.execute(f"PRAGMA application_id={_APPLICATION}")
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")

    def _unusable(self, error: Exception) -> JournalError:
        return JournalError(
            f"{self.label} cannot be used: {error}",
            hint="check the path, its permissions and the free space; what is recorded is kept",
        )

    def _leave_to_parent(self) -> None:
        if not self._path:
            return
        _parents.extend(self._held.connections)
        self._held.forget()
        self._owner = ""


def require_version(label: str, version: int) -> None:
    """Check that this release can read tables of `version`. Raises `JournalError`."""
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"{label} was written by a newer agentkit "
            f"(format {version}; this release knows {SCHEMA_VERSION})",
            hint="upgrade agentkit-llms in this process",
        )


def _create_private(file: Path) -> None:
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
