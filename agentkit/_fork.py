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
registers with `on_fork` how it starts anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import RLock
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


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # as `logging` does: a release cannot repair a half-taken lock
    for owner, reset in list(_resets.items()):
        reset(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
