"""Listeners of a circuit breaker, called outside its lock; what they raise is only logged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from agentkit.policy.breaker.serial import SerialQueue

if TYPE_CHECKING:
    import pybreaker

    from agentkit.policy.breaker.circuit import Circuit

OnChange: TypeAlias = Callable[[str, str, str], object]
Listener: TypeAlias = "OnChange | pybreaker.CircuitBreakerListener"
Transition: TypeAlias = "tuple[pybreaker.CBStateType, pybreaker.CBStateType]"

log = logging.getLogger("agentkit.breaker")


def is_pybreaker_listener(candidate: object) -> bool:
    """Whether `candidate` has the methods of a `pybreaker.CircuitBreakerListener`."""
    return callable(getattr(candidate, "state_change", None))


class Listeners:
    """Calls every listener of one circuit, with transitions in the order in which they happened.

    One thread at a time delivers: see `SerialQueue`.
    """

    __slots__ = (
        "_circuit",
        "_on_change",
        "_reported",
        "_transitions",
        "_weak",
        "of_outcomes",
    )

    def __init__(
        self, circuit: Circuit, listeners: Iterable[Any], on_change: OnChange | None
    ) -> None:
        given = [*listeners] if on_change is None else [on_change, *listeners]
        self._circuit = circuit
        self._on_change = [each for each in given if not is_pybreaker_listener(each)]
        self.of_outcomes = [each for each in given if is_pybreaker_listener(each)]
        """Those that are called after each success and failure, too."""
        self._weak: WeakKeyDictionary[Any, Callable[..., object]] = WeakKeyDictionary()
        self._transitions: SerialQueue[Transition] = SerialQueue(self._report)
        self._reported: set[int] = set()

    def add(self, on_change: OnChange) -> None:
        """Call `on_change` at every transition from now on; once, however often it is added."""
        if on_change not in self._on_change:
            self._on_change.append(on_change)

    def add_weakly(self, on_change: OnChange) -> None:
        """Like `add`, for a bound method, as long as its object lives."""
        method: Any = on_change
        self._weak[method.__self__] = method.__func__

    def success(self) -> None:
        """A call succeeded."""
        for listener in self.of_outcomes:
            self._call(listener, "success", self._circuit)

    def failure(self, error: BaseException) -> None:
        """A call failed with `error`."""
        for listener in self.of_outcomes:
            self._call(listener, "failure", self._circuit, error)

    def enqueue(self, previous: pybreaker.CBStateType, state: pybreaker.CBStateType) -> None:
        """Remember a transition for `deliver`. Calls nothing, so it may be called under a lock."""
        self._transitions.add((previous, state))

    def deliver(self) -> None:
        """Report the remembered transitions, unless another thread (or a caller) is doing so."""
        self._transitions.run()

    def _report(self, transition: Transition) -> None:
        previous, state = transition
        for function in self._on_change:
            self._call(function, "__call__", self._circuit.name, previous.name, state.name)
        for owner, function in list(self._weak.items()):
            method = function.__get__(owner)
            self._call(method, "__call__", self._circuit.name, previous.name, state.name)
        for listener in self.of_outcomes:
            self._call(listener, "state_change", self._circuit, previous, state)

    def _call(self, listener: Any, method: str, *args: Any) -> None:
        try:
            getattr(listener, method)(*args)
        except Exception:
            if id(listener) not in self._reported:
                self._reported.add(id(listener))
                log.exception(
                    "listener %s of circuit breaker %r raised; it is still called, and this is "
                    "logged once",
                    getattr(listener, "__qualname__", type(listener).__qualname__),
                    self._circuit.name,
                )
