"""Single-flight: identical requests share one upstream call.

One caller leads a `SharedCall`, the others follow it. It collects the response, and the events of a
stream, and wakes the followers. A follower waits by a `Sleep` until there is progress, so that sync
and async callers can follow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from threading import RLock
from typing import Any

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.engine.effects import Running
from agentkit.types import Response, StreamEvent
from agentkit.types.fleet import Claim

LED: ContextVar[frozenset[str]] = ContextVar("agentkit_shared_calls_led", default=frozenset())
"""Keys of the shared calls that the current context is leading."""

LIVENESS_CHECK = 1.0
"""Seconds after which a follower checks whether its shared call can still end."""

AHEAD = 1000
"""The most events that a shared stream is read ahead of its fastest consumer."""
TOGETHER = 8
"""The most events that a consumer takes at once: what it has taken counts as consumed."""


class SharedCall:
    """One upstream call, its leader and its followers."""

    def __init__(self, key: str, calls: SharedCalls, home: int | None, lock: RLock) -> None:
        self.key = key
        self.home = home
        """Identifier of the thread whose event loop runs it; None for a sync leader."""
        self.events: list[StreamEvent] = []
        self.response: Response[Any] | None = None
        self.error: Exception | None = None
        self.abandoned = False
        self.retry: object = None
        """The retry policy of the leader's own request."""
        self.budgets: tuple[object, ...] = ()
        """The budgets of the leader."""
        self.out_of_time = False
        """Whether the error came from the time that the leader had left."""
        self.taken = 0
        """The number of events that the fastest consumer has taken."""
        self._resume: Callable[[], None] | None = None
        self.running: Running | None = None
        self.claim: Claim | None = None
        """The claim of the leader, until `take_claim`. It ends with this call."""
        self._calls = calls
        self._callers = 1
        self._wakes: list[Callable[[], None]] = []
        self._lock = lock

    @property
    def over(self) -> bool:
        """Whether it has a response or an error, or was abandoned."""
        return self.response is not None or self.error is not None or self.abandoned

    def add_follower(self) -> bool:
        """Add a caller. Returns False if the call is over, or has no caller left.

        The lock of all shared calls must be held.
        """
        if self.over or self._callers == 0:
            return False
        self._callers += 1
        return True

    def leave(self) -> None:
        """Stop following or leading this call. If no caller is left, it is cancelled."""
        with self._lock:
            self._callers -= 1
            empty = self._callers == 0 and not self.over
            running = self.running
        if empty:
            self._calls.forget(self)
            if running is not None:
                running.cancel()
            self._end_claim()
            if (resume := self._resume) is not None:
                resume()

    def put(self, events: Sequence[StreamEvent]) -> None:
        """Add the next events of the stream."""
        self.events.extend(events)
        self._fire()

    def take(self, seen: int) -> Sequence[StreamEvent]:
        """The next events after the first `seen`. A leader that was too far ahead may read on."""
        events = self.events[seen : seen + TOGETHER]
        count = seen + len(events)
        if count > self.taken:
            self.taken = count
            resume = self._resume
            if resume is not None and self.has_room():
                resume()
        return events

    def is_full(self) -> bool:
        """Whether the leader is so far ahead of the fastest consumer that it must wait."""
        return len(self.events) - self.taken >= AHEAD

    def has_room(self) -> bool:
        """Whether a leader that waited may read on."""
        return len(self.events) - self.taken <= AHEAD // 2

    def finish(self, response: Response[Any] | None, error: Exception | None) -> None:
        """End it. With neither response nor error it is abandoned, and a follower has to lead."""
        if self.over:
            return
        self.response, self.error = response, error
        self.abandoned = response is None and error is None
        self._calls.forget(self)
        self._end_claim()
        self._fire()

    def take_claim(self) -> Claim | None:
        """The claim of the leader, once: whoever takes it closes it."""
        with self._lock:
            claim, self.claim = self.claim, None
        return claim

    def _end_claim(self) -> None:
        if self.claim is not None and (claim := self.take_claim()) is not None:
            claim.close(None)

    def lost(self) -> bool:
        """Whether it can never end, because its event loop is gone."""
        return not self.over and self.running is not None and not self.running.alive()

    def beyond(self, seen: int) -> Progress:
        """A signal that fires when there are more than `seen` events, or the call is over."""
        return Progress(self, seen)

    def subscribe(self, seen: int, wake: Callable[[], None]) -> None:
        """Call `wake` when there are more than `seen` events, or the call is over."""
        self._wakes.append(wake)  # first, or what happens in between would wake nothing
        if self.over or len(self.events) > seen:
            wake()

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Forget `wake`."""
        with self._lock:
            if wake in self._wakes:
                self._wakes.remove(wake)

    def _fire(self) -> None:
        with self._lock:
            wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()


class Progress:
    """A `Signal` that fires when a shared call has more than `seen` events, or is over."""

    __slots__ = ("_seen", "_shared")

    def __init__(self, shared: SharedCall, seen: int) -> None:
        self._shared = shared
        self._seen = seen

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` when it fires, or now if it has fired already."""
        self._shared.subscribe(self._seen, wake)

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Forget `wake`."""
        self._shared.unsubscribe(wake)


class Room:
    """A `Signal` for the leader of a shared stream: the fastest consumer has caught up."""

    __slots__ = ("_shared",)

    def __init__(self, shared: SharedCall) -> None:
        self._shared = shared

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` once there is room, immediately if there is some now."""
        self._shared._resume = wake
        if self._shared.has_room():
            wake()

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Forget `wake`."""
        self._shared._resume = None


class SharedCalls:
    """The shared calls of one manager, by key."""

    def __init__(self) -> None:
        self._by_key: dict[str, SharedCall] = {}
        self._lock = fork_safe_lock()
        on_fork(self._leave_to_parent)

    def join(self, key: str, *, thread: int, blocking: bool) -> tuple[SharedCall, bool] | None:
        """The shared call for `key`, and whether the caller leads it. None: do not share.

        A caller must not share a call that it is part of, or one that needs the event loop of the
        thread that the caller would block.
        """
        if key in LED.get():
            return None
        with self._lock:
            shared = self._by_key.get(key)
            if shared is not None and not shared.lost():
                if blocking and shared.home == thread:
                    return None
                if shared.add_follower():
                    return shared, False
            shared = SharedCall(key, self, None if blocking else thread, self._lock)
            self._by_key[key] = shared
            return shared, True

    def forget(self, shared: SharedCall) -> None:
        """Remove `shared`. The next caller with its key starts a new one."""
        with self._lock:
            if self._by_key.get(shared.key) is shared:
                del self._by_key[shared.key]

    def _leave_to_parent(self) -> None:
        """In a forked child: the calls under way belong to the parent."""
        self._by_key = {}

    def __len__(self) -> int:
        return len(self._by_key)
