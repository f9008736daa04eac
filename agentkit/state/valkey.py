"""Shared state in Valkey or Redis: what a call pays for it, and what holds while it is lost.

Whoever asks sends the question and reads the reply, on a connection that threads share or on that
of the event loop. A thread of the manager connects, sends heartbeats, reads the other replies,
and notices when the store is silent. While the store is lost, callers get None immediately, and the
thread looks once a second whether it is back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import threading
import time
from collections import Counter, deque
from typing import Any, Final, Literal, TypeAlias

from agentkit._fork import WakeSignal, fork_safe_lock, on_fork
from agentkit.engine.drivers.clock import Wakeup
from agentkit.state import questions
from agentkit.state.address import PATIENCE, connect, parse_address
from agentkit.state.inbox import Inbox
from agentkit.state.line import SLOW, Line, Node, Pending, Trips, wait_for
from agentkit.state.loops import Alarm
from agentkit.state.questions import LONGEST_WAIT
from agentkit.state.resp import ReplyError
from agentkit.state.store import Store
from agentkit.types.fleet import Hear, MakeQuestions, Question, Receive

log = logging.getLogger("agentkit.fleet")

HEARTBEAT: Final = 1.0
"""Seconds between two heartbeats, and between two tries to reach a lost store."""
SLOW_IN_A_ROW: Final = 10
"""So many slow replies in a row make the thread check the store, which is lost if it is slow."""
SOON: Final = 0.01
"""Seconds for which questions that can wait are collected."""
TICK: Final = 0.02
"""Seconds between two looks at the connections while a question waits for its reply."""
GLANCE: Final = 0.002
"""The same while a reply may have come that no call reads."""
GLANCES: Final = 50
"""So many looks without such a reply make the next ones rarer."""
LATE: Final = 0.05
"""Seconds by which the thread wakes too late if the process gets no processor time."""
LATE_PATIENCE: Final = 1.0
"""Seconds for which a store may be silent while that is so: the replies may lie here, unread."""
AT_ONCE: Final = 0.05
"""Seconds between two tries to reach a store that was lost within `LONGEST_WAIT`."""
QUIET: Final = 60.0
"""Seconds between two warnings that the store is lost."""

_WAITING: Final = 10_000
"""The most questions that wait for their reply on a connection; more of them get none."""
_CLEARED: Final = 1_000
"""How many keys the server looks at in one step of clearing."""

State: TypeAlias = Literal["idle", "connecting", "up", "down", "closed"]


class _Clearing:
    """The keys to delete, the servers that may have some, and how far the first has looked."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[Node] | None = None
        self.cursor = 0


