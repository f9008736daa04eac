"""Which model is asked next.

A `Route` is an ordered list of targets; an `Itinerary` walks it once for one request. Two orders:
*sequential* (all attempts at a target, then the next) and *rounds* (one attempt a target a round,
attempts counted over the whole request).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal, Protocol, TypeAlias

from agentkit.errors import LLMError
from agentkit.policy.breaker import CircuitBreaker
from agentkit.policy.budget import Price
from agentkit.policy.classification import RetryOn
from agentkit.policy.limits.pool import Pool
from agentkit.policy.retry import RetryBudget, RetryPolicy
from agentkit.policy.validation import number, whole
from agentkit.types import Request, Response
from agentkit.types.ledger import Ledger

Order: TypeAlias = Literal["sequential", "rounds"]


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """What a target sends to: up to four ways to call it, in the colours it has by nature.

    `send` and `asend` return whatever the model returns; `accept` turns that into a `Response`
    with the given ledger, or raises `InvalidResponseError`. `translate` maps a foreign exception
    into the error tree. `end_mark` says that a stream must finish with an `End` event.
    """

    accept: Callable[[Any, Ledger], Response[Any]]
    translate: Callable[[Exception], LLMError]
    send: Callable[[Request], Any] | None = None
    asend: Callable[[Request], Any] | None = None
    stream: Callable[[Request], Any] | None = None
    astream: Callable[[Request], Any] | None = None
    end_mark: bool = False
    capabilities: frozenset[str] = frozenset()
    fingerprint: str = ""
    durable: bool = False
    """Whether `fingerprint` means the same in another process."""
    timed: bool = False
    """Whether it bounds its own sockets by `Request.timeout`."""
    worded: Callable[[Request], Request] | None = None
    """Puts a request's `response_format` into words, for a model that knows no such option."""
    close: Callable[[], None] | None = None
    """Lets go of its connections; called once nothing uses it any more."""
    aclose: Callable[[], Awaitable[None]] | None = None
    """The same for connections of the running event loop."""


@dataclass(slots=True, eq=False)
class Target:
    """One registered model with its own policies and its own state."""

    name: str
    provider: str
    endpoint: Endpoint
    metadata: Mapping[str, Any]
    retry: RetryPolicy
    breaker: CircuitBreaker | None = None
    pool: Pool | None = None
    budget: RetryBudget | None = None
    timeout: float | None = None
    first_token_timeout: float | None = None
    retry_on: RetryOn | None = None
    context_window: int | None = None
    price: Price | None = None
    owned: bool = False
    """Whether the endpoint was made here and is closed here, too."""
    resting_until: float = field(default=-1.0, compare=False)
    """Clock time until which a Retry-After asks for silence."""

    @property
    def idle(self) -> bool:
        """Whether no call is known to use it; without a pool nobody knows."""
        return self.pool is not None and self.pool.in_use == 0

    def close(self) -> None:
        """Let go of the connections that were made for this target."""
        for endpoint in self._made():
            if endpoint.close is not None:
                endpoint.close()

    async def aclose(self) -> None:
        """Like `close`, for the connections of the running event loop."""
        for endpoint in self._made():
            if endpoint.aclose is not None:
                await endpoint.aclose()

    def _made(self) -> list[Endpoint]:
        members = () if self.pool is None else self.pool.members
        own = [self.endpoint] if self.owned else []
        return [*own, *(each.endpoint for each in members if each.endpoint is not None)]

    def rest(self, now: float) -> float:
        """Seconds this target still has to rest; zero or less when it may be asked."""
        return self.resting_until - now

    @property
    def breaker_state(self) -> str:
        """``closed``, ``open`` or ``half-open``; closed where there is no breaker."""
        return "closed" if self.breaker is None else self.breaker.state


@dataclass(frozen=True, slots=True, eq=False)
class Missing:
    """A name in a chain that is not registered."""

    name: str


