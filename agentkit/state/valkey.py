"""Shared state in Valkey or Redis: the fleet as the engine sees it."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from agentkit._fork import WakeSignal, on_fork
from agentkit.engine.drivers.clock import Wakeup
from agentkit.state.address import PATIENCE, connect, parse_address
from agentkit.state.agenda import Agenda
from agentkit.state.connection import Connection, State
from agentkit.state.keeper import Keeper
from agentkit.state.line import Pending, wait_for
from agentkit.state.loops import Alarm
from agentkit.state.questions import LONGEST_WAIT
from agentkit.types.fleet import Hear, MakeQuestions, Question, Receive

SOON: Final = 0.01
"""Seconds for which questions that can wait are collected."""


class ValkeyFleet:
    """The processes that share a Valkey (8 or newer) or Redis (7 or newer) server; a `Fleet`.

    The connection is made in the background. The first questions wait for it, at most 250 ms.
    A question costs one round trip. If the store is silent for 100 ms, refuses, is full, read-only
    or slower than 50 ms ten times in a row, questions get None immediately until it works again.

    Args:
        url: where the store is, in one of the forms that `docs/how-to/fleet.md` lists.
        name: part of the names of its threads.
        source: where `url` was found, for the error if it is wrong.

    Raises:
        ConfigurationError: `url` is not the URL of a store.
        MissingDependencyError: redis-py is not installed.
    """

    def __init__(self, url: str, *, name: str = "default", source: str = "fleet") -> None:
        connect(url, source=source)  # so that a wrong URL or a missing package is noticed here
        self.is_cluster = parse_address(url).kind == "cluster"
        self._connection, self._agenda = Connection(), Agenda()
        self._keeper = Keeper(url, self._connection, self._agenda, name=f"agentkit-{name}-fleet")
        self._alarm: Alarm | None = None
        """That of the loop that asked last."""
        on_fork(self._leave_to_parent)
        self._keeper.start()

    @property
    def process(self) -> str:
        """The name of this process in the fleet: random, and another one in a forked child."""
        return self._connection.process

    @property
    def processes(self) -> int:
        """Live processes of the fleet when they were last counted, at least 1."""
        return max(self._keeper.processes, 1)

    @property
    def session(self) -> int:
        """Grows whenever questions or replies may have been lost."""
        return self._connection.session

    @property
    def is_up(self) -> bool:
        """See `Fleet`."""
        return self._connection.state == "up"

    @property
    def lost_for(self) -> float:
        """See `Fleet`."""
        connection = self._connection
        return time.monotonic() - connection.lost_at if connection.state == "down" else 0.0

    @property
    def mark(self) -> int:
        """See `Fleet`."""
        return self._keeper.mark

    @property
    def state(self) -> State:
        """``up`` if questions are answered."""
        return self._connection.state

    def ask(self, question: Question) -> Any:
        """The reply, or None."""
        connection, pending = self._begun(), Pending(question, signal=WakeSignal())
        if connection.submit(pending):
            try:
                wait_for(pending, LONGEST_WAIT)
            finally:
                connection.abandon(pending)
        return connection.reply_of(pending)

    async def aask(self, question: Question) -> Any:
        """Like `ask`, for asyncio."""
        connection, loop = self._begun(), asyncio.get_running_loop()
        alarm, done = self._alarm, Wakeup()
        pending = Pending(question, wake=done.set)
        if connection.submit(pending, loop):
            if alarm is None or alarm.loop is not loop:
                alarm = self._alarm = Alarm(loop, LONGEST_WAIT)
            alarm.add(done)
            try:
                await done.wait(None)
            except BaseException:
                connection.abandon(pending)
                connection.take_back(question, pending.reply)  # it may have come before
                raise
            finally:
                alarm.remove(done)
            connection.abandon(pending)
        return connection.reply_of(pending)

    def post(self, question: Question, hear: Hear | None = None) -> None:
        """Ask without waiting; `hear` gets the reply, or None, on any thread."""
        self._begun().post(question, hear)

    def catch_up(self) -> None:
        """Read the replies to what was posted, on this thread, which is about to wait for them."""
        store = self._connection.store
        if store is not None and self.is_up:
            store.read_newest(PATIENCE)

    def subscribe(self, topic: str, receive: Receive) -> None:
        """Call `receive` with each message about `topic`, on the thread of the inbox."""
        self._keeper.inbox.subscribe(topic, receive)

    def unsubscribe(self, topic: str, receive: Receive) -> None:
        """Forget `receive`."""
        self._keeper.inbox.unsubscribe(topic, receive)

    def lead(self, question: Question, release: Question) -> None:
        """Ask `question` with each heartbeat, and `release` when this process says goodbye."""
        self._agenda.lead(question, release)

    def stop_leading(self, question: Question) -> None:
        """Forget `question`."""
        self._agenda.stop_leading(question)

    def soon(self, make: MakeQuestions, seconds: float = SOON) -> None:
        """After `seconds`, ask what `make` returns; once, however often it is called until then."""
        if self.is_up and self._agenda.soon(make, time.monotonic() + seconds):
            self._connection.signal.set()

    def at_heartbeat(self, make: MakeQuestions) -> None:
        """With each heartbeat, ask what `make` returns."""
        self._agenda.at_heartbeat(make)

    def stop_at_heartbeat(self, make: MakeQuestions) -> None:
        """Forget `make`."""
        self._agenda.stop_at_heartbeat(make)

    def clear(self, prefix: str) -> None:
        """Delete every key that starts with `prefix`, in the background."""
        self._connection.purge.add(prefix)
        self._connection.signal.set()

    def statistics(self) -> dict[str, Any]:
        """The state of the connection, and counters since the start.

        Keys: ``state``, ``process``, ``processes`` (live ones in the fleet, this one included; 0 if
        unknown), ``questions`` (asked), ``alone`` (those without a reply), ``round_trips`` and
        ``round_trip_seconds`` (how often and how long the store was asked), ``faults`` (by kind)
        and ``leads`` (shared calls that this process leads now).
        """
        found = self._connection.statistics()
        return {
            "state": found.pop("state"),
            "process": found.pop("process"),
            "processes": self._keeper.processes if self.is_up else 0,
            **found,
            "leads": len(self._agenda.leads),
        }

    def close(self, timeout: float = 0.5) -> None:
        """Send what was posted, for at most `timeout` seconds, and end the threads."""
        if self._connection.close():
            self._keeper.join(timeout)

    def _begun(self) -> Connection:
        """The connection, which a forked child has to make anew."""
        if self._connection.state == "idle":
            self._keeper.start()
        return self._connection

    def _leave_to_parent(self) -> None:
        """In a forked child: the connections, the threads and what was asked are the parent's."""
        self._connection.leave_to_parent()
        self._agenda.leave_to_parent()
        self._keeper.leave_to_parent()

    def __repr__(self) -> str:
        return f"<ValkeyFleet {self.state}, {self._keeper.processes} processes>"
