"""The choice of the next target.

A `Route` is an ordered list of stops, and a `Walk` is the progress of one request along it. There
are two orders. *Sequential* makes every attempt at one target before it moves to the next. *Rounds*
makes one attempt at each target per round, and limits the attempts of the request.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeAlias

from agentkit.policy.classification import Fallback
from agentkit.policy.retry import RetryPolicy
from agentkit.policy.target import Target

Order: TypeAlias = Literal["sequential", "rounds"]


@dataclass(frozen=True, slots=True, eq=False)
class Missing:
    """A name in the fallback chain that is not registered."""

    name: str


Stop: TypeAlias = Target | Missing

_NONE: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """An ordered list of stops. `max_attempts` applies to the *rounds* order."""

    stops: tuple[Stop, ...]
    order: Order = "sequential"
    max_attempts: int = 3
    names: tuple[str, ...] = ()
    first: str | None = None
    """The name of the first stop."""
    after: tuple[int, ...] = ()
    """For each stop, the number of registered targets after it."""

    def __post_init__(self) -> None:
        names = tuple(stop.name for stop in self.stops)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "first", names[0] if names else None)
        registered = [isinstance(stop, Target) for stop in self.stops]
        following = list(accumulate(reversed(registered), initial=0))[-2::-1]
        object.__setattr__(self, "after", tuple(following))

    def walk(self, retry: RetryPolicy | None = None) -> Walk:
        """Start a walk for one request. `retry` replaces the policies of the targets."""
        kind = SequentialWalk if self.order == "sequential" else RoundsWalk
        return kind(self, retry)


class Walk(ABC):
    """The progress of one request along a route: targets that are next, left and done."""

    __slots__ = ("_done", "_due", "_retry", "attempts", "position", "returns", "route", "tried")

    def __init__(self, route: Route, retry: RetryPolicy | None) -> None:
        self.route = route
        self.position = 0
        """Index of the current stop."""
        self.attempts = 0
        self.tried: dict[int, int] = {}
        """Number of attempts by position."""
        self._retry = retry
        self._done: frozenset[int] = _NONE
        self._due: dict[int, float] = {}
        """Clock time by position before which a target is not tried again."""
        self.returns = False
        """Whether it is, or was, to return to a target at some time."""

    @abstractmethod
    def next_stop(self) -> Stop | None:
        """The stop to try now, or None if nothing is left to try."""

    @abstractmethod
    def may_repeat(self) -> bool:
        """Whether the limit on attempts allows another attempt at the current stop."""

    @abstractmethod
    def ahead(self) -> Iterator[Target]:
        """The registered targets that may still be tried after the current one."""

    @abstractmethod
    def count_ahead(self) -> int:
        """The number of targets in `ahead`."""

    @abstractmethod
    def repeat_at(self, time: float) -> bool:
        """Try the current target again at clock time `time`.

        True: wait for it now. False: try other targets first; the walk returns to this one.
        """

    def return_at(self, time: float) -> None:
        """Return to the current target at clock time `time`, instead of leaving it for good."""
        self._due[self.position] = time
        self.returns = True

    def not_before(self) -> float:
        """Clock time before which the current target is not tried again. Reading it clears it."""
        return self._due.pop(self.position, -1.0)

    def policy(self, target: Target) -> RetryPolicy:
        """The retry policy of this request at `target`."""
        return target.retry if self._retry is None else self._retry

    def count_attempt(self) -> int:
        """Count an attempt at the current stop. Returns its number there, from 1."""
        self.attempts += 1
        position = self.position
        number = self.tried[position] = self.tried.get(position, 0) + 1
        return number

    def leave(self, fallback: Fallback = Fallback.NEXT) -> None:
        """Leave the current target, and drop the targets that `fallback` rules out.

        The target is left for good, unless the walk returns to it later.
        """
        if self.position in self._due:
            return
        self._done |= {self.position}
        target = self.route.stops[self.position]
        if isinstance(target, Target) and fallback is not Fallback.NEXT:
            self.drop_where(lambda other: not _follows(other, target, fallback))

    def drop_where(self, hopeless: Callable[[Target], bool]) -> None:
        """Drop every other target for which `hopeless` returns true."""
        for index, stop in enumerate(self.route.stops):
            if index != self.position and isinstance(stop, Target) and hopeless(stop):
                self._done |= {index}

    def another_left(self, now: float) -> bool:
        """Whether another target could answer: one whose breaker and rate limit admit a request."""
        return any(
            (target.breaker is None or target.breaker.would_admit())
            and target.rate_limited_for(now) <= self.policy(target).max_retry_after
            for target in self.ahead()
        )


def _follows(other: Target, target: Target, fallback: Fallback) -> bool:
    """Whether `other` may be tried after `target` failed with an error of this `fallback`."""
    if fallback is Fallback.OTHER_PROVIDER:
        return other.provider != target.provider
    if target.context_window is None or other.context_window is None:
        return True
    return other.context_window > target.context_window


class SequentialWalk(Walk):
    """Every attempt at one target, then the next target."""

    __slots__ = ()

    def next_stop(self) -> Stop | None:
        """The first stop that is not done."""
        stops, position = self.route.stops, self.position
        while position in self._done:
            position += 1
        self.position = position
        return stops[position] if position < len(stops) else None

    def may_repeat(self) -> bool:
        """Whether the target's own policy allows another attempt."""
        target = self.route.stops[self.position]
        if not isinstance(target, Target):
            return False
        return self.tried.get(self.position, 0) < self.policy(target).max_attempts

    def ahead(self) -> Iterator[Target]:
        """The targets that follow in the route."""
        for index in range(self.position + 1, len(self.route.stops)):
            stop = self.route.stops[index]
            if index not in self._done and isinstance(stop, Target):
                yield stop

    def count_ahead(self) -> int:
        """The number of targets in `ahead`, without iterating over a long route."""
        if not self._done:
            return self.route.after[self.position]
        dropped = sum(index > self.position for index in self._done)
        return self.route.after[self.position] - dropped

    def repeat_at(self, time: float) -> bool:
        """Always wait for it now."""
        return True


class RoundsWalk(Walk):
    """One attempt at each target per round, with a limit on the attempts of the request."""

    __slots__ = ()

    def next_stop(self) -> Stop | None:
        """The next stop of the round, or the first of the next round."""
        stops = self.route.stops
        if self.attempts >= self.route.max_attempts or len(self._done) == len(stops):
            return None
        start = (self.position + 1) % len(stops) if self.attempts or self._done else 0
        for step in range(len(stops)):
            index = (start + step) % len(stops)
            if index not in self._done:
                self.position = index
                return stops[index]
        return None

    def may_repeat(self) -> bool:
        """Whether the request has attempts left."""
        return self.attempts < self.route.max_attempts

    def ahead(self) -> Iterator[Target]:
        """Every other target that is not done."""
        for index, stop in enumerate(self.route.stops):
            if index != self.position and index not in self._done and isinstance(stop, Target):
                yield stop

    def count_ahead(self) -> int:
        """The number of targets in `ahead`."""
        return sum(1 for _ in self.ahead())

    def repeat_at(self, time: float) -> bool:
        """Try it again in a later round, not before `time`."""
        self.return_at(time)
        return False
