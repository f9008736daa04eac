"""A link reads what arrived although the time was up, and waits on where it is asked to."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from agentkit.state.link import Link


class Scripted:
    """A connection whose reads come from a list; a time-out leaves the rest to be read."""

    def __init__(self, *reads: Any) -> None:
        self.reads = list(reads)

    def pack_commands(self, commands: Any, /) -> Any:
        return commands

    def send_packed_command(self, command: Any, /, check_health: bool = True) -> None:
        assert not check_health

    def read_response(self, *, disconnect_on_error: bool = True) -> Any:
        assert not disconnect_on_error, "the connection must survive a time-out"
        read = self.reads.pop(0)
        if isinstance(read, Exception):
            raise read
        return read

    def can_read(self, timeout: float = 0, /) -> bool:
        assert timeout == 0
        return bool(self.reads) and self.reads[0] != "silence"

    def disconnect(self) -> None:
        pass


LATE = redis.TimeoutError("late")
COMMANDS = [("PING",), ("PING",)]


def test_an_answer_that_lies_there_when_the_time_is_up_is_in_time() -> None:
    assert Link(Scripted(LATE, b"one", LATE, b"two")).execute(COMMANDS) == [b"one", b"two"]


def test_a_silent_server_is_waited_for_again_from_where_it_stopped() -> None:
    connection = Scripted(b"one", LATE, "silence")
    link = Link(connection)
    with pytest.raises(redis.TimeoutError):
        link.execute(COMMANDS)
    connection.reads = [b"two"]
    assert link.finish() == [b"one", b"two"]


def test_an_error_of_the_server_is_the_reply_to_its_command() -> None:
    error = redis.ResponseError("wrong")
    assert Link(Scripted(error, b"two")).execute(COMMANDS) == [error, b"two"]
