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
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.engine.drivers.clock import ThreadWakeup, Wakeup
from agentkit.errors import ConfigurationError, MissingDependencyError
from agentkit.state import questions
from agentkit.state.inbox import Inbox
from agentkit.state.scripts import command
from agentkit.types.fleet import Question, Receive

if TYPE_CHECKING:
    import redis

log = logging.getLogger("agentkit.fleet")

PATIENCE: Final = 0.1
"""Seconds for which the store may be silent before it counts as lost."""
LONGEST_WAIT: Final = 0.25
"""Seconds that a caller waits at most, its place in the queue included."""
HEARTBEAT: Final = 1.0
"""Seconds between two heartbeats, and between two tries to reach a lost store."""
SLOW: Final = 0.05
"""A store whose replies take longer than these seconds is not used, if `SLOW_IN_A_ROW` did."""
SLOW_IN_A_ROW: Final = 10
QUIET: Final = 60.0
"""Seconds between two warnings that the store is lost."""

_BATCH: Final = 128
_WAITING: Final = 10_000
"""The most questions that wait for the thread; more of them get no reply."""
_CLEARED: Final = 1_000
"""How many keys the server looks at in one step of clearing."""

_SCHEMES: Final = {
    "valkey": "redis",
    "redis": "redis",
    "valkeys": "rediss",
    "rediss": "rediss",
    "unix": "unix",
}

State: TypeAlias = Literal["idle", "connecting", "up", "down", "closed"]


class _Waiter(Protocol):
    is_set: bool

    def set(self) -> None: ...


class _Pending:
    """A question that waits for its reply."""

    __slots__ = ("abandoned", "done", "question", "reply")

    def __init__(self, question: Question, done: _Waiter | None) -> None:
        self.question = question
        self.done = done
        self.reply: Any = None
        self.abandoned = done is None

    def answer(self, reply: Any) -> None:
        self.reply = reply
        if self.done is not None:
            self.done.set()


