"""Orders of a route that look at how its models did lately."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from agentkit.policy.route import Missing, Stop
from agentkit.policy.target import Target
from agentkit.policy.validation import number, whole_number


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
