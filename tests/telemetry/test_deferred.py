"""Measurements that wait for the next collection: all arrive, once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from agentkit.errors import OverloadedError
from agentkit.telemetry.deferred import CAPACITY, Deferred
from agentkit.telemetry.otel import Telemetry
from agentkit.testing import ScriptedModel, overloaded
from agentkit.types import Response, Usage
from tests.forks import forks, in_child
from tests.telemetry.observing import LITERAL, Observed, Point

ANSWER: Response[Any] = Response("fine", Usage(2, 3), finish_reason="stop")


def story(**telemetry: Any) -> dict[str, list[Point]]:
    """The points of a retried request, a hit and a failed request."""
    seen = Observed(**telemetry)
    llm = seen.manager(
        ("a", ScriptedModel(overloaded(), ANSWER, then=overloaded())), cache="memory", retry=LITERAL
    )
    llm.generate("hi")
    llm.generate("hi")
    with pytest.raises(OverloadedError):
        llm.generate("again")
    points = {name: seen.points(name) for name in seen.metrics()}
    seen.close()
    for each in points.values():
        each.sort(key=repr)
    return points


def test_what_is_deferred_arrives_as_if_it_was_not() -> None:
    assert story(defer_metrics=True) == story()


def test_nothing_is_lost_between_threads_collections_and_a_full_memory() -> None:
    seen = Observed(defer_metrics=True)
    llm = seen.manager(("a", ScriptedModel(then=ANSWER)))
    calls = CAPACITY // 4  # a call has two measurements

    def work() -> None:
        for _ in range(calls):
            llm.generate("hi")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        seen.metrics()
        threads[0].join(0.01)
    assert seen.one("gen_ai.client.operation.duration")[1][0] == 4 * calls
    assert seen.one("agentkit.generate.duration")[1][0] == 4 * calls
    seen.close()


def test_profiles_of_one_provider_share_what_waits() -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    seen = Observed()
    for profile in ("v1.41", "next", "both"):
        telemetry = Telemetry(meter_provider=meters, profile=profile, defer_metrics=True)
        seen.manager(("a", ScriptedModel(then=ANSWER)), telemetry=telemetry).generate("hi")
    seen.reader = reader
    assert sum(value[0] for _, value in seen.points("agentkit.generate.duration")) == 3
    seen.close()


def test_a_full_memory_is_recorded_by_whoever_fills_it() -> None:
    deferred, recorded = Deferred(), list[int]()
    for number in range(CAPACITY - 1):
        deferred.add(recorded.append, (number,))
    assert recorded == []
    deferred.add(recorded.append, (CAPACITY - 1,))
    assert recorded == list(range(CAPACITY))


def test_a_measurement_that_cannot_be_recorded_keeps_none_of_the_others() -> None:
    deferred, recorded = Deferred(), list[int]()
    deferred.add(recorded.append, (1,))
    deferred.add(recorded.remove, (7,))
    deferred.add(recorded.append, (2,))
    deferred.record()
    assert recorded == [1, 2]


@forks
def test_the_parent_records_what_it_measured() -> None:
    deferred, recorded = Deferred(), list[int]()
    deferred.add(recorded.append, (1,))

    def work() -> object:
        deferred.record()
        return recorded

    assert in_child(work) == "[]"
    deferred.record()
    assert recorded == [1]
