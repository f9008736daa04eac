"""The metric instruments, created once per meter provider, and how attempts are recorded."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, get_args

from opentelemetry import metrics
from opentelemetry.metrics import (
    CallbackOptions,
    Counter,
    Histogram,
    MeterProvider,
    NoOpMeterProvider,
    Observation,
)

from agentkit._fork import fork_safe_lock
from agentkit._version import __version__
from agentkit.telemetry import names as n
from agentkit.telemetry.application import has_meter_provider
from agentkit.telemetry.deferred import Deferred
from agentkit.telemetry.safe import guarded
from agentkit.types import Usage
from agentkit.types.ledger import CacheResult, Entry
from agentkit.types.observer import CallOutcome

Attributes: TypeAlias = dict[str, Any]
Breakers: TypeAlias = Callable[[], Mapping[str, tuple[str, float]]]
"""The state and failure rate of each breaker, by its name."""
FleetState: TypeAlias = Callable[[], "Mapping[str, Any] | None"]
"""The statistics of the fleet of a manager, or None."""
Record: TypeAlias = Callable[[float, Attributes], None]

_NO_OBSERVATIONS: Iterable[Observation] = ()


def _always() -> bool:
    return True


class Instruments:
    """Every instrument of one meter provider in one vocabulary."""

    def __init__(
        self,
        provider: MeterProvider | None,
        profile: n.Profile,
        managers: weakref.WeakSet[ObservedManager],
        deferred: Deferred,
    ) -> None:
        self.is_recording = has_meter_provider if provider is None else _always
        """Returns whether what is recorded now goes anywhere."""
        meter = metrics.get_meter(n.SCOPE, __version__, provider)
        vocabulary = n.VOCABULARIES[profile]

        def counter(metric: n.Metric) -> Counter:
            return meter.create_counter(metric.name, metric.unit, metric.description)

        def histogram(metric: n.Metric, bounds: Iterable[float] = n.SECONDS) -> Histogram:
            return meter.create_histogram(
                metric.name,
                metric.unit,
                metric.description,
                explicit_bucket_boundaries_advisory=list(bounds),
            )

        self.generate_duration = histogram(n.GENERATE_DURATION)
        self.generate_attempts = histogram(n.GENERATE_ATTEMPTS, n.COUNTS)
        self.retries = counter(n.RETRIES)
        self.retry_delay = histogram(n.RETRY_DELAYS)
        self.fallbacks = counter(n.FALLBACKS)
        self.transitions = counter(n.TRANSITIONS)
        self.rejections = counter(n.REJECTIONS)
        self.waits = histogram(n.WAITS)
        self.omissions = counter(n.OMISSIONS)
        self.cache_requests = counter(n.CACHE_REQUESTS)
        self.cache_duration = histogram(n.CACHE_DURATION)
        self.cost = counter(n.COSTS)
        self._durations = [histogram(metric) for metric in vocabulary.durations]
        self._first_chunks = [histogram(metric) for metric in vocabulary.first_chunks]
        records: dict[str, Record] = {}  # an SDK warns of an instrument that is created twice
        for each in vocabulary.tokens:
            if each.metric.name not in records:
                records[each.metric.name] = (
                    counter(each.metric).add
                    if each.kind == "counter"
                    else histogram(each.metric, n.TOKENS).record
                )
        self._tokens = [(records[each.metric.name], each) for each in vocabulary.tokens]
        self._labels: dict[tuple[str, str, str], ModelLabels] = {}
        self._managers = managers
        self.deferred = deferred
        """Measurements that are recorded at the next collection."""
        for metric, callback in (
            (n.BREAKER_STATE_GAUGE, self._states),
            (n.BREAKER_FAILURE_RATE, self._rates),
        ):
            meter.create_observable_gauge(metric.name, [callback], metric.unit, metric.description)
        for metric, callback in ((n.FLEET_UP, self._up), (n.FLEET_PROCESSES, self._processes)):
            meter.create_observable_gauge(metric.name, [callback], metric.unit, metric.description)
        for metric, field in _FLEET_COUNTERS.items():
            meter.create_observable_counter(
                metric.name,
                [functools.partial(self._count, field)],
                metric.unit,
                metric.description,
            )
        meter.create_observable_counter(
            n.FLEET_FAULTS.name, [self._faults], n.FLEET_FAULTS.unit, n.FLEET_FAULTS.description
        )
        meter.create_observable_up_down_counter(
            n.GENERATE_ACTIVE.name,
            [self._active],
            n.GENERATE_ACTIVE.unit,
            n.GENERATE_ACTIVE.description,
        )

    def observe(self, manager: ObservedManager) -> None:
        """Report the breakers and active requests of `manager` as long as it exists."""
        self._managers.add(manager)

    def labels(self, provider: str, model: str, model_id: str) -> ModelLabels:
        """The attributes of attempts at one model, built once."""
        key = (provider, model, model_id)
        found = self._labels.get(key)
        if found is None:
            found = self._labels[key] = ModelLabels(provider, model, model_id)
        return found

    def request(
        self,
        outcome: CallOutcome,
        attempts: int,
        seconds: float,
        error_type: str | None,
        labels: ManagerLabels,
    ) -> None:
        """Record one finished request."""
        own = labels.outcomes[outcome]
        if attempts:
            self.generate_attempts.record(attempts, own)
        if error_type is not None:
            own = {**own, n.ERROR_TYPE: error_type}
        self.generate_duration.record(seconds, own)

    def look_up(self, result: CacheResult, seconds: float, labels: ManagerLabels) -> None:
        """Record one look-up in the response cache."""
        own = labels.cache_results[result]
        self.cache_requests.add(1, own)
        if own[n.CACHE_RESULT] != "bypass":
            self.cache_duration.record(seconds, labels.cache_get)

    def attempt(self, entry: Entry, labels: Attributes, usage: Usage | None) -> None:
        """Record one settled attempt at the model of these `labels`."""
        measured, outcome = labels, entry.outcome
        if outcome == "failure":
            measured = {**labels, n.ERROR_TYPE: n.listed(entry.error_type)}
        elif outcome == "abandoned":
            measured = {**labels, n.ERROR_TYPE: "cancelled"}
        for duration in self._durations:
            duration.record(entry.duration, measured)
        if (first_token := entry.first_token) is not None:
            for first_chunk in self._first_chunks:
                first_chunk.record(first_token, labels)
        for feature in entry.omitted:
            self.omissions.add(1, {**labels, n.FEATURE: feature})
        if usage is not None and (usage.input_tokens or usage.output_tokens):
            for record, each in self._tokens:
                record(getattr(usage, each.field), {**labels, **each.attributes})
        if cost := entry.cost:
            self.cost.add(cost, {**labels, n.COST_ESTIMATED: entry.cost_estimated})

    @guarded(_NO_OBSERVATIONS)
    def _states(self, _: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(int(each == state.replace("-", "_")), {**own, n.BREAKER_STATE: each})
            for own, state, _rate in self._breakers()
            for each in n.BREAKER_STATES
        ]

    @guarded(_NO_OBSERVATIONS)
    def _rates(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(rate, own) for own, _state, rate in self._breakers()]

    @guarded(_NO_OBSERVATIONS)
    def _active(self, _: CallbackOptions) -> Iterable[Observation]:
        self.deferred.record()  # an SDK calls this first, then collects what was recorded
        return [Observation(len(each.active), {n.MANAGER: each.name}) for each in self._managers]

    @guarded(_NO_OBSERVATIONS)
    def _up(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(int(found["state"] == "up"), own) for own, found in self._fleets()]

    @guarded(_NO_OBSERVATIONS)
    def _processes(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(found["processes"], own) for own, found in self._fleets()]

    @guarded(_NO_OBSERVATIONS)
    def _count(self, field: str, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(found[field], own) for own, found in self._fleets()]

    @guarded(_NO_OBSERVATIONS)
    def _faults(self, _: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(count, {**own, n.FAULT: kind})
            for own, found in self._fleets()
            for kind, count in {**_NO_FAULTS, **found["faults"]}.items()
        ]

    def _fleets(self) -> Iterable[tuple[Attributes, Mapping[str, Any]]]:
        for manager in list(self._managers):
            found = manager.fleet()
            if found is not None:
                yield {n.MANAGER: manager.name}, found

    def _breakers(self) -> Iterable[tuple[Attributes, str, float]]:
        for manager in list(self._managers):
            for name, (state, rate) in manager.breakers().items():
                yield {n.BREAKER: name, n.MANAGER: manager.name}, state, rate


_FLEET_COUNTERS: Final = {
    n.FLEET_QUESTIONS: "questions",
    n.FLEET_ALONE: "alone",
    n.FLEET_ROUND_TRIPS: "round_trips",
    n.FLEET_ROUND_TRIP_TIME: "round_trip_seconds",
}
_NO_FAULTS: Final = {"TimeoutError": 0, "ConnectionError": 0}
"""Faults that are shown before they happen, so that the first one is a change."""

_CACHE_RESULTS: Final = {"hit": "hit", "shared": "hit", "miss": "miss", "error": "error"}


class ModelLabels:
    """The attributes of the attempts at one model, built once.

    Every value is from the configuration: a model name that a response reports, which is not, is
    set at the end of a span only.
    """

    __slots__ = ("_first", "measured", "title")

    def __init__(self, provider: str, model: str, model_id: str) -> None:
        self.title = f"{n.CHAT} {model_id}"
        """The name of a span."""
        self.measured: Attributes = {
            n.OPERATION: n.CHAT,
            n.PROVIDER: n.provider_name(provider),
            n.REQUEST_MODEL: model_id,
            n.MODEL: model,
        }
        """The attributes of a measurement."""
        self._first: Attributes = {**self.measured, n.ATTEMPT_NUMBER: 1, n.ROUTE_INDEX: 0}

    def of_span(self, number: int, index: int) -> Attributes:
        """A new dict of the attributes with which the span of an attempt starts."""
        attributes = self._first.copy()  # half the time of a new dict
        if number != 1:
            attributes[n.ATTEMPT_NUMBER] = number
        if index:
            attributes[n.ROUTE_INDEX] = index
        return attributes


class ManagerLabels:
    """The attributes of the requests of one manager, built once."""

    def __init__(self, manager: str) -> None:
        own = {n.MANAGER: manager}
        self.own: Attributes = own
        self.outcomes: dict[CallOutcome, Attributes] = {
            outcome: {**own, n.OUTCOME: outcome} for outcome in get_args(CallOutcome)
        }
        self.cache_results: dict[CacheResult, Attributes] = {
            result: {**own, n.CACHE_RESULT: _CACHE_RESULTS.get(result, "bypass")}
            for result in get_args(CacheResult)
        }
        self.cache_get: Attributes = {**own, n.CACHE_OPERATION: "get"}


class ObservedManager:
    """What the observable instruments read of one manager; exists as long as the manager."""

    def __init__(self, name: str, breakers: Breakers, fleet: FleetState) -> None:
        self.name = name
        self.breakers = breakers
        self.fleet = fleet
        self.active: set[object] = set()
        """The requests under way. A set needs no lock to add and remove them."""


class _ProviderInstruments:
    """The instruments of one provider, by profile.

    They share their managers and what is deferred: an SDK keeps only the first callback of an
    observable instrument.
    """

    def __init__(self) -> None:
        self.by_profile: dict[n.Profile, Instruments] = {}
        self.managers: weakref.WeakSet[ObservedManager] = weakref.WeakSet()
        self.deferred = Deferred()


_by_provider: weakref.WeakKeyDictionary[Any, _ProviderInstruments] = weakref.WeakKeyDictionary()
_lock = fork_safe_lock()
_NO_INSTRUMENTS: Instruments | None = None


class _Global:
    """Represents the provider that the application sets globally."""


_GLOBAL = _Global()


def instruments_for(provider: MeterProvider | None, profile: n.Profile) -> Instruments:
    """The instruments of `provider` (default: the global one), shared by all managers.

    An SDK refuses to register an instrument twice, so they are kept here as long as the provider
    exists. If the provider raises, its managers record nothing.
    """
    found = _found(provider, profile)
    if found is None:
        found = Instruments(NoOpMeterProvider(), profile, weakref.WeakSet(), Deferred())
    return found


@guarded(_NO_INSTRUMENTS)
def _found(provider: MeterProvider | None, profile: n.Profile) -> Instruments | None:
    with _lock:
        made = _by_provider.setdefault(
            provider if provider is not None else _GLOBAL, _ProviderInstruments()
        )
        if profile not in made.by_profile:
            made.by_profile[profile] = Instruments(provider, profile, made.managers, made.deferred)
        return made.by_profile[profile]
