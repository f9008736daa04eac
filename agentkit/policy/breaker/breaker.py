"""The circuit breaker: refuses calls to a model that keeps failing, and probes for its return.

``closed`` admits every call; ``open`` refuses all until `recovery_timeout` has passed;
``half-open`` admits one probe at a time. An admitted call holds a `Permit` and settles it. All that
affects the state machine is in this file; `Circuit` keeps its states and counters.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import math
import time
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeAlias, TypeVar

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.errors import CircuitOpenError, ConfigurationError
from agentkit.policy.breaker.listeners import Listeners, OnChange
from agentkit.policy.breaker.policy import BreakerPolicy, BreakerStatistics
from agentkit.policy.breaker.report import ProbeOutcome, Reporter, Ticket
from agentkit.policy.breaker.window import FailureWindow
from agentkit.policy.validation import number

if TYPE_CHECKING:
    import pybreaker

log = logging.getLogger("agentkit.breaker")

Wake: TypeAlias = Callable[[], None]
P = ParamSpec("P")
T = TypeVar("T")

_PROBE_LEASE = 60.0
"""Seconds."""


class Permit:
    """Permission to make one call. Settle it exactly once; a second settlement is ignored.

    So is one that comes too late: after the circuit has moved on, or from a probe whose lease ran
    out and went to another.
    """

    __slots__ = ("_breaker", "_era", "_number", "_settled", "probe", "state", "ticket")

    def __init__(
        self, breaker: CircuitBreaker, era: pybreaker.CBStateType, number: int, probe: bool = False
    ) -> None:
        self._breaker = breaker
        self._era = era
        self._number = number  # in order of admission, over all permits of the breaker
        self._settled = False
        self.probe = probe
        self.state: Literal["closed", "half-open"] = "half-open" if probe else "closed"
        """The breaker's state at admission."""
        self.ticket: Ticket | None = None
        """The right to probe for others, too; it is used once."""

    def succeeded(self, duration: float = 0.0) -> None:
        """The call succeeded after `duration` seconds."""
        self._breaker._succeeded(self, duration)
        if self.ticket is not None:
            self._use(self.ticket, "success")

    def failed(
        self, error: BaseException, *, counts_for_rate: bool = True, duration: float = 0.0
    ) -> None:
        """The call failed with `error` after `duration` seconds.

        Without `counts_for_rate` it counts as a failure in a row only.
        """
        self._breaker._failed(self, error, counts_for_rate, duration)
        if self.ticket is not None:
            self._use(self.ticket, "failure")

    def neutral(self) -> None:
        """The request was at fault, which says nothing about the model: no counter moves."""
        self._breaker._released(self)
        if self.ticket is not None:
            self._use(self.ticket, "left")

    def abandoned(self) -> None:
        """The call was cancelled or given up: no counter moves, and a probe's slot is free."""
        self.neutral()

    def _use(self, ticket: Ticket, outcome: ProbeOutcome) -> None:
        self.ticket = None
        ticket.use(outcome)

    def __repr__(self) -> str:
        kind = "probe of" if self.probe else "call of"
        return f"<Permit for a {kind} {self._breaker.name!r}{', settled' * self._settled}>"


