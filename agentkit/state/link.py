"""A connection to a server over which commands go in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from agentkit.types.fleet import Argument

Command: TypeAlias = tuple[Argument, ...]


class Connection(Protocol):
    """The part of a connection of redis-py that a link uses."""

    def pack_commands(self, commands: Any, /) -> Any:
        """The bytes of commands."""
        ...

    def send_packed_command(self, command: Any, /, check_health: bool = ...) -> None:
        """Send bytes; connects if it has to."""
        ...

    def read_response(self, *, disconnect_on_error: bool = ...) -> Any:
        """The next reply."""
        ...

    def can_read(self, timeout: float = ..., /) -> bool:
        """Whether there are bytes to read, or the connection is closed."""
        ...

    def disconnect(self) -> None:
        """Close it."""
        ...


class Link:
    """Sends batches of commands, and reads their replies. One thread uses it.

    Args:
        connection: carries them.
        owner: the client of the connection, which would close it when it is collected.
    """

    def __init__(self, connection: Connection, owner: object = None) -> None:
        self._connection = connection
        self._owner = owner
        self._owed = 0
        self._replies: list[Any] = []

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each command; an error of the server is the exception for it.

        Raises:
            redis.TimeoutError: the server is silent. `finish` waits on.
            redis.RedisError: the connection is lost.
        """
        self.send(commands)
        return self.finish()

    def send(self, commands: Sequence[Command]) -> None:
        """Send a batch whose replies `finish` reads."""
        connection = self._connection
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        self._owed, self._replies = len(commands), []

    def finish(self) -> list[Any]:
        """Wait on for the replies of `execute`; it raises the same."""
        while self._owed:
            self._replies.append(self._read())
            self._owed -= 1
        return self._replies

    def scan(self, cursor: int, pattern: str, count: int) -> tuple[int, list[bytes]]:
        """The next cursor, and some of the keys that match; raises like `execute`.

        Raises:
            redis.ResponseError: the server refuses.
        """
        (found,) = self.execute([("SCAN", cursor, "MATCH", pattern, "COUNT", count)])
        if isinstance(found, Exception):
            raise found
        return int(found[0]), found[1]

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()

    def _read(self) -> Any:
        from redis import exceptions

        connection = self._connection
        try:
            try:
                return connection.read_response(disconnect_on_error=False)
            except exceptions.TimeoutError:
                # A thread that got no processor notices the time-out late: what has arrived by
                # then shows that the server was in time.
                if not connection.can_read(0):
                    raise
                return connection.read_response(disconnect_on_error=False)
        except exceptions.ResponseError as error:
            return error
