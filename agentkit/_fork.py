"""Fork safety, in one place.

Only the thread that forks exists in the child. A lock that another thread held at that moment would
stay locked for ever, and the parent's threads, event loops and connections are not the child's. So
every lock of the package is made by `fork_safe_lock`, and every object that holds more than values
registers with `on_fork` how it starts anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

_locks: WeakSet[Any] = WeakSet()
_resets: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def fork_safe_lock() -> Lock:
    """A `threading.Lock` that is free in a forked child."""
    lock = Lock()
    _locks.add(lock)
    return lock


def fork_safe_rlock() -> RLock:
    """A `threading.RLock` that is free in a forked child."""
    lock = RLock()
    _locks.add(lock)
    return lock


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
