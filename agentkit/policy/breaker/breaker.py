"""Stops asking a model that keeps failing, and lets one probe find out whether it is back.

``closed`` lets every call through; ``open`` refuses all until `recovery_timeout` has passed;
``half-open`` lets one probe through at a time. Whoever asks gets a `Permit` and settles it.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.errors import CircuitOpenError, ConfigurationError
from agentkit.policy.breaker.announcer import Announcer, OnChange
from agentkit.policy.breaker.permit import OpenedSignal, Permit, Wake
from agentkit.policy.breaker.policy import BreakerPolicy, BreakerStatistics
from agentkit.policy.breaker.window import RateWindow
from agentkit.policy.validation import number

if TYPE_CHECKING:
    import pybreaker

__all__ = ["BreakerPolicy", "BreakerStatistics", "CircuitBreaker", "OpenedSignal", "Permit"]

P = ParamSpec("P")
T = TypeVar("T")

_PROBE_LEASE = 60.0


class CircuitBreaker:
    """A circuit breaker for threads and tasks alike. Use it alone, or hand it to a model.

    Used alone, every `Exception` counts as a failure but those in `ignore`. `KeyboardInterrupt`,
    `asyncio.CancelledError` and their like count as nothing.

    Args:
        failure_threshold: failures in a row that open the circuit.
        recovery_timeout: seconds until an open circuit lets a probe through.
        name: what messages and listeners call it.
        policy: all the rules, instead of the two above.
        ignore: exception types that say nothing about the callee's health.
        clock: seconds from an arbitrary start, never going back.
        probe_lease: seconds after which a probe that has not come back makes room for another.
        on_change: called like a listener, before them.

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
        self._announcer = Announcer(self._circuit, self.policy.listeners, on_change)
        self._window = RateWindow(self.policy.window)
        self._sleepers: dict[Wake, None] = {}
        self._slow_after = self.policy.slow_call_duration
        self._opened_at = 0.0
        self._probe: Permit | None = None
        self._probe_until = 0.0
        self._opens = self._rejections = self._era = 0
        on_fork(self._leave_to_parent)

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``. Reading it changes nothing.

        So an open circuit reads ``open`` until somebody is admitted as a probe, even after its
        recovery timeout.
        """
        return self._circuit.state.name

    @property
    def retry_after(self) -> float:
        """Seconds until a probe may go; 0.0 when a call would be admitted now."""
        now = self._clock()
        with self._lock:
            return self._wait(now)

    def would_admit(self) -> bool:
        """Whether `admit` would give a permit now. Changes nothing and takes no slot."""
        return self._circuit.state.name == "closed" or self.retry_after == 0.0

    def admit(self, *, lease: float | None = None) -> Permit | None:
        """A permit for one call, or None: refused. Never raises, never waits.

        `lease` is the time in seconds after which a probe that has not come back makes room for
        another (default: the breaker's `probe_lease`).
        """
        era = self._circuit.state
        if era.name == "closed":
            return Permit(self, era)
        now = self._clock()
        with self._lock:
            era = self._circuit.state
            if era.name == "closed":
                return Permit(self, era)
            if self._wait(now) > 0.0:
                self._rejections += 1
                return None
            if era.name == "open":
                self._circuit.half_open()
                self._moved_from(era, now)
            permit = self._probe = Permit(self, self._circuit.state, probe=True)
            self._probe_until = now + (self._probe_lease if lease is None else lease)
        self._announcer.deliver()
        return permit

    def call(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What `func` returns or raises. While the circuit is open, `func` is not called.

        Raises:
            CircuitOpenError: refused; `retry_after` says for how many seconds.
            ConfigurationError: `func` is async.
        """
        permit, start = self._admitted(), self._clock()
        try:
            result = func(*args, **kwargs)
        except BaseException as error:
            self._raised(permit, error, self._clock() - start)
            raise
        if isinstance(result, CoroutineType):
            result.close()
            permit.abandoned()
            raise _wrong_colour(self.name, "async", "acall")
        permit.succeeded(self._clock() - start)
        return result

    async def acall(
        self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`call` for an async `func`.

        Raises:
            CircuitOpenError: refused; `retry_after` says for how many seconds.
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
        now = self._clock()
        with self._lock:
            era = self._circuit.state
            self._circuit.close()
            self._moved_from(era, now)
        self._announcer.deliver()

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
            )

    def tell(self, on_change: OnChange) -> None:
        """Call ``on_change(name, previous, state)`` at every transition from now on."""
        self._announcer.add(on_change)

    def _leave_to_parent(self) -> None:
        """In a forked child: the probe, and who waits, are the parent's."""
        self._probe = None
        self._sleepers = {}

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
            hint="ask again then, or call reset() once the cause is gone",
            retry_after=wait,
        )

    def _require_awaitable(self, permit: Permit, result: object) -> None:
        if not inspect.isawaitable(result):
            permit.abandoned()
            raise _wrong_colour(self.name, "not async", "call")

    def _raised(self, permit: Permit, error: BaseException, duration: float) -> None:
        if isinstance(error, self._ignore):
            permit.neutral()
        elif isinstance(error, Exception):
            permit.failed(error, duration=duration)
        else:
            permit.abandoned()

    def _wait(self, now: float) -> float:
        """Seconds until a probe may go. A clock that went back is no reason to stay shut."""
        state = self._circuit.state.name
        if state == "open" and now >= self._opened_at:
            return max(0.0, self._opened_at + self.policy.recovery_timeout - now)
        if state == "half-open" and self._probe is not None:
            return max(0.0, self._probe_until - now)
        return 0.0

    def _counts(self, permit: Permit) -> bool:
        """Settle `permit`; whether what it says still counts."""
        if permit._settled:
            return False
        permit._settled = True
        if permit._era is not self._circuit.state:
            return False
        if permit.probe:
            if permit is not self._probe:
                return False
            self._probe = None
        return True

    def _succeeded(self, permit: Permit, duration: float) -> None:
        now = self._clock()
        sleepers: tuple[Wake, ...] = ()
        with self._lock:
            if not self._counts(permit):
                return
            circuit, era = self._circuit, permit._era
            slow = self._slow_after is not None and duration > self._slow_after
            self._window.add(now, failed=False, slow=slow)
            if permit.probe or circuit.fail_counter:
                circuit.count_success()
            if slow and not permit.probe:
                self._weigh()
            if circuit.state is not era:
                sleepers = self._moved_from(era, now)
        if sleepers or permit.probe or self._announcer.listeners:
            self._announcer.wake(sleepers)
            self._announcer.deliver()
            self._announcer.success()

    def _failed(
        self, permit: Permit, error: BaseException, counts_for_rate: bool, duration: float
    ) -> None:
        now = self._clock()
        sleepers: tuple[Wake, ...] = ()
        with self._lock:
            if not self._counts(permit):
                return
            circuit, era = self._circuit, permit._era
            if counts_for_rate:
                slow = self._slow_after is not None and duration > self._slow_after
                self._window.add(now, failed=True, slow=slow)
            circuit.count_failure()
            if counts_for_rate:
                self._weigh()
            if circuit.state is not era:
                sleepers = self._moved_from(era, now)
        self._announcer.wake(sleepers)
        self._announcer.failure(error)
        self._announcer.deliver()

    def _released(self, permit: Permit) -> None:
        with self._lock:
            self._counts(permit)

    def _weigh(self) -> None:
        """Open a closed circuit whose rates are too high. Only a bad outcome is a reason to ask."""
        window, policy = self._window, self.policy
        if self._circuit.state.name != "closed" or window.calls < policy.minimum_calls:
            return
        failing = policy.failure_rate is not None and window.failure_rate >= policy.failure_rate
        slow = policy.slow_call_duration is not None and window.slow_rate >= policy.slow_call_rate
        if failing or slow:
            self._circuit.open()

    def _moved_from(self, era: pybreaker.CBStateType, now: float) -> tuple[Wake, ...]:
        """The circuit just left `era`: begin the next one. Those to wake."""
        state = self._circuit.state
        self._era += 1
        self._probe = None
        if state.name != era.name:
            self._announcer.post(era, state)
        if state.name == "closed":
            self._window.clear()
        if state.name != "open":
            return ()
        self._opens += 1
        self._opened_at = now
        return tuple(self._sleepers)

    def _subscribe(self, wake: Wake) -> None:
        now = self._clock()
        with self._lock:
            self._sleepers[wake] = None
            too_late = self._circuit.state.name == "open" and self._wait(now) > 0.0
        if too_late:
            self._announcer.wake((wake,))


