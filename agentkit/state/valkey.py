"""Shared state in Valkey or Redis: the connection, and what a call pays for it.

One thread of the manager owns the connection. It sends what callers ask in batches, so that many
callers share a round trip and an event loop never waits for a socket. While the store does not
answer, callers get None immediately, and the thread looks once a second whether it is back.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.engine.drivers.clock import ThreadWakeup, Wakeup
from agentkit.state import breakers, questions
from agentkit.state.address import PATIENCE, connect, parse_address
from agentkit.state.cluster import AnyLink, open_store
from agentkit.state.inbox import Inbox
from agentkit.state.scripts import command
from agentkit.types.fleet import Hear, MakeQuestions, Question, Receive

if TYPE_CHECKING:
    import redis

log = logging.getLogger("agentkit.fleet")

LONGEST_WAIT: Final = 0.25
"""Seconds that a caller waits at most, its place in the queue included."""
HEARTBEAT: Final = 1.0
"""Seconds between two heartbeats, and between two tries to reach a lost store."""
SLOW: Final = 0.05
"""A store whose replies take longer than these seconds is not used, if `SLOW_IN_A_ROW` did."""
SLOW_IN_A_ROW: Final = 10
SOON: Final = 0.01
"""Seconds for which questions that can wait are collected."""
QUIET: Final = 60.0
"""Seconds between two warnings that the store is lost."""

_BATCH: Final = 128
_WAITING: Final = 10_000
"""The most questions that wait for the thread; more of them get no reply."""
_CLEARED: Final = 1_000
"""How many keys the server looks at in one step of clearing."""

State: TypeAlias = Literal["idle", "connecting", "up", "down", "closed"]


class _Waiter(Protocol):
    is_set: bool

    def set(self) -> None: ...


class _Pending:
    """A question that waits for its reply."""

    __slots__ = ("abandoned", "done", "hear", "question", "repeated", "reply")

    def __init__(self, question: Question, done: _Waiter | None, hear: Hear | None = None) -> None:
        self.question = question
        self.done = done
        self.hear = hear
        self.reply: Any = None
        self.abandoned = False
        """Whether its caller has stopped to wait for the reply."""
        self.repeated = False

    @property
    def may_repeat(self) -> bool:
        return self.question.retry and not self.repeated and not self.abandoned


class _Clearing:
    """The keys to delete, and how far the server has looked for them."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.cursor = 0


