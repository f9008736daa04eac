"""Tells listeners what a circuit breaker did, outside its lock and whatever they raise."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from agentkit._fork import fork_safe_lock

if TYPE_CHECKING:
    import pybreaker

    from agentkit.policy.breaker.circuit import Circuit

OnChange: TypeAlias = Callable[[str, str, str], object]
Listener: TypeAlias = "OnChange | pybreaker.CircuitBreakerListener"

log = logging.getLogger("agentkit.breaker")


def listens(candidate: object) -> bool:
    """Whether `candidate` is a pybreaker listener (anything with a `state_change` method)."""
    return callable(getattr(candidate, "state_change", None))


class Announcer:
    """Delivers changes to every listener in the order in which they happened.

    Whoever finds the queue unattended delivers it; a listener that moves the breaker itself hears
    of that after it has returned.
    """

    __slots__ = ("_attending", "_circuit", "_on_change", "_queue", "_reported", "listeners")

    def __init__(
        self, circuit: Circuit, listeners: Iterable[Any], on_change: OnChange | None
    ) -> None:
        everyone = [*listeners] if on_change is None else [on_change, *listeners]
        self._circuit = circuit
        self._on_change = [one for one in everyone if not listens(one)]
        self.listeners = [one for one in everyone if listens(one)]
        """Those that hear of each outcome as well."""
        self._queue: deque[tuple[Any, Any]] = deque()
        self._attending = fork_safe_lock()
        self._reported: set[int] = set()

    def add(self, on_change: OnChange) -> None:
        """Call `on_change` at every transition from now on; once, however often it is added."""
        if on_change not in self._on_change:
            self._on_change.append(on_change)

    def success(self) -> None:
        """A call succeeded."""
        for listener in self.listeners:
            self._tell(listener, "success", self._circuit)

    def failure(self, error: BaseException) -> None:
        """A call failed with `error`."""
        for listener in self.listeners:
            self._tell(listener, "failure", self._circuit, error)

    def post(self, previous: pybreaker.CBStateType, state: pybreaker.CBStateType) -> None:
        """The circuit moved. Tells nobody yet, so it may be called under a lock."""
        self._queue.append((previous, state))

    def deliver(self) -> None:
        """Tell what was posted. Returns at once while another thread, or a caller, does so."""
        while self._queue and self._attending.acquire(blocking=False):
            try:
                while self._queue:
                    self._change(*self._queue.popleft())
            finally:
                self._attending.release()

    def wake(self, sleepers: Iterable[Callable[[], None]]) -> None:
        """Call each of `sleepers`."""
        for wake in sleepers:
            try:
                wake()
            except Exception:
                log.exception("a caller could not be woken when %r opened", self._circuit.name)

    def _change(self, previous: pybreaker.CBStateType, state: pybreaker.CBStateType) -> None:
        for function in self._on_change:
            self._tell(function, "__call__", self._circuit.name, previous.name, state.name)
        for listener in self.listeners:
            self._tell(listener, "state_change", self._circuit, previous, state)

    def _tell(self, listener: Any, method: str, *args: Any) -> None:
        try:
            getattr(listener, method)(*args)
        except Exception:
            if id(listener) not in self._reported:
                self._reported.add(id(listener))
                log.exception(
                    "listener %s of circuit breaker %r raised; it goes on, and this is logged once",
                    getattr(listener, "__qualname__", type(listener).__qualname__),
                    self._circuit.name,
                )
