"""Metrics of the store of a fleet."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from agentkit import LLMManager, Telemetry
from agentkit.testing import ScriptedModel
from tests.helpers import until


def fleet_points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    found = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
    return {
        each.name: list(each.data.data_points)
        for each in found
        if each.name.startswith("agentkit.fleet.")
    }


def test_a_lost_store_is_seen_and_without_a_fleet_there_is_nothing() -> None:
    reader = InMemoryMetricReader()
    telemetry = Telemetry(meter_provider=MeterProvider([reader]))
    with LLMManager(telemetry=telemetry, cache="memory") as alone:
        alone.register_model("m", ScriptedModel(then="fine"), {"version": "1"})
        alone.generate("hi")
        assert not any(fleet_points(reader).values())
    with LLMManager(
        telemetry=telemetry, cache="memory", fleet="unix:///nowhere/socket", name="lost"
    ) as lost:
        until(lambda: lost.get_status()["fleet"]["state"] == "down")
        lost.register_model("m", ScriptedModel(then="fine"), {"version": "1"})
        lost.generate("hi")
        points = fleet_points(reader)
        (up,), (processes,), (decided,) = (
            points[f"agentkit.fleet.{name}"] for name in ("up", "processes", "alone")
        )
        assert (up.value, processes.value) == (0, 0)
        assert decided.value >= 1
        assert up.attributes == {"agentkit.manager.name": "lost"}
        faults = {
            each.attributes["agentkit.fleet.fault"]: each.value
            for each in points["agentkit.fleet.faults"]
        }
        assert faults["ConnectionError"] >= 1
        assert faults["TimeoutError"] == 0