class ValkeyFleet:
    """The processes that share a Valkey (8 or newer) or Redis (7 or newer) server; a `Fleet`.

    The connection is made in the background. The first questions wait for it, at most 250 ms.
    A question costs one round trip. If the store is silent for 100 ms, refuses, is full, read-only
    or slower than 50 ms ten times in a row, questions get None immediately until it works again.

    Args:
        url: where the store is, in one of the forms that `docs/how-to/fleet.md` lists.
        name: part of the names of its threads.

    Raises:
        ConfigurationError: `url` is not the URL of a store.
        MissingDependencyError: redis-py is not installed.
    """

    def __init__(self, url: str, *, name: str = "default") -> None:
        self._url = url
        connect(url)  # so that a wrong URL or a missing package is noticed here
        self.is_cluster = parse_address(url).kind == "cluster"
        self._name = name
        self._lock = fork_safe_lock()
        self._faults: Counter[str] = Counter()
        self._asked = self._alone = 0
        self._trips = Trips()
        self._warned = self._lost_at = self._late_at = float("-inf")
        self._process = secrets.token_hex(8)
        self._state: State = "idle"
        self._signal = WakeSignal()
        """Wakes the thread."""
        self._store: Store | None = None
        self._early: deque[Pending] = deque()
        """Questions to be asked over the next connection."""
        self._every = math.inf
        """Seconds between two looks of the thread at the connections."""
        self._looked_at = 0.0
        self._glances = 0
        """Looks since there was something to read."""
        self._reads = False
        """Whether it has to read at once."""
        self._leads: dict[Question, None] = {}
        self._cleared: dict[str, _Clearing] = {}
        self._held: deque[Pending] = deque()
        """What was posted about keys that are being cleared, and is sent after that."""
        self._inbox = Inbox()
        self._alarm: Alarm | None = None
        """That of the loop that asked last."""
        self._thread: threading.Thread | None = None
        self._processes = self._mark = 0
        self._beat_at = 0.0
        self._session = 0
        self._rounds: dict[MakeQuestions, None] = {}
        self._soon: dict[MakeQuestions, float] = {}
        """What to ask, and when."""
        self._soon_at = math.inf
        on_fork(self._leave_to_parent)
        self._start()

    @property
    def process(self) -> str:
        """The name of this process in the fleet: random, and another one in a forked child."""
        return self._process

    @property
    def processes(self) -> int:
        """Live processes of the fleet when they were last counted, at least 1."""
        return max(self._processes, 1)

    @property
    def session(self) -> int:
        """Grows whenever questions or replies may have been lost."""
        return self._session

    @property
    def is_up(self) -> bool:
        """See `Fleet`."""
        return self._state == "up"

    @property
    def mark(self) -> int:
        """See `Fleet`."""
        return self._mark

    @property
    def state(self) -> State:
        """``up`` if questions are answered."""
        return self._state

    def ask(self, question: Question) -> Any:
        """The reply, or None."""
        pending = Pending(question, signal=WakeSignal())
        if self._submit(pending):
            try:
                wait_for(pending, LONGEST_WAIT)
            finally:
                self._abandon(pending)
        return self._reply_of(pending)

    async def aask(self, question: Question) -> Any:
        """Like `ask`, for asyncio."""
        loop, alarm, done = asyncio.get_running_loop(), self._alarm, Wakeup()
        pending = Pending(question, wake=done.set)
        if self._submit(pending, loop):
            if alarm is None or alarm.loop is not loop:
                alarm = self._alarm = Alarm(loop, LONGEST_WAIT)
            alarm.add(done)
            try:
                await done.wait(None)
            except BaseException:
                self._abandon(pending)
                self._take_back(question, pending.reply)  # it may have come before
                raise
            finally:
                alarm.remove(done)
            self._abandon(pending)
        return self._reply_of(pending)

    def post(self, question: Question, hear: Hear | None = None) -> None:
        """Ask without waiting; `hear` gets the reply, or None, on any thread."""
        pending = Pending(question, hear=hear)
        if self._cleared and self._is_cleared(question):
            self._held.append(pending)
            self._signal.set()
        elif not self._submit(pending, _running_loop()):
            self._deliver(pending, None)

    def catch_up(self) -> None:
        """Read the replies to what was posted, on this thread, which is about to wait for them."""
        store = self._store
        if store is not None and self._state == "up":
            _read_newest(store, PATIENCE)

    def subscribe(self, topic: str, receive: Receive) -> None:
        """Call `receive` with each message about `topic`, on the thread of the inbox."""
        self._inbox.subscribe(topic, receive)

    def unsubscribe(self, topic: str, receive: Receive) -> None:
        """Forget `receive`."""
        self._inbox.unsubscribe(topic, receive)

    def lead(self, question: Question) -> None:
        """Ask `question` with each heartbeat."""
        with self._lock:
            self._leads[question] = None

    def stop_leading(self, question: Question) -> None:
        """Forget `question`."""
        with self._lock:
            self._leads.pop(question, None)

    def soon(self, make: MakeQuestions, seconds: float = SOON) -> None:
        """After `seconds`, ask what `make` returns; once, however often it is called until then."""
        with self._lock:
            if self._state != "up":
                return
            at = time.monotonic() + seconds
            if self._soon.get(make, math.inf) <= at:
                return
            self._soon[make] = at
            first = at < self._soon_at
            if first:
                self._soon_at = at
        if first:
            self._signal.set()

    def at_heartbeat(self, make: MakeQuestions) -> None:
        """With each heartbeat, ask what `make` returns."""
        with self._lock:
            self._rounds[make] = None

    def stop_at_heartbeat(self, make: MakeQuestions) -> None:
        """Forget `make`."""
        with self._lock:
            self._rounds.pop(make, None)

    def clear(self, prefix: str) -> None:
        """Delete every key that starts with `prefix`, in the background."""
        with self._lock:
            self._cleared[prefix] = _Clearing(prefix)
        self._signal.set()

    def statistics(self) -> dict[str, Any]:
        """The state of the connection, and counters since the start.

        Keys: ``state``, ``process``, ``processes`` (live ones in the fleet, this one included; 0 if
        unknown), ``questions`` (asked), ``alone`` (those without a reply), ``round_trips`` and
        ``round_trip_seconds`` (how often and how long the store was asked), ``faults`` (by kind)
        and ``leads`` (shared calls that this process leads now).
        """
        with self._lock:
            return {
                "state": self._state,
                "process": self._process,
                "processes": self._processes if self._state == "up" else 0,
                "questions": self._asked,
                "alone": self._alone,
                "round_trips": self._trips.count,
                "round_trip_seconds": self._trips.seconds,
                "faults": dict(self._faults),
                "leads": len(self._leads),
            }

    def close(self, timeout: float = 0.5) -> None:
        """Send what was posted, for at most `timeout` seconds, and end the threads."""
        with self._lock:
            thread, connected = self._thread, self._state == "up"
            self._state, self._thread = "closed", None
        if thread is None:
            return
        self._signal.set()
        if connected and thread is not threading.current_thread():
            thread.join(timeout)

    def _leave_to_parent(self) -> None:
        """In a forked child: the connections and what was asked are the parent's."""
        self._process = secrets.token_hex(8)
        self._state = "idle"
        self._signal, self._store, self._early = WakeSignal(), None, deque()
        self._every, self._reads = math.inf, False
        self._leads, self._cleared, self._soon, self._held = {}, {}, {}, deque()
        self._soon_at = math.inf
        self._session += 1
        self._inbox = Inbox()
        self._thread = None
        self._trips.slow = 0

    # What is asked, on any thread.

    def _submit(self, pending: Pending, loop: asyncio.AbstractEventLoop | None = None) -> bool:
        """Send a question. False: there will be no reply."""
        if self._state == "idle":
            self._start()
        self._asked += 1
        store = self._store
        if self._state == "connecting" and len(self._early) < _WAITING:
            self._early.append(pending)
            self._signal.set()
            return True
        if self._state != "up" or store is None:
            return False
        lines = None if loop is None else store.loops.lines_of(loop)
        line = store.line_of(pending, lines)
        if line.loop is not None and not line.load and not pending.is_heard:
            line = store.line_of(pending)  # its reply would wake the loop, for nobody
        if line.load >= _WAITING:
            return False
        line.send(pending, together=pending.signal is None)
        if line.loop is not None or pending.signal is not None or not pending.is_heard:
            self._look_after(TICK)
        elif pending.wake is not None:
            self._reads = True
            self._signal.set()
        else:
            self._look_after(GLANCE)
        return True

    def _look_after(self, every: float) -> None:
        """Let the thread look at the connections so often, if it does not yet.

        Whoever posts may wait for the reply, and read it, or not.
        """
        if every < self._every:
            self._every = every
            self._signal.set()

    def _is_cleared(self, question: Question) -> bool:
        with self._lock:
            prefixes = tuple(self._cleared)
        return any(key.startswith(prefixes) for key in question.keys)

    def _reply_of(self, pending: Pending) -> Any:
        if pending.reply is None:
            self._alone += 1
        return pending.reply

    def _abandon(self, pending: Pending) -> None:
        """Wait no longer: a reply that comes after this is taken back."""
        if not pending.is_done:
            with self._lock:
                pending.abandoned = True

    def _deliver(self, pending: Pending, reply: Any) -> None:
        """Give the reply to whoever asked."""
        if type(reply) is ReplyError:
            self._note_fault(reply)
            self._signal.set()  # the thread drops the connections
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
            self._take_back(pending.question, reply)
        elif pending.hear is not None:
            try:
                pending.hear(reply)
            except Exception:
                log.exception("a reply of the fleet could not be passed on")

    def _take_back(self, question: Question, reply: Any) -> None:
        """Release what a reply granted to a caller that no longer waited for it."""
        if question.undo is not None and reply is not None:
            self.post(question.undo)

    def _lose_line(self, line: Line, error: Exception) -> None:
        """A connection broke, so that the store is lost."""
        store = self._store
        if store is not None and line in store.all_lines:
            self._note_fault(error)
        self._give_up(line.shut(error), error)
        self._signal.set()

    def _give_up(self, left: list[Pending], error: Exception) -> None:
        """Repeat what may be repeated; there is no reply to the others."""
        for each in left:
            if each.may_repeat and not isinstance(error, TimeoutError):
                each.repeated, each.line, each.skips = True, None, 0
                self._early.append(each)
            else:
                self._deliver(each, None)

    def _note_fault(self, error: Exception) -> None:
        """Count the fault. From now on callers are alone."""
        kind = _kind_of(error)
        with self._lock:
            if self._state == "up":
                self._lost_at = time.monotonic()
            if self._state != "closed":
                self._state = "down"
            self._session += 1
            self._faults[kind] += 1
            now = time.monotonic()
            loud = now >= self._warned + QUIET
            if loud:
                self._warned = now
        if loud:  # never its message, which may quote a key or an answer
            log.warning("fleet: the store is lost (%s); this process decides alone", kind)

    # The thread.

    def _start(self) -> None:
        with self._lock:
            if self._state != "idle":
                return
            self._state = "connecting"
            thread = self._thread = threading.Thread(
                target=self._run, name=f"agentkit-{self._name}-fleet", daemon=True
            )
        try:
            thread.start()
        except RuntimeError:  # the interpreter shuts down, or there are too many threads
            self._state = "idle"

    def _run(self) -> None:
        """Look after the connections until the fleet is closed."""
        store: Store | None = None
        while self._state != "closed":
            if store is None:
                store = self._connect()
                if store is None:
                    now = time.monotonic()
                    is_new = now < self._lost_at + LONGEST_WAIT
                    self._rest(until=now + (AT_ONCE if is_new else HEARTBEAT))
                continue
            self._wait(self._due())
            if self._state == "up":
                try:
                    self._work(store)
                except Exception as error:  # noqa: BLE001  (a reply of another shape)
                    self._note_fault(error)
            if self._state == "down":
                self._drop(store, ConnectionError("the store is lost"))
                store = None
        if store is not None:
            self._leave(store)

    def _wait(self, due: float) -> None:
        now = time.monotonic()
        self._signal.wait(max(due - now, 0.0))
        self._note_lateness(max(due, now))

    def _note_lateness(self, due: float) -> None:
        now = time.monotonic()
        if now > due + LATE:
            self._late_at = now

    @property
    def _is_late(self) -> bool:
        """Whether this process got no processor time a moment ago."""
        return time.monotonic() < self._late_at + LATE_PATIENCE

    def _due(self) -> float:
        """When there is something to do."""
        return min(self._beat_at, self._soon_at, time.monotonic() + self._every)

    def _connect(self) -> Store | None:
        """Connections that work, with an inbox that hears. None: the store is lost."""
        from redis.client import PubSub

        was_down, session = self._state == "down", self._session
        store: Store | None = None
        try:
            store = self._store = Store(
                self._url,
                deliver=self._deliver,
                lost=self._lose_line,
                wake=self._signal.set,
                trips=self._trips,
                name=f"agentkit-{self._name}-fleet",
            )
            heard = PubSub(store.client.connection_pool, ignore_subscribe_messages=True)
            heard.subscribe(questions.inbox_of(self._process), questions.NEWS)
            heard.get_message(timeout=PATIENCE)
            self._inbox.listen(
                heard, name=f"agentkit-{self._name}-fleet-inbox", lost=self._signal.set
            )
            for _ in range(2):
                begun = time.monotonic()
                works = self._beat(store) and self._session == session
                is_slow = time.monotonic() - begun > SLOW and not self._is_late
                if not works or (was_down and is_slow):
                    self._drop(store, ConnectionError("the store does not work"))
                    return None
        except Exception as error:  # noqa: BLE001  (whatever the client raises is a lost store)
            self._note_fault(error)
            if store is not None:
                self._drop(store, error)
            return None
        if was_down:
            log.warning("fleet: the store is back")
        self._trips.slow = 0
        with self._lock:
            if self._state != "closed":
                self._state = "up"
        self._send_early(store)
        return store

    def _rest(self, until: float) -> None:
        """Answer what waited for a connection with None, and wait until the next try."""
        while self._held:
            self._deliver(self._held.popleft(), None)
        while self._early:
            self._deliver(self._early.popleft(), None)
        while self._state != "closed" and (left := until - time.monotonic()) > 0:
            self._signal.wait(left)
            while self._early:
                self._deliver(self._early.popleft(), None)

    def _send_early(self, store: Store) -> None:
        if not self._cleared:
            while self._held:
                self._early.append(self._held.popleft())
        while self._early:
            pending = self._early.popleft()
            self._every, self._reads = min(self._every, TICK), True
            store.line_of(pending).send(pending)

    def _work(self, store: Store) -> None:
        """Whatever is due."""
        self._send_early(store)
        if self._reads:
            self._reads, self._every = False, min(self._every, TICK)
            _read_newest(store, TICK)
        if time.monotonic() >= self._soon_at:
            self._ask_soon(store)
        now = time.monotonic()
        if store.has_to_follow or (self._every < math.inf and now >= self._looked_at + TICK):
            self._looked_at = now
            self._tick(store)
        elif self._every <= GLANCE:
            self._glance(store)
        if self._state != "up":
            return
        if not self._inbox.is_listening:
            self._note_fault(ConnectionError("the inbox lost its connection"))
            return
        if self._trips.slow >= SLOW_IN_A_ROW:
            self._check_speed(store)
        if time.monotonic() >= self._beat_at and self._state == "up":
            store.loops.sweep()
            self._beat(store)
        if self._cleared and self._state == "up":
            self._clear_step(store)

    def _ask_soon(self, store: Store) -> None:
        """Ask what could wait for a moment."""
        now = time.monotonic()
        with self._lock:
            makes = [make for make, at in self._soon.items() if at <= now]
            for make in makes:
                del self._soon[make]
            self._soon_at = min(self._soon.values(), default=math.inf)
        for make in makes:
            for question, hear in make():
                pending = Pending(question, hear=hear)
                self._every = min(self._every, GLANCE)
                store.line_of(pending).send(pending)

    def _tick(self, store: Store) -> None:
        """Look after the questions that wait for their reply."""
        if self._every > GLANCE:
            self._every = math.inf
        for line in store.all_lines:
            if not line.load:
                continue
            self._every = min(self._every, TICK)
            now = time.monotonic()
            if line.loop is None or line.is_overdue(now):
                line.read()
            silence = line.silence(time.monotonic())
            if silence >= PATIENCE and line.is_suspect:
                self._judge(store, line, silence)
            # A thread that has just read may wait for its processor: it gets a tick to say so.
            line.is_suspect = silence >= PATIENCE - TICK
        if store.has_to_follow:
            try:
                store.follow()
            except Exception as error:  # noqa: BLE001  (whatever it is, a node is lost)
                self._note_fault(error)
            self._every = min(self._every, TICK)

    def _glance(self, store: Store) -> None:
        """Read what has come on the lines of threads, and send what the network takes."""
        self._glances += 1
        for line in store.all_lines:
            if line.is_sending or (line.loop is None and line.load):
                self._glances = 0
                line.read() if line.loop is None else line.flush()
        if self._glances > GLANCES:
            self._glances, self._every = 0, TICK

    def _judge(self, store: Store, line: Line, silence: float) -> None:
        """Decide about a line that has been silent for longer than the patience.

        Questions that ask for a retry, and those for which no call waits, get twice the time. All
        get more of it while this process is late itself.
        """
        left, is_late = line.outstanding(), self._is_late
        if silence < (LATE_PATIENCE if is_late else 2 * PATIENCE):
            if is_late or any(each.may_repeat for each in left):
                for each in left:
                    if not (each.may_repeat or each.is_own):
                        self._deliver(each, None)
                        each.abandoned = True  # a late reply is taken back
                return
            if not any(each.is_waited_for for each in left):
                return
        error = TimeoutError("the store is silent")
        self._note_fault(error)
        self._drop(store, error)

    def _check_speed(self, store: Store) -> None:
        """After slow replies: is it the store, or this process that reads them late?"""
        self._trips.slow = 0
        begun = time.monotonic()
        if self._beat(store) and time.monotonic() - begun > SLOW and not self._is_late:
            self._note_fault(TimeoutError("the store is slow"))

    def _beat(self, store: Store) -> bool:
        """Say that this process lives, renew what it leads, and ask what others want to."""
        with self._lock:
            leads, rounds = list(self._leads), list(self._rounds)
        self._beat_at = time.monotonic() + HEARTBEAT
        beat = Pending(questions.beat(self._process, self._mark), signal=WakeSignal())
        asked = [beat, *(Pending(question, signal=WakeSignal()) for question in leads)]
        asked += [
            Pending(question, hear=hear, signal=WakeSignal())
            for make in rounds
            for question, hear in make()
        ]
        self._ask_all(store, asked)
        if beat.reply is None:
            return False
        self._processes, _, self._mark = beat.reply
        return True

    def _ask_all(self, store: Store, asked: list[Pending]) -> None:
        """Ask, and wait for the replies; there are none if the store is lost meanwhile."""
        for each in asked:
            each.is_own = True
            store.line_of(each).send(each)
        for each in asked:
            while not each.is_done:
                due = time.monotonic() + TICK
                wait_for(each, TICK)
                self._note_lateness(due)
                self._tick(store)

    def _clear_step(self, store: Store) -> None:
        """Delete some of the keys that are to be cleared, and wake this thread for the others."""
        with self._lock:
            clearing = next(iter(self._cleared.values()))
        if clearing.nodes is None:
            clearing.nodes = store.nodes
        node = clearing.nodes[0]
        try:
            pattern = f"{clearing.prefix}*"
            clearing.cursor, keys = store.scan(node, clearing.cursor, pattern, _CLEARED)
            store.execute(node, *(("UNLINK", key) for key in keys))
        except Exception as error:  # noqa: BLE001  (whatever it is, the store is lost)
            self._note_fault(error)
            return
        if clearing.cursor == 0:
            clearing.nodes = clearing.nodes[1:]
        with self._lock:
            if not clearing.nodes and self._cleared.get(clearing.prefix) is clearing:
                del self._cleared[clearing.prefix]
            again = bool(self._cleared)
        if again:
            self._signal.set()

    def _drop(self, store: Store, error: Exception) -> None:
        """Close every connection."""
        if self._store is store:
            self._store = None
        self._inbox.stop()
        self._give_up(store.close(error), error)

    def _leave(self, store: Store) -> None:
        """Say that this process ends. What was posted was sent before."""
        self._cleared.clear()
        try:
            self._send_early(store)
            for line in store.all_lines:
                line.flush()
            store.ask(questions.leave(self._process))
        except Exception as error:  # noqa: BLE001  (its place in the fleet expires)
            log.debug("fleet: the last message failed: %s", type(error).__name__)
        self._drop(store, ConnectionError("the fleet is closed"))

    def __repr__(self) -> str:
        return f"<ValkeyFleet {self._state}, {self._processes} processes>"


def _read_newest(store: Store, seconds: float) -> None:
    """Read, for all, until what was asked last has its reply, unless another thread reads."""
    for line in store.lines.values():
        newest = line.newest
        if newest is not None:
            line.lead(newest, time.monotonic() + seconds)


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