Stop: TypeAlias = Target | Missing


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """Ordered stops. `max_attempts` is used by the *rounds* order only: attempts a request."""

    stops: tuple[Stop, ...]
    order: Order = "sequential"
    max_attempts: int = 3
    names: tuple[str, ...] = ()
    after: tuple[int, ...] = ()
    """For each stop, how many registered targets follow it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(stop.name for stop in self.stops))
        registered = [isinstance(stop, Target) for stop in self.stops]
        behind = list(accumulate(reversed(registered), initial=0))[-2::-1]
        object.__setattr__(self, "after", tuple(behind))


class Itinerary:
    """One request's way through a route."""

    __slots__ = ("_at", "_gone", "_retry", "attempts", "route", "tried")

    def __init__(self, route: Route, retry: RetryPolicy | None = None) -> None:
        self.route = route
        self._retry = retry
        self._at = 0
        self._gone: set[int] = set()
        self.tried: dict[int, int] = {}
        self.attempts = 0

    def policy(self, target: Target) -> RetryPolicy:
        """How `target` is asked again: as this request says, else as it was registered."""
        return target.retry if self._retry is None else self._retry

    @property
    def position(self) -> int:
        """Index of the current stop."""
        return self._at

    def next(self) -> Stop | None:
        """The stop to try now, or None when the route is at its end.

        After `stay` the same one again (in rounds: the next of the round).
        """
        stops = self.route.stops
        if self.route.order == "sequential":
            while self._at < len(stops) and self._at in self._gone:
                self._at += 1
            return stops[self._at] if self._at < len(stops) else None
        if self.attempts >= self.route.max_attempts or len(self._gone) == len(stops):
            return None
        start = (self._at + 1) % len(stops) if self.attempts or self._gone else 0
        for step in range(len(stops)):
            index = (start + step) % len(stops)
            if index not in self._gone:
                self._at = index
                return stops[index]
        return None

    def count(self) -> int:
        """An attempt at the current stop begins; its number there, from 1."""
        self.attempts += 1
        number_here = self.tried.get(self._at, 0) + 1
        self.tried[self._at] = number_here
        return number_here

    def may_repeat(self) -> bool:
        """Whether the attempts allow the current stop once more."""
        if self.route.order == "rounds":
            return self.attempts < self.route.max_attempts
        stop = self.route.stops[self._at]
        if not isinstance(stop, Target):
            return False
        return self.tried.get(self._at, 0) < self.policy(stop).max_attempts

    def drop(self) -> None:
        """The current stop is not asked again in this request."""
        self._gone.add(self._at)

    def drop_if(self, hopeless: Callable[[Target], bool]) -> None:
        """Drop every stop still ahead for which `hopeless` holds."""
        for index, stop in enumerate(self.route.stops):
            if index != self._at and isinstance(stop, Target) and hopeless(stop):
                self._gone.add(index)

    def count_ahead(self) -> int:
        """How many targets `ahead` would give, without walking a long route."""
        if self.route.order == "sequential":
            return self.route.after[self._at] - sum(index > self._at for index in self._gone)
        return sum(1 for _ in self.ahead())

    def ahead(self) -> Iterator[Target]:
        """Registered targets that could still be asked after the current one."""
        for index, stop in enumerate(self.route.stops):
            if index == self._at or index in self._gone or isinstance(stop, Missing):
                continue
            if self.route.order == "sequential" and index < self._at:
                continue
            yield stop

    def another_left(self, now: float) -> bool:
        """Whether another target is left: its breaker would admit and it is not resting long."""
        return any(
            (target.breaker is None or target.breaker.would_admit())
            and target.rest(now) <= self.policy(target).max_retry_after
            for target in self.ahead()
        )


class Health(Protocol):
    """How a model did lately (see `agentkit.telemetry.recorder`)."""

    @property
    def success_rate(self) -> float:
        """Fraction of recent attempts that succeeded."""
        ...

    @property
    def p50_latency(self) -> float:
        """Median latency of recent successes, in seconds."""
        ...

    @property
    def samples(self) -> int:
        """How many recent attempts this speaks of."""
        ...


RouteOrder: TypeAlias = Callable[[Sequence[Stop], Callable[[str], Health]], Sequence[Stop]]


@dataclass(frozen=True, slots=True)
class HealthAware:
    """A route order that asks healthy models first.

    A model whose recent success rate is below `unhealthy_below` (fraction, default 0.5), or whose
    breaker is open, goes to the end. Among the healthy ones the given order stays, unless one's
    median latency is more than `slower_by` times (default 3.0) that of the fastest: then it goes
    behind the faster ones. Fewer than `min_samples` attempts (default 5) count as healthy.
    """

    min_samples: int = 5
    unhealthy_below: float = 0.5
    slower_by: float = 3.0

    def __post_init__(self) -> None:
        whole("min_samples", self.min_samples)
        number("unhealthy_below", self.unhealthy_below, maximum=1.0)
        number("slower_by", self.slower_by, minimum=1.0)

    def __call__(self, stops: Sequence[Stop], health: Callable[[str], Health]) -> Sequence[Stop]:
        """The same stops, healthy ones first."""
        known = {stop.name: health(stop.name) for stop in stops if isinstance(stop, Target)}
        speeds = [
            each.p50_latency
            for each in known.values()
            if each.samples >= self.min_samples and each.p50_latency > 0
        ]
        fastest = min(speeds, default=0.0)

        def rank(stop: Stop) -> int:
            if isinstance(stop, Missing):
                return 0
            each = known[stop.name]
            if stop.breaker is not None and not stop.breaker.would_admit():
                return 2
            if each.samples < self.min_samples:
                return 0
            if each.success_rate < self.unhealthy_below:
                return 2
            return int(fastest > 0 and each.p50_latency > self.slower_by * fastest)

        return sorted(stops, key=rank)
