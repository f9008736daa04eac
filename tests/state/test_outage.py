"""What a fleet sends to a dead model, in virtual time."""

from __future__ import annotations

import pytest

from benchmarks import starvation
from benchmarks.simulation import LATENCY, POLICY, Outage

pytestmark = pytest.mark.flows


def test_attempts_grow_with_probes_and_not_with_workers() -> None:
    for workers in (10, 200):
        found = Outage(workers, shared=True).run()
        in_flight = workers * LATENCY
        probes = 60 / POLICY.recovery_timeout
        assert found["probes"] <= probes
        assert found["attempts"] <= POLICY.failure_threshold + 2 * in_flight + 2 + probes
        assert found["served_again_last_s"] - found["served_again_first_s"] < 1.2  # a call a second


def test_without_a_fleet_they_grow_with_workers() -> None:
    alone = [Outage(workers, shared=False).run()["attempts"] for workers in (1, 20)]
    assert alone[1] == 20 * alone[0]


def test_only_what_is_in_flight_adds_to_the_threshold() -> None:
    outage = starvation.Outage(seed=1, standstill=0.0, shared=True)
    attempts = outage.run()
    assert outage.line is not None
    assert attempts <= outage.line


def test_a_fleet_without_processors_sends_less_than_its_processes_alone() -> None:
    for standstill, most in ((0.05, 30), (0.3, 90)):  # 40 and more alone
        for seed in range(3):
            assert starvation.Outage(seed, standstill=standstill, shared=True).run() <= most
