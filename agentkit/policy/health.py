"""Orders of a route by the recent health of its models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from agentkit.policy.route import Missing, Stop
from agentkit.policy.target import Target
from agentkit.policy.validation import number, whole_number


class Health(Protocol):
    """The recent health of a model (see `agentkit.telemetry.recorder`)."""

    @property
    def success_rate(self) -> float:
        """The fraction of recent attempts that succeeded."""
        ...

    @property
    def p50_latency(self) -> float:
        """The median latency of recent successes, in seconds."""
        ...

    @property
    def samples(self) -> int:
        """The number of recent attempts that these figures cover."""
        ...


RouteOrder: TypeAlias = Callable[[Sequence[Stop], Callable[[str], Health]], Sequence[Stop]]


@dataclass(frozen=True, slots=True)
class HealthAware:
    """A route order that puts healthy models first.

    Unhealthy models go to the end: those with an open breaker, or with a recent success rate below
    `unhealthy_below` (a fraction, default 0.5). Before them go slow models, whose median latency is
    more than `slower_by` times (default 3.0) that of the fastest model. Otherwise the given order
    is kept. A model with fewer than `min_samples` recent attempts (default 5) counts as healthy.
    """

    min_samples: int = 5
    unhealthy_below: float = 0.5
    slower_by: float = 3.0

    def __post_init__(self) -> None:
        whole_number("min_samples", self.min_samples)
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
