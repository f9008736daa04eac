"""pybreaker's states and counters. The only module that uses private names of pybreaker.

Imported when the first breaker is built, because importing pybreaker takes time.
"""

from __future__ import annotations

from contextlib import suppress

from agentkit._fork import fork_safe_lock
from agentkit.policy.breaker.library import load_pybreaker

load_pybreaker()
import pybreaker  # noqa: E402 - now without redis


class _Failure(Exception):  # noqa: N818 - never seen outside
    """Stands in for the caller's error: pybreaker raises what it is given, which would add frames
    to the traceback of the caller's error and overwrite its context.
    """


class Circuit(pybreaker.CircuitBreaker):
    """States, counters and transitions of one circuit.

    The state object is new after each transition, so that its identity names an era. pybreaker's
    own `call` is never used: it would hold a lock through the call, count cancellations as failures
    and admit every call while half-open.
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
        self._lock = fork_safe_lock()

    @property
    def state(self) -> pybreaker.CBStateType:
        """The present state, read without side effects.

        pybreaker's own property moves the circuit when state and storage differ, as they do for a
        moment during a transition in another thread.
        """
        return self._state

    @state.setter
    def state(self, name: str) -> None:
        self._state = self._create_new_state(name, prev_state=self._state, notify=True)

    def count_success(self, *, failures_left: int = 0) -> None:
        """A call succeeded: `failures_left` are still in a row; enough probes close the circuit."""
        self._state._handle_success()
        for _ in range(failures_left):
            self._inc_counter()

    def count_failure(self) -> None:
        """A call failed: the circuit opens at the threshold, or immediately if half-open."""
        with suppress(_Failure):
            self._state._handle_error(_Failure(), reraise=False)