_Item: TypeAlias = "_Pending | _Clearing | None"


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
        self._asked = self._alone = self._trips = 0
        self._trip_seconds = 0.0
        self._warned = float("-inf")
        self._process = secrets.token_hex(8)
        self._state: State = "idle"
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._leads: dict[Question, None] = {}
        self._cleared: dict[str, _Clearing] = {}
        self._inbox = Inbox()
        self._thread: threading.Thread | None = None
        self._client: redis.Redis | None = None
        """Keeps the connection of the inbox, which it would close when it is collected."""
        self._processes = self._mark = 0
        self._beat_at = 0.0
        self._slow = 0
        self._session = 0
        self._rounds: dict[MakeQuestions, None] = {}
        self._soon: list[MakeQuestions] = []
        self._soon_at = 0.0
        self._again: list[_Pending] = []
        """Questions to be repeated over a new connection."""
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
        done = ThreadWakeup()
        pending = self._submit(_Pending(question, done))
        if pending is not None:
            try:
                done.wait(LONGEST_WAIT)
            finally:
                self._abandon(pending)
        return self._reply_of(pending)

    async def aask(self, question: Question) -> Any:
        """Like `ask`, for asyncio."""
        done = Wakeup()
        pending = self._submit(_Pending(question, done))
        if pending is not None:
            try:
                await done.wait(LONGEST_WAIT)
            except BaseException:
                self._abandon(pending)
                self._take_back(question, pending.reply)  # it may have come before
                raise
            self._abandon(pending)
        return self._reply_of(pending)

    def post(self, question: Question, hear: Hear | None = None) -> None:
        """Ask without waiting; `hear` gets the reply, or None, on a thread of the fleet."""
        pending = _Pending(question, None, hear)
        if self._submit(pending) is None:
            self._deliver(pending, None)

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

    def soon(self, make: MakeQuestions) -> None:
        """Within 10 ms, ask what `make` returns; once, however often it is called until then."""
        with self._lock:
            if self._state != "up" or make in self._soon:
                return
            self._soon.append(make)
            first = len(self._soon) == 1
            if first:
                self._soon_at = time.monotonic() + SOON
        if first:
            self._queue.put(None)

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
        self._queue.put(None)

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
                "round_trips": self._trips,
                "round_trip_seconds": self._trip_seconds,
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
        self._queue.put(None)
        if connected and thread is not threading.current_thread():
            thread.join(timeout)

    def _leave_to_parent(self) -> None:
        """In a forked child: the connection and what was asked are the parent's."""
        self._process = secrets.token_hex(8)
        self._state = "idle"
        self._queue = SimpleQueue()
        self._leads, self._cleared, self._again, self._soon = {}, {}, [], []
        self._session += 1
        self._inbox = Inbox()
        self._thread = None
        self._slow = 0

    def _submit(self, pending: _Pending) -> _Pending | None:
        if self._state == "idle":
            self._start()
        self._asked += 1
        if self._state not in ("up", "connecting") or self._queue.qsize() >= _WAITING:
            return None
        self._queue.put(pending)
        return pending

    def _reply_of(self, pending: _Pending | None) -> Any:
        reply = None if pending is None else pending.reply
        if reply is None:
            self._alone += 1
        return reply

    def _abandon(self, pending: _Pending) -> None:
        """Wait no longer: a reply that comes after this is taken back."""
        with self._lock:
            pending.abandoned = True

    def _deliver(self, pending: _Pending, reply: Any) -> None:
        """Give the reply to whoever asked."""
        with self._lock:
            if not pending.abandoned:
                pending.reply = reply
            late = pending.abandoned
        if late:
            self._take_back(pending.question, reply)
        elif pending.done is not None:
            pending.done.set()
        elif pending.hear is not None:
            try:
                pending.hear(reply)
            except Exception:
                log.exception("a reply of the fleet could not be passed on")

    def _take_back(self, question: Question, reply: Any) -> None:
        """Release what a reply granted to a caller that no longer waited for it."""
        if question.function == "breaker_admit" and reply is not None:
            self.post(breakers.undo_admit(question))
        if question.function == "shared_claim" and reply is not None:
            keys, (holder, *_) = questions.SharedKeys(*question.keys), question.args
            self.post(questions.shared_complete(keys, str(holder), "left", b"", ttl=1.0))

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
        """Answer questions until the fleet is closed, on the thread of the fleet."""
        link: AnyLink | None = None
        while self._state != "closed":
            if link is None:
                link = self._connect()
                again, self._again = self._again, []
                if link is None:
                    for each in again:
                        self._deliver(each, None)
                    self._refuse(until=time.monotonic() + HEARTBEAT)
                    continue
                healthy = not again or self._answer(link, again)
            else:
                due = min(self._beat_at, self._soon_at) if self._soon else self._beat_at
                healthy = self._serve(link, due - time.monotonic())
            if not healthy:
                self._disconnect(link)
                link = None
        if link is not None:
            self._send_rest(link)
            self._disconnect(link)

    def _connect(self) -> AnyLink | None:
        """A connection that works, with an inbox that hears. None: the store is lost."""
        from redis.client import PubSub

        try:
            link, client = open_store(self._url)
            heard = PubSub(client.connection_pool, ignore_subscribe_messages=True)
            heard.subscribe(questions.inbox_of(self._process), questions.NEWS)
            heard.get_message(timeout=PATIENCE)
            for _ in range(2):
                begun = time.monotonic()
                if not self._beat(link):
                    return None
                if self._state == "down" and time.monotonic() - begun > SLOW:
                    return None
        except Exception as error:  # noqa: BLE001  (whatever the client raises is a lost store)
            self._note_fault(error)
            return None
        self._client = client
        self._inbox.listen(heard, name=f"agentkit-{self._name}-fleet-inbox", lost=self._wake)
        if self._state == "down":
            log.warning("fleet: the store is back")
        with self._lock:
            if self._state != "closed":
                self._state = "up"
        self._slow = 0
        return link

    def _wake(self) -> None:
        self._queue.put(None)

    def _serve(self, link: AnyLink, wait: float) -> bool:
        """Answer the questions that wait, and send a heartbeat if it is due. False: a failure."""
        batch: list[_Pending] = []
        try:
            item = self._queue.get(timeout=max(wait, 0.0))
            while True:
                if isinstance(item, _Pending):
                    batch.append(item)
                if len(batch) >= _BATCH:
                    break
                item = self._queue.get_nowait()
        except Empty:
            pass
        if self._soon and time.monotonic() >= self._soon_at:
            with self._lock:
                makes, self._soon = self._soon, []
            batch += [_Pending(question, None, hear) for make in makes for question, hear in make()]
        if batch and not self._answer(link, batch):
            return False
        if not self._inbox.is_listening:
            self._note_fault(ConnectionError("the inbox lost its connection"))
            return False
        if time.monotonic() >= self._beat_at and not self._beat(link):
            return False
        return self._clear_step(link)

    def _answer(self, link: AnyLink, batch: list[_Pending]) -> bool:
        """Answer `batch`. False: a failure, and some of it may have to be repeated."""
        begun = time.monotonic()
        try:
            replies = self._ask_all(link, batch)
            self._trip_seconds += time.monotonic() - begun
            self._trips += 1
        except Exception as error:  # noqa: BLE001  (whatever the client raises is a lost store)
            self._note_fault(error)
            for each in batch:
                if each.may_repeat:
                    each.repeated = True
                    self._again.append(each)
                else:
                    self._deliver(each, None)
            return False
        healthy = True
        for pending, reply in zip(batch, replies, strict=True):
            if isinstance(reply, Exception):
                if healthy:
                    self._note_fault(reply)
                healthy, reply = False, None  # noqa: PLW2901  (an error is not a reply)
            self._deliver(pending, reply)
        self._slow = self._slow + 1 if time.monotonic() - begun > SLOW else 0
        if self._slow >= SLOW_IN_A_ROW:
            self._note_fault(TimeoutError("the store is slow"))
            healthy = False
        return healthy

    def _ask_all(self, link: AnyLink, batch: list[_Pending]) -> list[Any]:
        """The replies to `batch`. Those that ask for a retry wait twice as long for theirs."""
        from redis import exceptions

        asked = [each.question for each in batch]
        try:
            return _execute(link, asked)
        except exceptions.TimeoutError:
            if not any(each.may_repeat for each in batch):
                raise
        for each in batch:
            if each.may_repeat:
                each.repeated = True
            else:
                self._deliver(each, None)
                each.abandoned = True  # a late reply is taken back
        return _finish(link, asked)

    def _beat(self, link: AnyLink) -> bool:
        """Say that this process lives, renew what it leads, and ask what others want to."""
        with self._lock:
            leads, rounds = list(self._leads), list(self._rounds)
        self._beat_at = time.monotonic() + HEARTBEAT
        asked = [_Pending(question, None, hear) for make in rounds for question, hear in make()]
        beat = questions.beat(self._process, self._mark)
        begun = time.monotonic()
        questioned = [beat, *leads, *(each.question for each in asked)]
        try:
            replies = self._execute_patiently(link, questioned)
        except Exception as error:  # noqa: BLE001  (whatever the client raises is a lost store)
            replies = [error]
        failure = next((each for each in replies if isinstance(each, Exception)), None)
        if failure is not None:
            self._note_fault(failure)
            for each in asked:
                self._deliver(each, None)
            return False
        self._trip_seconds += time.monotonic() - begun
        self._trips += 1
        self._processes, _, self._mark = replies[0]
        for each, reply in zip(asked, replies[1 + len(leads) :], strict=True):
            self._deliver(each, reply)
        return True

    def _execute_patiently(self, link: AnyLink, asked: list[Question]) -> list[Any]:
        """Like `_execute`, but wait twice as long if no caller waits meanwhile."""
        from redis import exceptions

        try:
            return _execute(link, asked)
        except exceptions.TimeoutError:
            if not self._queue.empty():
                raise
        return _finish(link, asked)

    def _clear_step(self, link: AnyLink) -> bool:
        """Delete some of the keys that are to be cleared, and wake this thread for the others."""
        with self._lock:
            clearing = next(iter(self._cleared.values()), None)
        if clearing is None:
            return True
        try:
            cursor, keys = link.scan(clearing.cursor, f"{clearing.prefix}*", _CLEARED)
            if keys:
                link.execute([("UNLINK", key) for key in keys])
        except Exception as error:  # noqa: BLE001  (whatever the client raises is a lost store)
            self._note_fault(error)
            return False
        clearing.cursor = cursor
        with self._lock:
            if cursor == 0 and self._cleared.get(clearing.prefix) is clearing:
                del self._cleared[clearing.prefix]
            again = bool(self._cleared)
        if again:
            self._queue.put(None)
        return True

    def _note_fault(self, error: Exception) -> None:
        """Count the fault. From now on callers are alone."""
        kind = _kind_of(error)
        with self._lock:
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

    def _refuse(self, until: float) -> None:
        """Answer every question with None until the next try."""
        while self._state != "closed" and (left := until - time.monotonic()) > 0:
            try:
                item = self._queue.get(timeout=left)
            except Empty:
                return
            if isinstance(item, _Pending):
                self._deliver(item, None)

    def _disconnect(self, link: AnyLink) -> None:
        self._inbox.stop()
        try:
            link.close()
        except Exception as error:  # noqa: BLE001  (it is given up in any case)
            log.debug("fleet: closing the connection failed: %s", type(error).__name__)
        for each in self._drain():
            if each.may_repeat:
                self._again.append(each)
            else:
                self._deliver(each, None)

    def _send_rest(self, link: AnyLink) -> None:
        """Send what was posted, and that this process ends."""
        rest = [each.question for each in self._drain() if each.done is None]
        try:
            _execute(link, [*rest, questions.leave(self._process)])
        except Exception as error:  # noqa: BLE001  (its place in the fleet expires)
            log.debug("fleet: the last message failed: %s", type(error).__name__)

    def _drain(self) -> list[_Pending]:
        """Take every question that waits."""
        waiting: list[_Pending] = []
        try:
            while True:
                item = self._queue.get_nowait()
                if isinstance(item, _Pending):
                    waiting.append(item)
        except Empty:
            return waiting

    def __repr__(self) -> str:
        return f"<ValkeyFleet {self._state}, {self._processes} processes>"


def _execute(link: AnyLink, asked: Sequence[Question]) -> list[Any]:
    """The reply to each question, or the exception instead of it."""
    return _with_texts(link, asked, link.execute([command(each) for each in asked]))


def _finish(link: AnyLink, asked: Sequence[Question]) -> list[Any]:
    """Wait on for the replies to `asked`."""
    return _with_texts(link, asked, link.finish())


def _with_texts(link: AnyLink, asked: Sequence[Question], replies: list[Any]) -> list[Any]:
    """Ask again, with its text, where the server did not know the script."""
    unknown = [i for i, reply in enumerate(replies) if _is_unknown_script(reply)]
    if unknown:
        texts = [command(asked[i], by_digest=False) for i in unknown]
        for i, reply in zip(unknown, link.execute(texts), strict=True):
            replies[i] = reply
    return replies


def _is_unknown_script(reply: Any) -> bool:
    return isinstance(reply, Exception) and type(reply).__name__ == "NoScriptError"


def _kind_of(error: Exception) -> str:
    """The kind of a fault, for counters and logs."""
    name = type(error).__name__
    if name == "ResponseError":  # its first word is the code of the server's error
        code = str(error).partition(" ")[0]
        return code if code.isupper() and code.isalpha() else name
    return name
