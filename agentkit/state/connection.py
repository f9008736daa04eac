"""The connection to a store: whether it answers, and the exchange of questions and replies.

A caller sends its question and reads the reply itself, on a connection that all threads share or on
that of its event loop. While the store is lost, there is no reply.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections import Counter, deque
from typing import Any, Final, Literal, TypeAlias

from agentkit._fork import WakeSignal, fork_safe_lock
from agentkit.state.line import Line, Pending, Trips
from agentkit.state.patience import TICK
from agentkit.state.purge import Purge
from agentkit.state.resp import ReplyError
from agentkit.state.store import Store
from agentkit.types.fleet import Hear, Question

log = logging.getLogger("agentkit.fleet")

GLANCE: Final = 0.002
"""Seconds between two looks while a reply may have come that no call reads."""
QUIET: Final = 60.0
"""Seconds between two warnings that the store is lost."""

_WAITING: Final = 10_000
"""The most questions that wait for their reply on a connection; more of them get none."""

State: TypeAlias = Literal["idle", "connecting", "up", "down", "closed"]


class Connection:
    """The connection of this process to a store. A thread looks after it."""

    def __init__(self) -> None:
        self.process = secrets.token_hex(8)
        """The name of this process in the fleet: random, and another one in a forked child."""
        self.state: State = "idle"
        self.session = 0
        """Grows whenever questions or replies may have been lost."""
        self.lost_at = float("-inf")
        """Since when the store does not answer, or did not the last time."""
        self.store: Store | None = None
        self.trips = Trips()
        self.purge = Purge()
        self.early: deque[Pending] = deque()
        """Questions to be asked over the next connection."""
        self.signal = WakeSignal()
        """Wakes the thread."""
        self.every = math.inf
        """Seconds between two looks of the thread."""
        self.reads = False
        """Whether the thread has to read at once."""
        self._lock = fork_safe_lock()
        self._faults: Counter[str] = Counter()
        self._asked = self._alone = 0
        self._warned = float("-inf")

    # The state.

    def begin(self) -> bool:
        """Start to connect. False: that was done before."""
        with self._lock:
            begins = self.state == "idle"
            if begins:
                self.state = "connecting"
        return begins

    def open(self) -> None:
        """The store answers."""
        with self._lock:
            if self.state != "closed":
                self.state = "up"

    def close(self) -> bool:
        """Ask nothing more. Returns whether the store answered until now."""
        with self._lock:
            was_up, self.state = self.state == "up", "closed"
        self.signal.set()
        return was_up

    def note_fault(self, error: Exception, silence: float = 0.0) -> None:
        """Count a fault of the store, for whose `silence` in seconds callers have waited.

        From now on they are alone.
        """
        kind = _kind_of(error)
        with self._lock:
            now = time.monotonic()
            if self.state == "up":
                self.lost_at = now - silence
            if self.state != "closed":
                self.state = "down"
            self.session += 1
            self._faults[kind] += 1
            loud = now >= self._warned + QUIET
            if loud:
                self._warned = now
        if loud:  # never its message, which may quote a key or an answer
            log.warning("fleet: the store is lost (%s); this process decides alone", kind)

    def statistics(self) -> dict[str, Any]:
        """Its state, and counters since the start; see `ValkeyFleet.statistics`."""
        with self._lock:
            return {
                "state": self.state,
                "process": self.process,
                "questions": self._asked,
                "alone": self._alone,
                "round_trips": self.trips.count,
                "round_trip_seconds": self.trips.seconds,
                "faults": dict(self._faults),
            }

    def leave_to_parent(self) -> None:
        """In a forked child: the connections and what was asked are the parent's."""
        self.process = secrets.token_hex(8)
        self.state = "idle"
        self.signal, self.store, self.early = WakeSignal(), None, deque()
        self.every, self.reads = math.inf, False
        self.purge.leave_to_parent()
        self.session += 1
        self.trips.slow = 0

    # Questions.

    def submit(self, pending: Pending, loop: asyncio.AbstractEventLoop | None = None) -> bool:
        """Send a question. False: there will be no reply."""
        self._asked += 1
        store = self.store
        if self.state == "connecting" and len(self.early) < _WAITING:
            self.early.append(pending)
            self.signal.set()
            return True
        if self.state != "up" or store is None:
            return False
        line = store.line_of(pending, None if loop is None else store.loops.lines_of(loop))
        if line.load >= _WAITING:
            return False
        line.send(pending, together=pending.signal is None)
        is_read = line.loop is not None or pending.signal is not None
        if is_read or not (pending.wake or pending.hear):
            self.look_after(TICK)
        elif pending.wake is not None:
            self.reads = True
            self.signal.set()
        else:
            self.look_after(GLANCE)
        return True

    def post(self, question: Question, hear: Hear | None = None) -> None:
        """Ask without waiting; `hear` gets the reply, or None, on any thread."""
        pending = Pending(question, hear=hear)
        if self.purge.hold(pending):
            self.signal.set()
        elif not self.submit(pending, _running_loop()):
            self.deliver(pending, None)

    def look_after(self, every: float) -> None:
        """Let the thread look at the connections so often, if it does not yet.

        Whoever posts may wait for the reply, and read it, or not.
        """
        if every < self.every:
            self.every = every
            self.signal.set()

    # Replies.

    def reply_of(self, pending: Pending) -> Any:
        """The reply to a question, after the wait for it."""
        if pending.reply is None:
            self._alone += 1
        return pending.reply

    def abandon(self, pending: Pending) -> None:
        """Wait no longer: a reply that comes after this is taken back."""
        if not pending.is_done:
            with self._lock:
                pending.abandoned = True

    def deliver(self, pending: Pending, reply: Any) -> None:
        """Give the reply to whoever asked."""
        if type(reply) is ReplyError:
            self.note_fault(reply)
            self.signal.set()  # the thread drops the connections
            reply = None
        with self._lock:
            late = pending.abandoned
            if late:
                pending.is_done = True
            elif pending.is_done:
                return
            else:
                pending.settle(reply)
        if late and pending.question is not None:
            self.take_back(pending.question, reply)
        elif pending.hear is not None:
            try:
                pending.hear(reply)
            except Exception:
                log.exception("a reply of the fleet could not be passed on")

    def take_back(self, question: Question, reply: Any) -> None:
        """Release what a reply granted to a caller that no longer waited for it."""
        if question.undo is not None and reply is not None:
            self.post(question.undo)

    # The end of connections.

    def lose_line(self, line: Line, error: Exception) -> None:
        """A line broke, so that the store is lost."""
        store = self.store
        if store is not None and line in store.all_lines:
            self.note_fault(error)
        self._give_up(line.shut(error), error)
        self.signal.set()

    def drop(self, store: Store, error: Exception) -> None:
        """Close every line to `store`."""
        if self.store is store:
            self.store = None
        self._give_up(store.close(error), error)

    def answer_early(self) -> None:
        """Give None to those that waited for a connection."""
        while self.early:
            self.deliver(self.early.popleft(), None)

    def _give_up(self, left: list[Pending], error: Exception) -> None:
        """Repeat what may be repeated; there is no reply to the others."""
        for each in left:
            if each.may_repeat and not isinstance(error, TimeoutError):
                each.repeated, each.line, each.skips = True, None, 0
                self.early.append(each)
            else:
                self.deliver(each, None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _kind_of(error: Exception) -> str:
    """The kind of a fault, for counters and logs."""
    if isinstance(error, ReplyError):
        return error.kind
    if isinstance(error, TimeoutError):
        return "TimeoutError"
    return "ConnectionError" if isinstance(error, OSError) else type(error).__name__
