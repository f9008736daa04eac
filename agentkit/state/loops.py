"""The lines that event loops have of their own, so that a question needs no other thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Final

from agentkit._fork import fork_safe_lock
from agentkit.engine.drivers.clock import Wakeup
from agentkit.state.line import Line, Node, Pending

log = logging.getLogger("agentkit.fleet")

FIRST: Final = 4
"""How many questions of a loop go over the lines of threads before it gets lines of its own."""

Lines = Mapping[Node, Line]


class Alarm:
    """Ends those waits of an event loop that take too long: all of them have the same time.

    So one timer is enough, which is set to the end of the first wait. A timer for each question
    takes longer than to send it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.loop = loop
        self._seconds = seconds
        self._waits: dict[Wakeup, float] = {}
        """With the time at which each of them ends, in that order."""
        self._is_set = False

    def add(self, wait: Wakeup) -> None:
        """Wake `wait` when its time is up."""
        self._waits[wait] = self.loop.time() + self._seconds
        if not self._is_set:
            self._is_set = True
            self.loop.call_later(self._seconds, self._ring)

    def remove(self, wait: Wakeup) -> None:
        """Forget `wait`."""
        self._waits.pop(wait, None)

    def _ring(self) -> None:
        now = self.loop.time()
        for wait, due in tuple(self._waits.items()):
            if due > now:
                self.loop.call_at(due, self._ring)
                return
            self.remove(wait)
            wait.set()
        self._is_set = False


class Loops:
    """The event loops that ask, and the lines that each of them reads.

    They are opened by a thread, in the background. Until then, and where a loop cannot watch
    sockets (that of Windows), its questions go over the lines of threads.

    Args:
        open_lines: connects to all servers.
        name: of the threads.
    """

    def __init__(self, open_lines: Callable[[], Lines], *, name: str) -> None:
        self._open_lines, self._name = open_lines, name
        self._lock = fork_safe_lock()
        self._asked: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int]
        self._asked = weakref.WeakKeyDictionary()
        self._lines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Lines]
        self._lines = weakref.WeakKeyDictionary()
        self._owners: dict[Line, weakref.ref[asyncio.AbstractEventLoop]] = {}
        """Every open line."""
        self._latest: tuple[Callable[[], asyncio.AbstractEventLoop | None], Lines | None]
        self._latest = _nothing, None
        """The loop that asked last, with its lines: most processes have one."""
        self._closed = False

    def lines_of(self, loop: asyncio.AbstractEventLoop) -> Lines | None:
        """The lines of the running loop, as soon as it has some."""
        latest, lines = self._latest
        if latest() is loop:
            return lines
        lines = self._lines.get(loop)
        if lines is not None:
            self._latest = weakref.ref(loop), lines
        else:
            count = self._asked[loop] = self._asked.get(loop, 0) + 1
            if count == FIRST:
                self._start(loop)
        return lines

    @property
    def all_lines(self) -> list[Line]:
        """Those of all loops."""
        return list(self._owners)

    def sweep(self) -> None:
        """Close the lines of loops that are closed, unless a question still waits for its reply."""
        for line, owner in tuple(self._owners.items()):
            loop = owner()
            if (loop is None or loop.is_closed()) and not line.load:
                self._owners.pop(line, None)
                line.release()

    def close(self, error: Exception) -> list[Pending]:
        """Close all of them; the questions without a reply."""
        with self._lock:
            self._closed = True
        left: list[Pending] = []
        for line in tuple(self._owners):
            left += line.shut(error)
        self._owners.clear()
        return left

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        connect = threading.Thread(
            target=self._connect, args=(loop,), name=f"{self._name}-connect", daemon=True
        )
        try:
            connect.start()
        except RuntimeError:  # the interpreter shuts down, or there are too many threads
            log.debug("fleet: an event loop goes without a connection of its own")

    def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            lines = self._open_lines()
        except Exception as error:  # noqa: BLE001  (the lines of threads show whether it is lost)
            log.debug("fleet: no connection for an event loop: %s", type(error).__name__)
            return
        with self._lock:
            closed = self._closed
            if not closed:
                self._owners.update(dict.fromkeys(lines.values(), weakref.ref(loop)))
        try:
            if not closed:
                loop.call_soon_threadsafe(self._attach, loop, lines)
                return
        except RuntimeError:  # the loop is closed
            log.debug("fleet: an event loop ended before it had a connection")
        self._discard(lines)

    def _attach(self, loop: asyncio.AbstractEventLoop, lines: Lines) -> None:
        if any(each.is_broken for each in lines.values()):
            return
        try:
            for each in lines.values():
                each.attach(loop)
        except NotImplementedError:
            self._discard(lines)
            lines = {}
        self._lines[loop] = lines

    def _discard(self, lines: Lines) -> None:
        for each in lines.values():
            self._owners.pop(each, None)
            each.close()


def _nothing() -> None:
    """Like a weak reference to what is gone."""
