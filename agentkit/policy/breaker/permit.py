"""What a circuit breaker hands out: permits for calls, and the signal that it opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import pybreaker

    from agentkit.policy.breaker.breaker import CircuitBreaker

Wake: TypeAlias = Callable[[], None]


class Permit:
    """Leave to make one call. Settle it exactly once; a second settlement is ignored.

    So is one that comes too late: after the circuit has moved on, or from a probe whose lease ran
    out and went to another.
    """

    __slots__ = ("_breaker", "_era", "_settled", "probe")

    def __init__(
        self, breaker: CircuitBreaker, era: pybreaker.CBStateType, probe: bool = False
    ) -> None:
        self._breaker = breaker
        self._era = era
        self._settled = False
        self.probe = probe

    @property
    def state(self) -> str:
        """The breaker's state at admission: ``closed``, or ``half-open`` for a probe."""
        return self._era.name

    def succeeded(self, duration: float = 0.0) -> None:
        """The call succeeded after `duration` seconds."""
        self._breaker._succeeded(self, duration)

    def failed(
        self, error: BaseException, *, counts_for_rate: bool = True, duration: float = 0.0
    ) -> None:
        """The call failed with `error` after `duration` seconds.

        Without `counts_for_rate` it counts for the failures in a row only.
        """
        self._breaker._failed(self, error, counts_for_rate, duration)

    def neutral(self) -> None:
        """The request was at fault: that says nothing about the model. No counter moves."""
        self._breaker._released(self)

    def abandoned(self) -> None:
        """The call was cancelled or given up: no counter moves, and a probe's slot is free."""
        self._breaker._released(self)

    def __repr__(self) -> str:
        kind = "probe of" if self.probe else "call of"
        return f"<Permit for a {kind} {self._breaker.name!r}{', settled' * self._settled}>"


class OpenedSignal:
    """Fires each time its breaker opens, until unsubscribed; a `Signal`."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker

    def subscribe(self, wake: Wake) -> None:
        """Call `wake` when the breaker opens, at once when it is open and would refuse."""
        self._breaker._subscribe(wake)

    def unsubscribe(self, wake: Wake) -> None:
        """Forget `wake`; nothing happens when it is not known."""
        self._breaker._sleepers.pop(wake, None)
