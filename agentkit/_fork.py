"""The locks of the package, and what happens to them and to other state at a fork.

**Re-entry.** The garbage collector and signal handlers run between any two steps of a thread, also
while it holds a lock: a collected stream settles its attempt, a handler asks for metrics. They run
the code of this package again in the same thread, which would wait for itself. Therefore:

- Every lock is made by `fork_safe_lock`, and a thread that holds it may take it again.
- A lock is only taken by ``with``, which Ctrl-C cannot separate from its release.
- State is complete before each call that is made under a lock, so that a step in the middle of
  another one finds and leaves it in order. A step for which that is impossible puts its change into
  a queue if the lock `is_held` already; the step it interrupted makes the change as it leaves.
- Callbacks and everything else of the user are called without a lock, and what wakes a waiting
  thread takes no lock either.

**Fork.** Only the thread that forks exists in the child. A lock that another thread held at that
moment would stay locked for ever, and the parent's threads, event loops and connections are not the
child's. Therefore locks are free in the child, and every object that holds more than values
registers with `on_fork` how it starts anew. Locks inside of a C library cannot be freed like that:
its callers enter a `ForkGate`, and a fork waits until no other thread is inside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from threading import Event, Lock, RLock, get_ident
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

_locks: WeakSet[Any] = WeakSet()
_resets: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def fork_safe_lock() -> RLock:
    """A re-entrant lock that is free in a forked child."""
    lock = RLock()
    _locks.add(lock)
    return lock


def is_held(lock: RLock) -> bool:
    """Whether the running thread holds `lock`."""
    held: bool = lock._is_owned()  # type: ignore[attr-defined]  # as `threading.Condition` asks
    return held


def on_fork(reset: Callable[[], None]) -> None:
    """Call the bound method `reset` in each forked child, as long as its object lives.

    An object has one reset. It runs once every lock is free, and must not raise.
    """
    method: Any = reset
    _resets[method.__self__] = method.__func__


class WakeSignal:
    """Wakes one thread that waits, or the next one that does.

    Unlike those of `threading.Event`, its methods may interrupt each other in the same thread. It
    is not a `SimpleQueue`, whose `get` waits for ever, up to Python 3.12, if a signal handler
    outlasts the timeout. Its lock belongs to no thread, so that a child has nothing to free.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the thread."""
        try:  # noqa: SIM105 - `suppress` takes longer than the rest
            self._lock.release()
        except RuntimeError:  # it is set
            pass

    def wait(self, seconds: float | None) -> bool:
        """Wait until it is set, at most `seconds`, and reset it. Returns whether it was set."""
        return self._lock.acquire(timeout=-1 if seconds is None else seconds)


class ForkGate:
    """Entered by ``with`` around calls that a fork must not interrupt, by any number of threads.

    A fork waits until no other thread is inside, for at most `patience` seconds.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._lock = fork_safe_lock()
        self._inside: list[int] = []
        _gates.add(self)

    def __enter__(self) -> None:
        own = get_ident()
        if own in self._inside:  # a signal handler in it: a fork that waits for it keeps the lock
            self._inside.append(own)
            return
        with self._lock:
            self._inside.append(own)

    def __exit__(self, *_: object) -> None:
        self._inside.remove(get_ident())

    def close(self) -> None:
        """Let no thread in, and wait for those inside. Called before a fork."""
        until = time.monotonic() + self._patience
        if not self._lock.acquire(timeout=self._patience):
            return
        pause = Event()
        while self._others() and time.monotonic() < until:
            pause.wait(0.0005)

    def open(self) -> None:
        """Let threads in again. Called in the parent after a fork."""
        if is_held(self._lock):
            self._lock.release()

    def forget_others(self) -> None:
        """Called in the child: the parent's other threads are not inside here."""
        self._inside = [each for each in self._inside if each == get_ident()]

    def _others(self) -> bool:
        return any(each != get_ident() for each in self._inside)


_gates: WeakSet[ForkGate] = WeakSet()


def _before_fork() -> None:
    for gate in list(_gates):
        gate.close()


def _after_fork_in_parent() -> None:
    for gate in list(_gates):
        gate.open()


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # as `logging` does: a release cannot repair a half-taken lock
    for gate in list(_gates):
        gate.forget_others()
    for owner, reset in list(_resets.items()):
        reset(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
