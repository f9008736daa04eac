"""A connection over which many questions are on their way at once; their replies come in order.

A caller reads its own reply: a thread reads the connection itself, without the help of another
thread, and an event loop reads the line that belongs to it. One thread at a time reads, for all.
The thread of the fleet reads the other replies.
"""

from __future__ import annotations

import asyncio
import math
import select
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

from agentkit._fork import WakeSignal, fork_safe_lock, is_held
from agentkit.state.resp import MISSING, Command, ProtocolError, Replies, pack
from agentkit.state.scripts import pack_question
from agentkit.types.fleet import Hear, Question

SLOW: Final = 0.05
"""Seconds after which a reply counts as slow."""
OVERDUE: Final = 0.02
"""Seconds after which the thread of the fleet reads the line of an event loop that does not."""

_CHUNK: Final = 65_536
_ASKING: Final = pack(("ASKING",))

Node: TypeAlias = tuple[str, int]


class Pending:
    """A question, or another command, that waits for its reply.

    Args:
        question: what is asked; None for another command.
        other: that command.
        hear: gets the reply if no call waits for it.
        wake: wakes the coroutine that waits for the reply.
        signal: wakes the thread that waits for the reply.
    """

    reply: Any = None
    is_done = False
    is_own = False
    """Whether the thread of the fleet asked it."""
    abandoned = False
    """Whether whoever asked has stopped to wait: a reply that comes is taken back."""
    repeated = False
    line: Line | None = None
    """Where it was sent."""
    sent_at = 0.0
    skips = 0
    """Replies that come before the one to it."""

    def __init__(
        self,
        question: Question | None,
        *,
        other: Command = (),
        hear: Hear | None = None,
        wake: Callable[[], None] | None = None,
        signal: WakeSignal | None = None,
    ) -> None:
        self.question = question
        self.data = pack(other) if question is None else pack_question(question)
        self.hear = hear
        self.wake = wake
        self.signal = signal

    @property
    def is_waited_for(self) -> bool:
        """Whether a call waits for the reply."""
        return not (self.abandoned or self.is_own or (self.signal is None and self.wake is None))

    @property
    def may_repeat(self) -> bool:
        """Whether to wait longer for the reply, or to ask once more over another connection."""
        question = self.question
        if question is None or self.is_own or self.repeated or self.abandoned:
            return False
        return question.retry

    def settle(self, reply: Any) -> None:
        """Note the reply, and wake whoever waits for it."""
        self.reply = reply
        self.is_done = True
        if self.signal is not None:
            self.signal.set()
        elif self.wake is not None:
            self.wake()

    def send_text(self) -> None:
        """Send the text of the script from now on."""
        if self.question is not None:
            self.data = pack_question(self.question, by_digest=False)

    def send_asking(self) -> None:
        """Ask a node of a cluster that is about to get the key."""
        self.data, self.skips = _ASKING + self.data, 1


