"""Many questions are on their way over one connection, and each gets its own reply."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit._fork import WakeSignal
from agentkit.state.line import SLOW, Line, Pending, Trips, wait_for
from agentkit.state.resp import MISSING, Replies
from agentkit.types.fleet import Question
from tests.helpers import until


class Peer:
    """A line, and the server at the other end of it."""

    def __init__(self, wrapped: Any = None) -> None:
        near, self.far = socket.socketpair()
        near.setblocking(False)
        self.socket: Any = near if wrapped is None else wrapped(near)
        self.got: list[tuple[Pending, Any]] = []
        self.lost: list[Exception] = []
        self.trips = Trips()
        self.line = Line(self.socket, ("", 0), self._deliver, self._lose, self.trips)
        self.far.settimeout(10)
        self._requests = Replies()

    def _deliver(self, pending: Pending, reply: Any) -> None:
        self.got.append((pending, reply))
        pending.settle(reply)

    def _lose(self, line: Line, error: Exception) -> None:
        self.lost.append(error)
        for each in line.shut(error):
            each.settle(None)

    def ask(self, name: str, **options: Any) -> Pending:
        pending = Pending(None, other=("ECHO", name), **options)
        self.line.send(pending)
        return pending

    def requested(self) -> str:
        """The next command that the server gets."""
        while (found := self._requests.take()) is MISSING:
            self._requests.feed(self.far.recv(4096))
        name: str = found[1].decode()
        return name

    def reply(self, *names: str) -> None:
        self.far.sendall(b"".join(b"+%b\r\n" % name.encode() for name in names))

    def close(self) -> None:
        self.line.close()
        self.far.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    pair = Peer()
    yield pair
    pair.close()


def waits(pending: Pending, seconds: float = 10.0) -> threading.Thread:
    thread = threading.Thread(target=wait_for, args=(pending, seconds))
    thread.start()
    return thread


def test_threads_read_for_each_other_and_each_gets_its_own_reply(peer: Peer) -> None:
    asked = [peer.ask(f"q{n}", signal=WakeSignal()) for n in range(4)]
    threads = [waits(each) for each in reversed(asked)]
    for n in range(4):
        assert peer.requested() == f"q{n}"
        peer.reply(f"a{n}")
    for each in threads:
        each.join(10)
    assert [each.reply for each in asked] == [b"a0", b"a1", b"a2", b"a3"]


def test_the_reply_to_a_cancelled_question_is_not_given_to_the_next(peer: Peer) -> None:
    gone, next_one = peer.ask("gone", signal=WakeSignal()), peer.ask("next", signal=WakeSignal())
    gone.abandoned = True
    peer.reply("for gone", "for next")
    wait_for(next_one, 10)
    assert next_one.reply == b"for next"
    assert peer.got[0] == (gone, b"for gone")


def test_a_reply_of_which_half_has_arrived_is_waited_for(peer: Peer) -> None:
    asked = peer.ask("q", signal=WakeSignal())
    thread = waits(asked)
    peer.far.sendall(b"+ha")
    assert not asked.is_done
    peer.far.sendall(b"lf\r\n")
    thread.join(10)
    assert asked.reply == b"half"


@pytest.mark.parametrize("data", [b"+mine\r\n+whose\r\n", b"HTTP/1.1 400 Bad Request\r\n", b""])
def test_replies_out_of_step_lose_the_connection_and_every_question(
    peer: Peer, data: bytes
) -> None:
    first = peer.ask("first", signal=WakeSignal())
    peer.far.sendall(data) if data else peer.far.shutdown(socket.SHUT_WR)
    wait_for(first, 10)
    assert peer.line.is_broken
    assert len(peer.lost) == 1
    after = peer.ask("after", signal=WakeSignal())
    wait_for(after, 10)
    assert after.is_done
    assert after.reply is None


def test_a_connection_that_dies_answers_all_fifty_questions_with_none(peer: Peer) -> None:
    asked = [peer.ask(f"q{n}", signal=WakeSignal()) for n in range(50)]
    threads = [waits(each) for each in asked]
    peer.reply("a0")
    until(lambda: asked[0].is_done)
    peer.far.shutdown(socket.SHUT_RDWR)
    for each in threads:
        each.join(10)
    assert [each.reply for each in asked] == [b"a0"] + [None] * 49


class Interrupted:
    """A socket in whose `send` something else happens first."""

    def __init__(self, near: socket.socket) -> None:
        self._near = near
        self.first: Any = None
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.sent.append(bytes(data))
        first, self.first = self.first, None
        if first is not None:
            first()
        return self._near.send(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._near, name)


def test_a_finalizer_that_asks_in_the_middle_of_a_question_does_not_mix_them_up() -> None:
    peer = Peer(Interrupted)
    peer.socket.first = lambda: peer.ask("from a finalizer")
    asked = peer.ask("first", signal=WakeSignal())
    assert [peer.requested(), peer.requested()] == ["first", "from a finalizer"]
    peer.reply("for the first", "for the finalizer")
    wait_for(asked, 10)
    assert asked.reply == b"for the first"
    peer.close()


def test_ctrl_c_in_the_middle_of_a_question_ends_the_connection() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    peer = Peer(Interrupted)
    peer.socket.first = interrupt
    with pytest.raises(KeyboardInterrupt):
        peer.ask("q", signal=WakeSignal())
    assert peer.line.is_broken, "it is unknown how much of it was sent"
    peer.close()


def test_what_the_network_does_not_take_at_once_is_sent_later() -> None:
    def refuse() -> None:
        raise BlockingIOError

    peer = Peer(Interrupted)
    peer.socket.first = refuse
    asked = peer.ask("large", signal=WakeSignal())
    peer.line.read()
    assert peer.requested() == "large"
    peer.reply("it")
    wait_for(asked, 10)
    assert asked.reply == b"it"
    peer.close()


def test_what_has_arrived_when_the_time_is_up_is_in_time(peer: Peer) -> None:
    asked = peer.ask("q")
    peer.reply("there")
    silent_for = peer.line.silence(time.monotonic() + 5)
    peer.line.read()  # as the thread of the fleet does before it judges
    assert silent_for >= 5
    assert peer.line.silence(time.monotonic() + 5) == 0
    assert asked.reply == b"there"


def test_slow_replies_are_counted_until_a_fast_one_comes() -> None:
    trips = Trips()
    trips.add(longest=2 * SLOW, shortest=2 * SLOW)
    trips.add(longest=2 * SLOW, shortest=2 * SLOW)
    assert trips.slow == 2
    trips.add(longest=2 * SLOW, shortest=0.0)
    assert (trips.slow, trips.count) == (0, 3)


def test_a_question_that_is_sent_once_more_takes_no_negative_time(peer: Peer) -> None:
    asked = peer.ask("q", signal=WakeSignal())
    settle = asked.settle

    def send_again(reply: Any) -> None:
        asked.settle = settle  # type: ignore[method-assign]
        peer.line.send(asked)

    asked.settle = send_again  # type: ignore[method-assign]
    peer.reply("for the digest")
    peer.line.read()
    assert (peer.trips.count, peer.trips.seconds >= 0) == (1, True)
    peer.reply("for the text")
    wait_for(asked, 10)
    assert asked.reply == b"for the text"


def test_an_event_loop_reads_its_line_and_sends_what_its_tasks_ask_together() -> None:
    peer = Peer(Interrupted)

    async def ask(name: str) -> Any:
        done = asyncio.Event()
        pending = Pending(None, other=("ECHO", name), wake=done.set)
        peer.line.send(pending, together=True)
        await done.wait()
        return pending.reply

    def serve() -> None:
        for name in "abc":
            assert peer.requested() == name
        peer.reply(*"abc")

    async def main() -> list[Any]:
        peer.line.attach(asyncio.get_running_loop())
        served = asyncio.create_task(asyncio.to_thread(serve))
        replies: list[Any] = await asyncio.gather(*map(ask, "abc"))
        await served
        peer.line.release()
        return replies

    assert asyncio.run(main()) == [b"a", b"b", b"c"]
    assert [each.count(b"ECHO") for each in peer.socket.sent] == [1, 2]
    peer.close()


def test_a_line_that_is_dropped_closes_its_socket() -> None:
    peer = Peer()
    asked = peer.ask("q")
    del peer.line, asked
    gc.collect()
    assert peer.socket.fileno() == -1
    peer.far.close()


def test_a_question_with_the_text_of_its_script_follows_one_with_its_digest() -> None:
    question = Question("beat", ("key",), ("p", 1))
    pending = Pending(question)
    by_digest = pending.data
    pending.send_text()
    assert b"EVALSHA" in by_digest
    assert b"EVALSHA" not in pending.data
    assert b"EVAL" in pending.data


def test_a_new_connection_is_under_no_suspicion(peer: Peer) -> None:
    assert not peer.line.is_suspect  # the first look at it may be late