class OpenedSignal:
    """Fires each time its breaker opens, until unsubscribed; a `Signal`."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker

    def subscribe(self, wake: Wake) -> None:
        """Call `wake` when the breaker opens, immediately when it is open and would refuse."""
        self._breaker._subscribe(wake)

    def unsubscribe(self, wake: Wake) -> None:
        """Forget `wake`; an unknown one is ignored."""
        self._breaker._waiting.pop(wake, None)


class CircuitBreaker:
    """A circuit breaker for threads and tasks alike. Use it alone, or pass it to a model.

    Failures in a row are counted in the order in which calls began: a success ends the failures of
    calls that began before it, so a late answer does not hide that newer calls fail.

    Used alone, every `Exception` except those in `ignore` counts as a failure. `KeyboardInterrupt`,
    `asyncio.CancelledError` and the like do not count.

    Args:
        failure_threshold: failures in a row that open the circuit.
        recovery_timeout: seconds until an open circuit lets a probe through.
        name: used in messages and passed to listeners.
        policy: all rules, instead of the two above.
        ignore: exception types that say nothing about the callee's health.
        clock: seconds from an arbitrary start, never going back.
        probe_lease: seconds after which a probe that has not been settled makes room for another.
        on_change: called like the policy's listeners, before them.

    Raises:
        ConfigurationError: a value is out of range, or contradicts `policy`.
    """

    def __init__(
        self,
        failure_threshold: int = 5,
        recovery_timeout: float = 60,
        *,
        name: str = "circuit",
        policy: BreakerPolicy | None = None,
        ignore: type[Exception] | tuple[type[Exception], ...] = (),
        clock: Callable[[], float] = time.monotonic,
        probe_lease: float = _PROBE_LEASE,
        on_change: OnChange | None = None,
    ) -> None:
        from agentkit.policy.breaker.circuit import Circuit

        self.policy = _one_policy(policy, BreakerPolicy(failure_threshold, recovery_timeout))
        self.name = name
        self.opened = OpenedSignal(self)
        self._ignore = _checked_ignore(ignore)
        self._clock = clock
        self._probe_lease = number("probe_lease", probe_lease, above=True)
        self._lock = fork_safe_lock()
        self._circuit = Circuit(
            name,
            self.policy.failure_threshold,
            self.policy.recovery_timeout,
            self.policy.success_threshold,
        )
        self._state = self._circuit.state  # the last one that `_note_transition` has seen
        self._closed: pybreaker.CBStateType | None = self._state  # the same, if it is closed
        self._listeners = Listeners(self._circuit, self.policy.listeners, on_change)
        self._window = FailureWindow(self.policy.window)
        self._numbers = itertools.count()
        self._run: list[int] = []  # the numbers of the calls that failed in a row
        self._waiting: dict[Wake, None] = {}
        self._slow_after = self.policy.slow_call_duration
        self._opened_at = self._open_for = 0.0
        self._held = False
        """Whether it is open on the word of others only."""
        self._last_success = -math.inf
        self.reporter: Reporter | None = None
        """Reports to other processes what this breaker counts."""
        self._probe: Permit | None = None
        self._probe_until = 0.0
        self._opens = self._rejections = self._era = 0
        on_fork(self._leave_to_parent)

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``. Reading it changes nothing.

        An open circuit reads ``open`` until a probe is admitted, even after its recovery timeout.
        """
        return self._circuit.state.name

    @property
    def retry_after(self) -> float:
        """Seconds until a probe is admitted; 0.0 if a call would be admitted now."""
        now = self._clock()
        with self._lock:
            return self._wait(now)

    def would_admit(self) -> bool:
        """Whether `admit` would give a permit now. Changes nothing and takes no slot."""
        return self._circuit.state.name == "closed" or self.retry_after == 0.0

    def admit(self, *, lease: float | None = None) -> Permit | None:
        """A permit for one call, or None if it is refused. Never raises, never waits.

        `lease` is the time in seconds after which a probe that has not been settled makes room for
        another (default: the breaker's `probe_lease`).
        """
        permit = self.admit_if_closed()
        if permit is not None:
            return permit
        number = next(self._numbers)
        now = self._clock()
        with self._lock:
            era = self._circuit.state
            if era.name == "closed":
                return Permit(self, era, number)
            if self._wait(now) > 0.0:
                self._rejections += 1
                return None
            if era.name == "open":
                self._circuit.half_open()
                self._note_transition(now)
            permit = self._probe = Permit(self, self._circuit.state, number, probe=True)
            self._probe_until = now + (self._probe_lease if lease is None else lease)
        self._listeners.deliver()
        return permit

    def admit_if_closed(self) -> Permit | None:
        """A permit for one call if the circuit is closed. Otherwise None, and nothing changes."""
        closed = self._closed
        return None if closed is None else Permit(self, closed, next(self._numbers))

    def call(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `func`, unless the circuit is open; what it returns or raises.

        Raises:
            CircuitOpenError: refused; `retry_after` is the number of seconds left.
            ConfigurationError: `func` is async.
        """
        permit, start = self._admitted(), self._clock()
        try:
            result = func(*args, **kwargs)
        except BaseException as error:
            self._raised(permit, error, self._clock() - start)
            raise
        if isinstance(result, CoroutineType):
            _discard(result)
            permit.abandoned()
            raise _wrong_kind(self.name, "async", "acall")
        permit.succeeded(self._clock() - start)
        return result

    async def acall(
        self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`call` for an async `func`.

        Raises:
            CircuitOpenError: refused; `retry_after` is the number of seconds left.
            ConfigurationError: what `func` returned cannot be awaited.
        """
        permit, start = self._admitted(), self._clock()
        try:
            awaitable = func(*args, **kwargs)
            self._require_awaitable(permit, awaitable)
            result = await awaitable
        except BaseException as error:
            self._raised(permit, error, self._clock() - start)
            raise
        permit.succeeded(self._clock() - start)
        return result

    def reset(self) -> None:
        """Close the circuit and forget all failures. Calls under way no longer count."""
        self._close()
        if self.reporter is not None:
            self.reporter.reset()

    @property
    def held(self) -> bool:
        """Whether it is open on the word of other processes only."""
        return self._held and self.state == "open"

    @property
    def last_success_age(self) -> float:
        """Seconds since the last call that succeeded and counted; infinite without one."""
        return self._clock() - self._last_success

    def hold(self, seconds: float) -> None:
        """Be open for `seconds`, on the word of other processes. Calls under way no longer count.

        It replaces the recovery timeout of a circuit that is open.
        """
        now = self._clock()
        waiting: tuple[Wake, ...] = ()
        with self._lock:
            if self._circuit.state.name != "open":
                self._circuit.open()
                waiting = self._note_transition(now)
                self._held = True
            self._open_for = now - self._opened_at + seconds
        self._wake(waiting)
        self._listeners.deliver()

    def release(self) -> None:
        """Take `hold` back. A circuit that was opened by failures of its own stays open."""
        if self.held:
            self._close()
        with self._lock:
            self._open_for = self.policy.recovery_timeout

    def recover(self) -> None:
        """Close the circuit, as other processes have seen a probe succeed."""
        if self.state != "closed":
            self._close()

    def _close(self) -> None:
        now = self._clock()
        with self._lock:
            self._circuit.close()
            self._note_transition(now)
        self._listeners.deliver()

    def tally(self, after: int) -> tuple[int, int, int, int]:
        """The newest full bucket of the window, and the calls, failures and slow calls since.

        Buckets up to the number `after` are left out.
        """
        with self._lock:
            return self._window.tally(self._clock(), after)

    def statistics(self) -> BreakerStatistics:
        """All figures, taken at one moment."""
        now = self._clock()
        with self._lock:
            window = self._window
            window.advance(now)
            state = self._circuit.state.name
            return BreakerStatistics(
                state=state,
                consecutive_failures=self._circuit.fail_counter,
                calls=window.calls,
                failures=window.failures,
                slow_calls=window.slow,
                failure_rate=window.failure_rate,
                slow_rate=window.slow_rate,
                opened_at=self._opened_at if state == "open" else None,
                retry_after=self._wait(now),
                opens=self._opens,
                rejections=self._rejections,
                era=self._era,
                probing=self._probe is not None,
                waiting=len(self._waiting),
            )

    def add_listener(self, on_change: OnChange) -> None:
        """Call ``on_change(name, previous, state)`` at every transition from now on."""
        self._listeners.add(on_change)

    def add_weak_listener(self, on_change: OnChange) -> None:
        """Like `add_listener`, for a bound method, as long as its object lives."""
        self._listeners.add_weakly(on_change)

    def _leave_to_parent(self) -> None:
        """In a forked child: the probe and the waiting calls are the parent's."""
        self._probe = None
        self._waiting = {}

    def __repr__(self) -> str:
        # Without the lock: a debugger or a signal handler may ask while this thread holds it.
        state, wait = self.state, self._wait(self._clock())
        if state == "closed":
            threshold = self.policy.failure_threshold
            detail = f"{self._circuit.fail_counter}/{threshold} failures in a row"
        elif wait == 0.0:
            detail = "ready for a probe"
        else:
            detail = f"probe in {wait:.1f} s" if state == "open" else "probe under way"
        return f"<CircuitBreaker {self.name!r} {state}, {detail}>"

    def _admitted(self) -> Permit:
        permit = self.admit()
        if permit is not None:
            return permit
        wait = self.retry_after
        why = "is open" if self.state == "open" else "waits for its probe"
        raise CircuitOpenError(
            f"circuit breaker {self.name!r} {why}: nothing was called, next probe in {wait:.1f} s",
            hint="retry then, or call reset() once the cause is gone",
            retry_after=wait,
        )

    def _require_awaitable(self, permit: Permit, result: object) -> None:
        if not inspect.isawaitable(result):
            permit.abandoned()
            raise _wrong_kind(self.name, "not async", "call")

    def _raised(self, permit: Permit, error: BaseException, duration: float) -> None:
        if isinstance(error, self._ignore):
            permit.neutral()
        elif isinstance(error, Exception):
            permit.failed(error, duration=duration)
        else:
            permit.abandoned()

    def _wait(self, now: float) -> float:
        """Seconds until a probe is admitted. A clock that went back does not keep it open."""
        state = self._circuit.state.name
        if state == "open" and now >= self._opened_at:
            return max(0.0, self._opened_at + self._open_for - now)
        if state == "half-open" and self._probe is not None:
            return max(0.0, self._probe_until - now)
        return 0.0

    def _counts(self, permit: Permit) -> bool:
        """Settle `permit`; whether what it says still counts."""
        if permit._settled:
            return False
        permit._settled = True
        if permit._era is not self._state:
            return False
        if permit.probe:
            if permit is not self._probe:
                return False
            self._probe = None
        return True

    def _succeeded(self, permit: Permit, duration: float) -> None:
        now = self._clock()
        waiting: tuple[Wake, ...] = ()
        with self._lock:
            if not self._counts(permit):
                return
            self._last_success = now
            slow = self._slow_after is not None and duration > self._slow_after
            if slow:
                self._window.add(now, failed=False, slow=True)
            else:
                self._window.add_good(now)
            if slow or permit.probe or self._run:
                waiting = self._count_success(permit, now, slow=slow)
        if waiting or permit.probe or self._listeners.of_outcomes:
            self._wake(waiting)
            self._listeners.deliver()
            self._listeners.success()

    def _count_success(self, permit: Permit, now: float, *, slow: bool) -> tuple[Wake, ...]:
        """Count a success that may move the circuit. Returns what to wake."""
        if permit.probe or self._run:
            self._run = [number for number in self._run if number > permit._number]
            self._circuit.count_success(failures_left=len(self._run))
        if slow and not permit.probe:
            self._apply_rates()
        return self._note_transition(now)

    def _failed(
        self, permit: Permit, error: BaseException, counts_for_rate: bool, duration: float
    ) -> None:
        now = self._clock()
        waiting: tuple[Wake, ...] = ()
        with self._lock:
            if not self._counts(permit):
                return
            circuit = self._circuit
            if counts_for_rate:
                slow = self._slow_after is not None and duration > self._slow_after
                self._window.add(now, failed=True, slow=slow)
            self._run.append(permit._number)
            circuit.count_failure()
            if counts_for_rate:
                self._apply_rates()
            if circuit.state is not self._state:
                waiting = self._note_transition(now)
        self._wake(waiting)
        if self.reporter is not None and permit.ticket is None:
            self.reporter.failed()
        self._listeners.failure(error)
        self._listeners.deliver()

    def _released(self, permit: Permit) -> None:
        with self._lock:
            self._counts(permit)

    def _apply_rates(self) -> None:
        """Open a closed circuit whose rates are too high; needed after a bad outcome only."""
        window, policy = self._window, self.policy
        if self._circuit.state.name != "closed" or window.calls < policy.minimum_calls:
            return
        failing = policy.failure_rate is not None and window.failure_rate >= policy.failure_rate
        slow = policy.slow_call_duration is not None and window.slow_rate >= policy.slow_call_rate
        if failing or slow:
            self._circuit.open()

    def _note_transition(self, now: float) -> tuple[Wake, ...]:
        """Begin the next era if the circuit has moved. Returns what to wake."""
        era, state = self._state, self._circuit.state
        if era is state:
            return ()
        self._state = state
        self._closed = state if state.name == "closed" else None
        self._era += 1
        self._held = False
        self._probe = None
        self._run = []
        if state.name != era.name:
            self._listeners.enqueue(era, state)
        if state.name == "closed":
            self._window.clear()
        if state.name != "open":
            return ()
        self._opens += 1
        self._opened_at, self._open_for = now, self.policy.recovery_timeout
        return tuple(self._waiting)

    def _wake(self, waiting: tuple[Wake, ...]) -> None:
        for wake in waiting:
            try:
                wake()
            except Exception:
                log.exception("a call could not be woken when %r opened", self.name)

    def _subscribe(self, wake: Wake) -> None:
        now = self._clock()
        with self._lock:
            self._waiting[wake] = None
            too_late = self._circuit.state.name == "open" and self._wait(now) > 0.0
        if too_late:
            self._wake((wake,))


def _discard(coroutine: CoroutineType[Any, Any, Any]) -> None:
    """Close a coroutine that nothing will await, so that Python does not warn about it."""
    coroutine.close()


def _wrong_kind(name: str, kind: str, method: str) -> ConfigurationError:
    return ConfigurationError(
        f"the function called through breaker {name!r} is {kind}", hint=f"use {method}()"
    )


def _one_policy(policy: BreakerPolicy | None, short: BreakerPolicy) -> BreakerPolicy:
    """`policy`, or the one made of the two short arguments; both only where they agree."""
    if policy is None:
        return short
    if not isinstance(policy, BreakerPolicy):
        raise ConfigurationError(
            f"policy must be a BreakerPolicy, got {policy!r}", hint="pass a BreakerPolicy(...)"
        )
    if short not in {
        BreakerPolicy(),
        BreakerPolicy(policy.failure_threshold, policy.recovery_timeout),
    }:
        raise ConfigurationError(
            f"failure_threshold={short.failure_threshold} and "
            f"recovery_timeout={short.recovery_timeout} contradict policy={policy}",
            hint="set failure_threshold and recovery_timeout in the policy only",
        )
    return policy


def _checked_ignore(ignore: Any) -> tuple[type[Exception], ...]:
    types = ignore if isinstance(ignore, tuple | list | set | frozenset) else (ignore,)
    for one in types:
        if not (isinstance(one, type) and issubclass(one, Exception)):
            raise ConfigurationError(
                f"ignore must hold exception types, got {one!r}", hint="pass a tuple of types"
            )
    return tuple(types)
