"""pybreaker's state machine, moved by hand. All that is private in pybreaker is used here alone.

Imported by the first breaker that is built: pybreaker is not free to import.
"""

from __future__ import annotations

from contextlib import suppress

import pybreaker

from agentkit._fork import fork_safe_rlock


class _Failure(Exception):  # noqa: N818 - never seen outside
    """Stands in for the caller's error: pybreaker raises what it is given, which would add frames
    to the traceback of the caller's error and overwrite its context.
    """


class Circuit(pybreaker.CircuitBreaker):
    """States, counters and transitions of one circuit.

    The state object is new after each transition, so that its identity names an era. pybreaker's
    own `call` is never used: it would hold a lock through the call, count cancellations as failures
    and admit everybody while half-open.
    """

    def __init__(
        self, name: str, failure_threshold: int, recovery_timeout: float, success_threshold: int
    ) -> None:
        super().__init__(
            fail_max=failure_threshold,
            reset_timeout=recovery_timeout,
            success_threshold=success_threshold,
            name=name,
            throw_new_error_on_trip=False,
        )
        self._lock = fork_safe_rlock()

    @property
    def state(self) -> pybreaker.CBStateType:
        """The present state, read without side effects.

        pybreaker's property compares with the storage and moves the circuit when they differ, which
        for a moment they do during a transition in another thread.
        """
        return self._state

    @state.setter
    def state(self, name: str) -> None:
        self._state = self._create_new_state(name, prev_state=self._state, notify=True)

    def count_success(self) -> None:
        """A call succeeded: the failures in a row are over; enough probes close the circuit."""
        self._state._handle_success()

    def count_failure(self) -> None:
        """A call failed: the circuit opens at the threshold, while half-open at once."""
        with suppress(_Failure):
            self._state._handle_error(_Failure(), reraise=False)