class Trips:
    """Counts how often a store answered, how long that took, and how often in a row it was slow."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.slow = 0

    def add(self, longest: float, shortest: float) -> None:
        """Count the replies that came together; the first and the last of them took that long."""
        self.count += 1
        self.seconds += longest
        self.slow = self.slow + 1 if shortest > SLOW else 0


class Line:
    """A connection for questions.

    Args:
        sock: connected, and not blocking.
        node: the server.
        deliver: gets each question with its reply, on the thread that reads.
        lost: called once with the reason when the connection can no longer be used.
        trips: counts the replies.
    """

    def __init__(
        self,
        sock: socket.socket,
        node: Node,
        deliver: Callable[[Pending, Any], None],
        lost: Callable[[Line, Exception], None],
        trips: Trips,
    ) -> None:
        self.node = node
        self.loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        """The event loop that reads it; None: threads do."""
        self.is_suspect = False
        """Whether it was silent for too long at the last look of the fleet's thread."""
        self._sock = sock
        self._descriptor = sock.fileno()
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._deliver, self._lost, self._trips = deliver, lost, trips
        self._out: deque[Pending] = deque()
        self._rest = b""
        """What the socket has not taken yet."""
        self._waiting: deque[Pending] = deque()
        self._replies = Replies()
        self._lock = fork_safe_lock()
        self._turn = WakeSignal()
        """Is set while no thread reads."""
        self._turn.set()
        self._flushes = False
        self._heard_at = time.monotonic()
        self._poll = None if not hasattr(select, "poll") else select.poll()
        if self._poll is not None:
            self._poll.register(self._descriptor, select.POLLIN)
        self._error: Exception | None = None
        self._reported = False
        self.close = weakref.finalize(self, sock.close)
        """Closes the socket, once; so does the end of this object, but not that of the process."""
        self.close.atexit = False  # the fleet says goodbye then

    @property
    def is_broken(self) -> bool:
        """Whether it can no longer be used."""
        return self._error is not None

    @property
    def is_sending(self) -> bool:
        """Whether the network has not taken everything yet."""
        return bool(self._rest)

    @property
    def load(self) -> int:
        """How many questions wait for a reply."""
        return len(self._out) + len(self._waiting)

    @property
    def newest(self) -> Pending | None:
        """The question that was asked last, of those without a reply."""
        try:
            return (self._out or self._waiting)[-1]
        except IndexError:  # its reply came meanwhile
            return None

    def outstanding(self) -> list[Pending]:
        """The questions without a reply."""
        return [*tuple(self._waiting), *tuple(self._out)]

    def silence(self, now: float) -> float:
        """Seconds for which nothing has come although a question waits; 0 if none does."""
        try:
            return now - max(self._waiting[0].sent_at, self._heard_at)
        except IndexError:  # none was sent
            return 0.0

    def is_overdue(self, now: float) -> bool:
        """Whether its event loop has left something to be read or sent for some time."""
        try:
            return bool(self._out) or now - self._waiting[0].sent_at > OVERDUE
        except IndexError:  # its reply came meanwhile
            return False

    # Sending.

    def send(self, pending: Pending, *, together: bool = False) -> None:
        """Send a question.

        With `together`, on the line of the running loop, while other questions are on their way,
        it is sent with those that follow in the same step of the loop.
        """
        pending.line = self
        self._out.append(pending)
        if together and self._waiting and self.loop is not None:
            loop = self.loop()
            if loop is not None:
                if not self._flushes:
                    self._flushes = True
                    loop.call_soon(self._flush_later)
                return
        self.flush()

    def flush(self) -> None:
        """Send what waits to be sent, as far as the socket takes it.

        A finalizer or signal handler that asks in the middle of this only queues its question.
        """
        rest = bool(self._rest)
        while (self._out or rest) and self._error is None and not is_held(self._lock):
            rest = False
            with self._lock:
                self._write()
        if self._error is not None:
            self._report()

    def _flush_later(self) -> None:
        self._flushes = False
        self.flush()

    def _write(self) -> None:
        try:
            now, parts = time.monotonic(), [self._rest]
            while self._out:
                pending = self._out.popleft()
                pending.sent_at = now
                self._waiting.append(pending)
                parts.append(pending.data)
            self._rest = b"".join(parts)
            while self._rest and self._error is None:
                self._rest = self._rest[self._sock.send(self._rest) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass  # the thread of the fleet sends the rest
        except BaseException as error:  # Ctrl-C, too: it is unknown what was sent
            self._break(error)
            if not isinstance(error, Exception):
                raise

    # Reading.

    def lead(self, pending: Pending, until: float) -> bool:
        """Read for all until `pending` has its reply. False: another thread reads.

        Returns at the time `until` and when the line breaks, too.
        """
        leads = False
        try:
            leads = self._turn.wait(0)
            if not leads:
                return False
            while not pending.is_done and self._error is None:
                left = until - time.monotonic()
                if left <= 0:
                    break
                if self._becomes_readable(left):
                    self._receive()
        finally:
            if leads:
                self._end_turn()
                self._hand_over()
        return True

    def read(self) -> None:
        """Read what has arrived, unless another thread does, and send what was left."""
        leads = False
        try:
            leads = self._turn.wait(0)
            if leads and self._error is None:
                self._receive()
        finally:
            if leads:
                self._end_turn()
        if self._out or self._rest or self._error is not None:
            self.flush()

    def _end_turn(self) -> None:
        if self._error is not None and self.loop is None:
            self.close()
        else:
            self._turn.set()

    def _hand_over(self) -> None:
        """Let a thread that waits for a reply read."""
        if self._waiting:
            for each in tuple(self._waiting):
                if each.signal is not None and not each.abandoned:
                    each.signal.set()
                    return

    def _receive(self) -> None:
        try:
            while self._error is None:
                if self._tls:  # OpenSSL does not read and write at once
                    with self._lock:
                        data = self._sock.recv(_CHUNK)
                else:
                    data = self._sock.recv(_CHUNK)
                if not data:
                    raise ConnectionError("the server closed the connection")  # noqa: TRY301
                self._take_in(data)
                if len(data) < _CHUNK and not (self._tls and self._sock.pending()):  # type: ignore[attr-defined]  # of SSLSocket
                    break
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except BaseException as error:  # Ctrl-C, too: it is unknown what was read
            self._break(error)
            if not isinstance(error, Exception):
                raise
        finally:
            if self._out or self._error is not None:
                self.flush()

    def _take_in(self, data: bytes) -> None:
        now = self._heard_at = time.monotonic()
        self.is_suspect = False
        replies, waiting = self._replies, self._waiting
        replies.feed(data)
        first_at = last_at = math.inf
        while (reply := replies.take()) is not MISSING:
            if not waiting:
                raise ProtocolError("a reply came without a question")
            pending = waiting[0]
            if pending.skips:
                pending.skips -= 1
                continue
            waiting.popleft()
            last_at = pending.sent_at  # before it may be sent once more
            first_at = min(first_at, last_at)
            self._deliver(pending, reply)
        if last_at < math.inf:
            self._trips.add(now - first_at, now - last_at)

    def _becomes_readable(self, seconds: float) -> bool:
        """Wait for at most `seconds` until there is something to read."""
        if self._poll is None:  # not on Windows
            return bool(select.select([self._descriptor], [], [], seconds)[0])
        return bool(self._poll.poll(seconds * 1000))

    # The event loop that reads it.

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let `loop` read it. Called on its thread.

        Raises:
            NotImplementedError: the loop cannot watch sockets.
        """
        loop.add_reader(self._descriptor, self._on_readable)
        self.loop = weakref.ref(loop)

    def _on_readable(self) -> None:
        self.read()
        if self._error is not None:
            self.release()

    def release(self) -> None:
        """Close the socket, on the thread of its loop if one reads it."""
        if not self.close.alive:
            return
        loop = None if self.loop is None else self.loop()
        if loop is not None and not loop.is_closed():
            try:
                running: Any = asyncio.get_running_loop()
            except RuntimeError:
                running = None
            if loop.is_running() and loop is not running:
                with suppress(RuntimeError):  # it was closed meanwhile
                    loop.call_soon_threadsafe(self.release)
                return
            loop.remove_reader(self._descriptor)
        if self._turn.wait(0):  # else the thread that reads drops it
            self.close()

    # The end.

    def shut(self, error: Exception) -> list[Pending]:
        """Use it no longer; the questions without a reply. Wakes the thread that reads."""
        self._reported = True
        self._break(error)
        with self._lock:
            left = self.outstanding()
            self._out.clear()
            self._waiting.clear()
        with suppress(OSError, ValueError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self.release()
        return left

    def _break(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error if isinstance(error, Exception) else ConnectionError("interrupted")

    def _report(self) -> None:
        """Tell that it is broken, without a lock."""
        error = self._error
        if error is not None and not is_held(self._lock) and (self.load or not self._reported):
            self._reported = True
            self._lost(self, error)


def wait_for(pending: Pending, seconds: float) -> None:
    """Wait for at most `seconds` for a reply, on the thread that asked."""
    until = time.monotonic() + seconds
    signal = pending.signal
    while not pending.is_done and (left := until - time.monotonic()) > 0:
        line = pending.line
        if line is not None and not line.is_broken and line.lead(pending, until):
            continue
        if signal is not None:
            signal.wait(left)
