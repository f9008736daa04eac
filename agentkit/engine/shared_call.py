"""Identical calls in flight share one upstream call.

A `Flight` is what one leader does for everybody: it collects the events of a stream, or just the
one answer, and wakes those who wait. It knows no thread and no loop; waiting is a `Sleep` until the
flight moves, so callers of both colours can wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.engine.effects import Running
from agentkit.types import Response, StreamEvent

LED: ContextVar[frozenset[str]] = ContextVar("agentkit_flights_led", default=frozenset())
"""Keys of the flights that the current context is inside of."""


class Flight:
    """One upstream call and those who wait for it. A `Signal` that fires at every movement."""

    def __init__(self, key: str, flights: Flights, home: int | None) -> None:
        self.key = key
        self.home = home
        """Ident of the thread whose event loop runs it; None for a blocking leader."""
        self.events: list[StreamEvent] = []
        self.response: Response[Any] | None = None
        self.error: Exception | None = None
        self.abandoned = False
        self.running: Running | None = None
        self._flights = flights
        self._passengers = 1
        self._wakes: list[Callable[[], None]] = []
        self._lock = fork_safe_lock()

    @property
    def landed(self) -> bool:
        """Whether it is over, one way or another."""
        return self.response is not None or self.error is not None or self.abandoned

    def board(self) -> bool:
        """Wait for this flight too; False when it is already over or empty."""
        with self._lock:
            if self.landed or self._passengers == 0:
                return False
            self._passengers += 1
            return True

    def leave(self) -> None:
        """One caller waits no longer; the last one stops a flight that is still under way."""
        with self._lock:
            self._passengers -= 1
            empty = self._passengers == 0 and not self.landed
            running = self.running
        if empty:
            self._flights.forget(self)
            if running is not None:
                running.cancel()

    def put(self, event: StreamEvent) -> None:
        """The leader has the next event of the stream."""
        self.events.append(event)
        self._fire()

    def land(self, response: Response[Any] | None, error: Exception | None) -> None:
        """The leader is through; both None: it gave up, and somebody else has to lead."""
        if self.landed:
            return
        self.response, self.error = response, error
        self.abandoned = response is None and error is None
        self._flights.forget(self)
        self._fire()

    def lost(self) -> bool:
        """Whether nobody will ever land it, because its event loop is gone."""
        return not self.landed and self.running is not None and not self.running.alive()

    def beyond(self, seen: int) -> Beyond:
        """A signal for "more than `seen` events, or over"."""
        return Beyond(self, seen)

    def _fire(self) -> None:
        with self._lock:
            wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()


class Beyond:
    """Fires when a flight has more than `seen` events or is over."""

    __slots__ = ("_flight", "_seen")

    def __init__(self, flight: Flight, seen: int) -> None:
        self._flight = flight
        self._seen = seen

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` once, at once when it already happened."""
        flight = self._flight
        with flight._lock:
            if not flight.landed and len(flight.events) <= self._seen:
                flight._wakes.append(wake)
                return
        wake()

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Forget `wake`."""
        with self._flight._lock:
            if wake in self._flight._wakes:
                self._flight._wakes.remove(wake)


class Flights:
    """The flights of one manager, by key."""

    def __init__(self) -> None:
        self._by_key: dict[str, Flight] = {}
        self._lock = fork_safe_lock()
        on_fork(self._leave_to_parent)

    def join(self, key: str, *, thread: int, blocking: bool) -> tuple[Flight, bool] | None:
        """The flight for `key` and whether the caller leads it; None: go alone.

        A caller goes alone when it is inside that very flight, or when it would block the thread
        whose event loop has to land it.
        """
        if key in LED.get():
            return None
        with self._lock:
            flight = self._by_key.get(key)
            if flight is not None and not flight.lost():
                if blocking and flight.home == thread:
                    return None
                if flight.board():
                    return flight, False
            flight = Flight(key, self, None if blocking else thread)
            self._by_key[key] = flight
            return flight, True

    def forget(self, flight: Flight) -> None:
        """Take `flight` off the board; a later caller starts afresh."""
        with self._lock:
            if self._by_key.get(flight.key) is flight:
                del self._by_key[flight.key]

    def _leave_to_parent(self) -> None:
        """In a forked child: the calls under way are the parent's."""
        self._by_key = {}

    def __len__(self) -> int:
        return len(self._by_key)