def _wrong_colour(name: str, is_: str, method: str) -> ConfigurationError:
    return ConfigurationError(
        f"the function called through breaker {name!r} is {is_}", hint=f"use {method}()"
    )


def _one_policy(policy: BreakerPolicy | None, short: BreakerPolicy) -> BreakerPolicy:
    """`policy`, or the one made of the two short arguments; both only where they agree."""
    if policy is None:
        return short
    if not isinstance(policy, BreakerPolicy):
        raise ConfigurationError(
            f"policy must be a BreakerPolicy, got {policy!r}", hint="give a BreakerPolicy(...)"
        )
    if short not in {
        BreakerPolicy(),
        BreakerPolicy(policy.failure_threshold, policy.recovery_timeout),
    }:
        raise ConfigurationError(
            "a breaker got a policy and other values beside it",
            hint="set failure_threshold and recovery_timeout in the policy alone",
        )
    return policy


def _checked_ignore(ignore: Any) -> tuple[type[Exception], ...]:
    types = ignore if isinstance(ignore, tuple | list | set | frozenset) else (ignore,)
    for one in types:
        if not (isinstance(one, type) and issubclass(one, Exception)):
            raise ConfigurationError(
                f"ignore must hold exception types, got {one!r}", hint="give a tuple of types"
            )
    return tuple(types)