class _Clearing:
    """The keys to delete, and how far the server has looked for them."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.cursor = 0


_Item: TypeAlias = "_Pending | _Clearing | None"


def checked_url(url: Any) -> str:
    """The URL of a store in the form that redis-py reads.

    Raises:
        ConfigurationError: it is not the URL of a store. The message does not quote it, as it may
            contain a password.
    """
    scheme, separator, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    if not separator or not rest or scheme not in _SCHEMES:
        raise ConfigurationError(
            "fleet is not the URL of a store",
            hint="use valkey://host:6379/0, valkeys:// or rediss:// for TLS, or unix:///path",
        )
    return f"{_SCHEMES[scheme]}://{rest}"


def connect(url: str) -> redis.Redis:
    """A client for the store at `url`. It connects with the first command, and never retries.

    Raises:
        ConfigurationError: `url` is not the URL of a store.
        MissingDependencyError: redis-py is not installed.
    """
    address = checked_url(url)
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise MissingDependencyError(
            "a fleet needs the package redis",
            hint='install it with pip install "agentkit-llms[fleet]"',
        ) from error
    try:
        return redis.Redis.from_url(
            address,
            protocol=2,
            driver_info=None,  # else each connection takes two more round trips
            socket_timeout=PATIENCE,
            socket_connect_timeout=HEARTBEAT,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
    except ValueError:  # without its text, which may quote a password
        raise ConfigurationError(
            "fleet is not a valid URL of a store",
            hint="use valkey://host:6379/0; quote special characters of the password (%40)",
        ) from None


class ValkeyFleet:
    """The processes that share a Valkey (8 or newer) or Redis (7 or newer) server; a `Fleet`.

    The connection is made in the background. The first questions wait for it, at most 250 ms.
    A question costs one round trip. If the store is silent for 100 ms, refuses, is full, read-only
    or slower than 50 ms ten times in a row, questions get None immediately until it works again.

    Args:
        url: ``valkey://[user:password@]host[:port][/db]``, or one with the scheme ``redis``,
            ``valkeys`` or ``rediss`` (TLS), or ``unix``.
        name: part of the names of its threads.

    Raises:
        ConfigurationError: `url` is not the URL of a store.
        MissingDependencyError: redis-py is not installed.
    """

    def __init__(self, url: str, *, name: str = "default") -> None:
        self._url = url
        connect(url)  # so that a wrong URL or a missing package is noticed here
        self._name = name
        self._lock = fork_safe_lock()
        self._faults: Counter[str] = Counter()
        self._asked = self._alone = 0
        self._warned = float("-inf")
        self._process = secrets.token_hex(8)
        self._state: State = "idle"
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._leads: dict[Question, None] = {}
        self._cleared: dict[str, _Clearing] = {}
        self._inbox = Inbox()
        self._thread: threading.Thread | None = None
        self._processes = 0
        self._beat_at = 0.0
        self._slow = 0
        on_fork(self._leave_to_parent)
        self._start()

    @property
    def process(self) -> str:
        """The name of this process in the fleet: random, and another one in a forked child."""
        return self._process

    @property
    def state(self) -> State:
        """``up`` if questions are answered."""
        return self._state

    def ask(self, question: Question) -> Any:
        """The reply, or None."""
        done = ThreadWakeup()
        pending = self._submit(question, done)
        if pending is not None and not done.wait(LONGEST_WAIT):
            pending.abandoned = True
        return self._reply_of(pending)

    async def aask(self, question: Question) -> Any:
        """Like `ask`, for asyncio."""
        done = Wakeup()
        pending = self._submit(question, done)
        if pending is not None:
            try:
                if not await done.wait(LONGEST_WAIT):
                    pending.abandoned = True
            except BaseException:
                pending.abandoned = True
                self._take_back(pending)  # a reply may have come before
                raise
        return self._reply_of(pending)

    def post(self, question: Question) -> None:
        """Ask without waiting for the reply."""
        self._submit(question, None)

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

    def clear(self, prefix: str) -> None:
        """Delete every key that starts with `prefix`, in the background."""
        with self._lock:
            self._cleared[prefix] = _Clearing(prefix)
        self._queue.put(None)

    def statistics(self) -> dict[str, Any]:
        """The state of the connection, and counters since the start.

        Keys: ``state``, ``process``, ``processes`` (live ones in the fleet, this one included; 0 if
        unknown), ``questions`` (asked), ``alone`` (those without a reply), ``faults`` (by kind) and
        ``leads`` (shared calls that this process leads now).
        """
        with self._lock:
            return {
                "state": self._state,
                "process": self._process,
                "processes": self._processes if self._state == "up" else 0,
                "questions": self._asked,
                "alone": self._alone,
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
        self._leads, self._cleared = {}, {}
        self._inbox = Inbox()
        self._thread = None
        self._slow = 0

    def _submit(self, question: Question, done: _Waiter | None) -> _Pending | None:
        if self._state == "idle":
            self._start()
        self._asked += 1
        if self._state not in ("up", "connecting") or self._queue.qsize() >= _WAITING:
            return None
        pending = _Pending(question, done)
        self._queue.put(pending)
        return pending

    def _reply_of(self, pending: _Pending | None) -> Any:
        reply = None if pending is None else pending.reply
        if reply is None:
            self._alone += 1
        return reply

    def _take_back(self, pending: _Pending) -> None:
        """Release what a reply granted to a caller that no longer waited for it."""
        question = pending.question
        if question.function == "shared_claim" and pending.reply is not None:
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
        client: redis.Redis | None = None
        while self._state != "closed":
            if client is None:
                client = self._connect()
                if client is None:
                    self._refuse(until=time.monotonic() + HEARTBEAT)
                    continue
            if not self._serve(client, self._beat_at - time.monotonic()):
                self._disconnect(client)
                client = None
        if client is not None:
            self._send_rest(client)
            self._disconnect(client)

    def _connect(self) -> redis.Redis | None:
        """A client that works, with an inbox that hears. None: the store is lost."""
        from redis.client import PubSub

        client = connect(self._url)
        try:
            heard = PubSub(client.connection_pool, ignore_subscribe_messages=True)
            heard.subscribe(questions.inbox_of(self._process))
            heard.get_message(timeout=PATIENCE)
            for _ in range(2):
                begun = time.monotonic()
                if not self._beat(client):
                    return None
                if self._state == "down" and time.monotonic() - begun > SLOW:
                    return None
        except Exception as error:  # noqa: BLE001  (whatever the client raises is a lost store)
            self._note_fault(error)
            return None
        self._inbox.listen(heard, name=f"agentkit-{self._name}-fleet-inbox", lost=self._wake)
        if self._state == "down":
            log.warning("fleet: the store is back")
        with self._lock:
            if self._state != "closed":
                self._state = "up"
        self._slow = 0
        return client

    def _wake(self) -> None:
        self._queue.put(None)

    def _serve(self, client: redis.Redis, wait: float) -> bool:
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
        if batch and not self._answer(client, batch):
            return False
        if not self._inbox.is_listening:
            self._note_fault(ConnectionError("the inbox lost its connection"))
            return False
        if time.monotonic() >= self._beat_at and not self._beat(client):
            return False
        return self._clear_step(client)

    def _answer(self, client: redis.Redis, batch: list[_Pending]) -> bool:
        begun = time.monotonic()
        try:
            replies = self._execute(client, [each.question for each in batch])
        except Exception as error:  # noqa: BLE001  (whatever the client raises is a lost store)
            self._note_fault(error)
            for each in batch:
                each.answer(None)
            return False
        healthy = True
        for pending, reply in zip(batch, replies, strict=True):
            if isinstance(reply, Exception):
                if healthy:
                    self._note_fault(reply)
                healthy, reply = False, None  # noqa: PLW2901  (an error is not a reply)
            pending.answer(reply)
            if pending.abandoned and pending.done is not None:
                self._take_back(pending)
        self._slow = self._slow + 1 if time.monotonic() - begun > SLOW else 0
        if self._slow >= SLOW_IN_A_ROW:
            self._note_fault(TimeoutError("the store is slow"))
            healthy = False
        return healthy

    def _execute(self, client: redis.Redis, asked: list[Question]) -> list[Any]:
        """The reply to each question, or the exception instead of it."""
        replies = _pipelined(client, [command(each) for each in asked])
        unknown = [i for i, reply in enumerate(replies) if _is_unknown_script(reply)]
        if unknown:
            texts = [command(asked[i], by_digest=False) for i in unknown]
            for i, reply in zip(unknown, _pipelined(client, texts), strict=True):
                replies[i] = reply
        return replies

    def _beat(self, client: redis.Redis) -> bool:
        """Say that this process lives, and renew what it leads."""
        with self._lock:
            leads = list(self._leads)
        self._beat_at = time.monotonic() + HEARTBEAT
        try:
            alive, *_ = self._execute(client, [questions.beat(self._process), *leads])
        except Exception as error:  # noqa: BLE001  (whatever the client raises is a lost store)
            alive = error
        if isinstance(alive, Exception):
            self._note_fault(alive)
            return False
        self._processes = alive[0]
        return True

    def _clear_step(self, client: redis.Redis) -> bool:
        """Delete some of the keys that are to be cleared, and wake this thread for the others."""
        with self._lock:
            clearing = next(iter(self._cleared.values()), None)
        if clearing is None:
            return True
        try:
            cursor, keys = client.scan(clearing.cursor, match=f"{clearing.prefix}*", count=_CLEARED)
            if keys:
                client.unlink(*keys)
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
                item.answer(None)

    def _disconnect(self, client: redis.Redis) -> None:
        self._inbox.stop()
        try:
            client.close()
            client.connection_pool.disconnect()
        except Exception as error:  # noqa: BLE001  (it is given up in any case)
            log.debug("fleet: closing the connection failed: %s", type(error).__name__)
        for each in self._drain():
            each.answer(None)

    def _send_rest(self, client: redis.Redis) -> None:
        """Send what was posted, and that this process ends."""
        rest = [each.question for each in self._drain() if each.done is None]
        try:
            self._execute(client, [*rest, questions.leave(self._process)])
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


def _pipelined(client: redis.Redis, commands: list[tuple[Any, ...]]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    execute: Callable[..., Any] = pipe.execute_command
    for each in commands:
        execute(*each)
    replies: list[Any] = pipe.execute(raise_on_error=False)
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
