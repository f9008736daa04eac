"""A journal in a Postgres database, for runs that any of several machines may continue.

A process that works on runs holds an advisory lock of its session, which Postgres releases when the
connection ends: at once when the process ends, and within half a minute when its machine does.
"""

from __future__ import annotations

import selectors
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.agent.runs.sqlite import SCHEMA, SCHEMA_VERSION, Execute, require_version
from agentkit.errors import JournalError, MissingDependencyError

if TYPE_CHECKING:
    import psycopg

V = TypeVar("V")

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
_UNLOCK_SECONDS = 1.0
_SETTINGS: Final = (
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
)
"""The server finds out within half a minute that the machine of a client is gone."""
_SCHEMA_LOCK: Final = 0x616B7275
"""The advisory lock under which the tables are created."""
_parents: Final[list[Any]] = []
"""Connections that a forked child has from its parent, and may neither use nor close."""


class PostgresDatabase:
    """One Postgres database. Safe to use from many threads, processes and machines.

    A lost connection is opened again with back-off, for `patience` seconds; then the transaction
    fails and the run with it, and what is recorded is kept. The URL must lead to the server itself
    or to a pool of sessions: pools of transactions lose advisory locks.

    Raises:
        MissingDependencyError: the package psycopg is not installed.
    """

    def __init__(self, url: str, patience: float) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise MissingDependencyError(
                "a journal in Postgres needs the package psycopg",
                hint="pip install 'agentkit-llms[durable]'",
            ) from error
        self.label = f"the journal at {urlsplit(url).hostname or 'localhost'}"
        self._psycopg = psycopg
        self._url = url
        self._patience = patience
        self._lock = fork_safe_lock()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._owner = ""
        self._closed = threading.Event()
        on_fork(self._leave_to_parent)

    def transaction(self, work: Callable[[Execute], V]) -> V:
        """The result of `work`, after its statements are committed; all of them, or none.

        `work` may be called again after a lost connection, also when it was committed just before.

        Raises:
            JournalError: the database cannot be reached or used.
        """
        give_up, delay = time.monotonic() + self._patience, _FIRST_DELAY
        while True:
            try:
                return self._attempt(work)
            except self._psycopg.OperationalError as error:
                self._disconnect()
                if time.monotonic() + delay > give_up or self._closed.wait(delay):
                    raise self._unusable(error) from error
                delay = min(2 * delay, _LONGEST_DELAY)
            except self._psycopg.Error as error:
                raise self._unusable(error) from error

    def owner(self) -> str:
        """The name under which this object owns runs, until it is closed or the process ends."""
        with self._lock:
            if not self._owner:
                self._owner = uuid.uuid4().hex
                if self._connection is not None:
                    self._disconnect()
            return self._owner

    def is_alive(self, owner: str, execute: Execute, /) -> bool:
        """Whether the process that owns runs as `owner` is still connected."""
        if owner == self._owner:
            return True
        # Shared, so that others who ask at the same time do not take each other for the owner.
        return not execute("SELECT pg_try_advisory_xact_lock_shared(?)", (_key(owner),))[0][0]

    def close(self) -> None:
        """Close the connection. Closing twice does nothing."""
        self._closed.set()
        with self._lock:
            if self._connection is not None and self._owner:
                with suppress(self._psycopg.Error):
                    _unlock(self._connection)
            self._disconnect()

    def _attempt(self, work: Callable[[Execute], V]) -> V:
        with self._lock:
            connection = self._connect()

            def execute(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
                cursor = connection.execute(sql.replace("?", "%s").encode(), values)
                return cursor.fetchall() if cursor.description else []

            with connection.transaction():
                return work(execute)

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None:
            connection = self._psycopg.connect(self._url, autocommit=True, connect_timeout=10)
            try:
                for setting in _SETTINGS:
                    connection.execute(setting)
                self._prepare(connection)
                if self._owner:
                    self._hold(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _hold(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        """Take the owner's lock; it is held until the server has noticed a lost session."""
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_key(self._owner),)).fetchone()
        if row != (True,):
            raise self._psycopg.OperationalError("the lost session still holds its lock")

    def _prepare(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            for statement in (*SCHEMA, "CREATE TABLE IF NOT EXISTS agentkit_journal (version INT)"):
                connection.execute(statement.encode())
            row = connection.execute("SELECT version FROM agentkit_journal").fetchone()
            if row is None:
                connection.execute("INSERT INTO agentkit_journal VALUES (%s)", (SCHEMA_VERSION,))
            else:
                require_version(self.label, row[0])

    def _disconnect(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(self._psycopg.Error):
                    connection.close()

    def _unusable(self, error: Exception) -> JournalError:
        return JournalError(
            f"{self.label} cannot be used: {type(error).__name__}",
            hint="check that the server can be reached; what is recorded is kept",
        )

    def _leave_to_parent(self) -> None:
        if self._connection is not None:
            _parents.append(self._connection)
        self._connection, self._owner = None, ""


def _unlock(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Release the owner's lock and wait for that, unless the server is out of reach.

    When a connection is closed, its locks are released too, but a little later.
    """
    connection.pgconn.send_query(b"SELECT pg_advisory_unlock_all()")
    connection.pgconn.flush()
    with selectors.DefaultSelector() as answer:
        answer.register(connection.fileno(), selectors.EVENT_READ)
        answer.select(_UNLOCK_SECONDS)


def _key(owner: str) -> int:
    return int.from_bytes(blake2b(owner.encode(), digest_size=8).digest(), signed=True)
