"""The thread that connects to a store, sends heartbeats, and notices that the store is silent.

It reads the replies that no call reads. While the store is lost, it looks once a second whether the
store is back.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from agentkit._fork import WakeSignal
from agentkit.state import questions
from agentkit.state.address import CONNECT_TIMEOUT, PATIENCE
from agentkit.state.agenda import Agenda
from agentkit.state.connection import GLANCE, Connection
from agentkit.state.inbox import Inbox
from agentkit.state.line import Line, Pending, wait_for
from agentkit.state.patience import TICK, Patience
from agentkit.state.store import Store

log = logging.getLogger("agentkit.fleet")

HEARTBEAT: Final = 1.0
"""Seconds between two heartbeats, and between two tries to reach a lost store."""
SLOW_IN_A_ROW: Final = 10
"""Slow replies in a row after which the thread checks the store, which is lost if it is slow."""
GLANCES: Final = 50
"""Looks in a row that found nothing to read, after which the thread looks less often."""


class Keeper:
    """Looks after a connection, on a thread of its own.

    Args:
        url: where the store is.
        connection: what it opens, and drops when the store is lost.
        agenda: what it asks for others.
        name: begins the names of threads.
    """

    def __init__(self, url: str, connection: Connection, agenda: Agenda, *, name: str) -> None:
        self._url, self._name = url, name
        self._connection, self._agenda = connection, agenda
        self.inbox = Inbox()
        self.processes = self.mark = 0
        """The reply to the last heartbeat; see `questions.beat`."""
        self._patience = Patience()
        self._thread: threading.Thread | None = None
        self._beat_at = self._looked_at = 0.0
        self._glances = 0
        """Looks since there was something to read."""

    def start(self) -> None:
        """Connect, in the background, unless that was done before."""
        if not self._connection.begin():
            return
        thread = self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter shuts down, or there are too many threads
            self._connection.state = "idle"

    def join(self, timeout: float) -> None:
        """Wait until the thread has sent what was posted and has ended."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def leave_to_parent(self) -> None:
        """In a forked child: the thread is the parent's."""
        self.inbox, self._thread = Inbox(), None

    def _run(self) -> None:
        """Look after the connection until it is closed."""
        connection = self._connection
        store: Store | None = None
        while connection.state != "closed":
            if store is None:
                store = self._connect()
                if store is None:
                    now = time.monotonic()
                    pause = self._patience.pause(now - connection.lost_at, HEARTBEAT)
                    self._rest(until=now + pause)
                continue
            self._wait()
            if connection.state == "up":
                try:
                    self._work(store)
                except Exception as error:  # noqa: BLE001  (a reply of another shape)
                    connection.note_fault(error)
            if connection.state == "down":
                self._drop(store, ConnectionError("the store is lost"))
                store = None
        if store is not None:
            self._leave(store)

    def _wait(self) -> None:
        """Until there is something to do."""
        now = time.monotonic()
        due = max(now, min(self._beat_at, self._agenda.due, now + self._connection.every))
        self._connection.signal.wait(due - now)
        self._patience.note_wake(due, time.monotonic())

    # Connecting.

    def _connect(self) -> Store | None:
        """Lines that work, with an inbox that hears. None: the store is lost."""
        connection = self._connection
        was_down, session = connection.state == "down", connection.session
        store: Store | None = None
        try:
            store = connection.store = Store(
                self._url,
                deliver=connection.deliver,
                lost=connection.lose_line,
                wake=connection.signal.set,
                trips=connection.trips,
                name=self._name,
            )
            heard = self._subscribe(store)
            self.inbox.listen(heard, name=f"{self._name}-inbox", lost=connection.signal.set)
            for _ in range(2 if was_down else 1):
                begun = time.monotonic()
                works = self._beat(store) and connection.session == session
                is_slow = self._patience.is_slow(begun, time.monotonic())
                if not works or (was_down and is_slow):
                    self._drop(store, ConnectionError("the store does not work"))
                    return None
        except Exception as error:  # noqa: BLE001  (whatever the client raises is a lost store)
            connection.note_fault(error)
            if store is not None:
                self._drop(store, error)
            return None
        if was_down:
            log.warning("fleet: the store is back")
        connection.trips.slow = 0
        connection.open()
        self._beat_at = 0.0  # now that questions are sent, ask what others ask with each heartbeat
        return store

    def _subscribe(self, store: Store) -> Any:
        """The source of messages, after the server has confirmed that it sends them.

        It may not be the server that answers the questions, so that their replies prove nothing.

        Raises:
            OSError, redis.RedisError: the server does not answer, or refuses.
        """
        from redis.client import PubSub

        heard = PubSub(store.client.connection_pool)
        channels = (questions.inbox_of(self._connection.process), questions.NEWS)
        until = time.monotonic() + CONNECT_TIMEOUT
        try:
            heard.subscribe(*channels)
            for _ in channels:
                if heard.get_message(timeout=max(0.0, until - time.monotonic())) is None:
                    raise TimeoutError("the server confirms no subscription")  # noqa: TRY301
        except BaseException:
            heard.close()
            raise
        return heard

    def _rest(self, until: float) -> None:
        """Answer what waited for a connection with None, and wait until the next try."""
        connection = self._connection
        for each in connection.purge.release():
            connection.deliver(each, None)
        connection.answer_early()
        while connection.state != "closed" and (left := until - time.monotonic()) > 0:
            connection.signal.wait(left)
            connection.answer_early()

    def _drop(self, store: Store, error: Exception) -> None:
        """Close everything."""
        self.inbox.stop()
        self._connection.drop(store, error)

    def _leave(self, store: Store) -> None:
        """Release what this process leads, and say goodbye. What was posted was sent before."""
        self._connection.purge.stop()
        try:
            self._send_early(store)
            for line in store.all_lines:
                line.flush()
            released = [Pending(each, signal=WakeSignal()) for each in self._agenda.releases]
            for each in released:
                store.line_of(each).send(each)
            store.ask(questions.leave(self._connection.process))
            for each in released:
                wait_for(each, PATIENCE)
        except Exception as error:  # noqa: BLE001  (its place in the fleet expires)
            log.debug("fleet: the last message failed: %s", type(error).__name__)
        self._drop(store, ConnectionError("the fleet is closed"))

    # While it is connected.

    def _work(self, store: Store) -> None:
        """Whatever is due."""
        connection = self._connection
        if time.monotonic() >= self._beat_at:
            store.loops.sweep()
            self._beat(store, self._rounds())
            if connection.state != "up":
                return
        self._send_early(store)
        if time.monotonic() >= self._agenda.due:
            self._ask_soon(store)
        self._look(store)
        if connection.state != "up":
            return
        if not self.inbox.is_listening:
            connection.note_fault(ConnectionError("the inbox lost its connection"))
            return
        if connection.trips.slow >= SLOW_IN_A_ROW:
            self._check_speed(store)
        if connection.purge and connection.state == "up":
            connection.purge.step(store)
            if connection.purge:
                connection.signal.set()

    def _send_early(self, store: Store) -> None:
        connection = self._connection
        if not connection.purge:
            connection.early.extend(connection.purge.release())
        while connection.early:
            pending = connection.early.popleft()
            connection.every, connection.reads = min(connection.every, TICK), True
            store.line_of(pending).send(pending)

    def _ask_soon(self, store: Store) -> None:
        """Ask what could wait for a moment."""
        for make in self._agenda.take(time.monotonic()):
            for question, hear in make():
                pending = Pending(question, hear=hear)
                self._connection.every = min(self._connection.every, GLANCE)
                store.line_of(pending).send(pending)

    def _look(self, store: Store) -> None:
        """Read what a call waits for, and look at the lines if that is due."""
        connection = self._connection
        if connection.reads:
            connection.reads, connection.every = False, min(connection.every, TICK)
            store.read_newest(TICK)
        now = time.monotonic()
        if store.has_to_follow or (connection.every <= TICK and now >= self._looked_at + TICK):
            self._looked_at = now
            self._tick(store)
        elif connection.every <= GLANCE:
            self._glance(store)

    def _tick(self, store: Store) -> None:
        """Look after the questions that wait for their reply."""
        connection = self._connection
        if connection.every > GLANCE:
            connection.every = math.inf
        for line in store.all_lines:
            if line.load:
                connection.every = min(connection.every, TICK)
                self._look_at(store, line)
        if store.has_to_follow:
            try:
                store.follow()
            except Exception as error:  # noqa: BLE001  (whatever it is, a node is lost)
                connection.note_fault(error)
            connection.every = min(connection.every, TICK)

    def _look_at(self, store: Store, line: Line) -> None:
        """Read a line on which questions wait, unless others do, and judge its silence."""
        if line.loop is None or line.is_overdue(time.monotonic()):
            line.read()
        now = time.monotonic()
        silence, was_suspect = line.silence(now), line.is_suspect
        line.is_suspect = self._patience.suspects(silence)
        if not was_suspect:
            return
        left = line.outstanding()
        decision = self._patience.judge(silence, left, now)
        if decision == "part":
            for each in left:
                if not (each.may_repeat or each.is_own):
                    self._connection.deliver(each, None)
                    each.abandoned = True  # a late reply is taken back
        elif decision == "lost":
            error = TimeoutError("the store is silent")
            self._connection.note_fault(error, silence)
            self._drop(store, error)

    def _glance(self, store: Store) -> None:
        """Read what has come on the lines of threads, and send what the network takes."""
        self._glances += 1
        for line in store.all_lines:
            if line.is_sending or (line.loop is None and line.load):
                self._glances = 0
                line.read() if line.loop is None else line.flush()
        if self._glances > GLANCES:
            self._glances, self._connection.every = 0, TICK

    def _check_speed(self, store: Store) -> None:
        """After slow replies: is it the store, or this process that reads them late?"""
        self._connection.trips.slow = 0
        begun = time.monotonic()
        if self._beat(store) and self._patience.is_slow(begun, time.monotonic()):
            self._connection.note_fault(TimeoutError("the store is slow"))

    def _beat(self, store: Store, others: Iterable[Pending] = ()) -> bool:
        """Say that this process lives, and ask others. Whether the store answered."""
        self._beat_at = time.monotonic() + HEARTBEAT
        connection = self._connection
        session = connection.session
        beat = Pending(questions.beat(connection.process, self.mark), signal=WakeSignal())
        self._ask_all(store, [beat, *others])
        if beat.reply is None:
            if connection.session == session:  # the connection itself works
                connection.note_fault(ConnectionError("the reply is empty"))
            return False
        self.processes, _, self.mark = beat.reply
        return True

    def _rounds(self) -> Iterator[Pending]:
        """What this process leads, to be renewed, and what others want to ask each time."""
        for question in self._agenda.leads:
            yield Pending(question, signal=WakeSignal())
        for make in self._agenda.rounds:
            for question, hear in make():
                yield Pending(question, hear=hear, signal=WakeSignal())

    def _ask_all(self, store: Store, asked: list[Pending]) -> None:
        """Ask, and wait for the replies; there are none if the store is lost meanwhile."""
        for each in asked:
            each.is_own = True
            store.line_of(each).send(each)
        for each in asked:
            while not each.is_done:
                due = time.monotonic() + TICK
                wait_for(each, TICK)
                self._patience.note_wake(due, time.monotonic())
                self._tick(store)
