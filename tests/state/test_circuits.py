"""How a process shares the circuits of its models, in virtual time."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from agentkit import BreakerPolicy, CircuitBreaker
from agentkit.policy.breaker import Permit
from agentkit.state.circuits import SharedCircuits, host_name
from agentkit.state.local import LocalState
from benchmarks.simulation import Member, World

pytestmark = pytest.mark.flows
POLICY = BreakerPolicy(failure_threshold=4, recovery_timeout=10.0, minimum_calls=10)


class Fleet:
    """Processes on hosts of their own, which share one circuit."""

    def __init__(self, *hosts: str, policy: BreakerPolicy = POLICY) -> None:
        self.world = World()
        self.state = LocalState(lambda: 10**12 + int(self.world.now * 1000), self._publish)
        self.members: list[Member] = []
        self.silent = False
        self.processes = [Process(self, host, policy) for host in hosts]
        self.run(0.5)

    def _publish(self, _channel: str, message: bytes) -> None:
        topic, _, rest = message.partition(b"\n")
        for each in () if self.silent else self.members:
            self.world.after(0.001, functools.partial(each.receive, topic.decode(), rest))

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    @property
    def states(self) -> list[str]:
        return [each.breaker.state for each in self.processes]


class Process:
    def __init__(self, fleet: Fleet, host: str, policy: BreakerPolicy) -> None:
        self.fleet = fleet
        self.member = Member(fleet.world, fleet.state, f"p-{host}", 4)
        fleet.members.append(self.member)
        self.breaker = CircuitBreaker(policy=policy, clock=lambda: fleet.world.now)
        self.circuits = SharedCircuits(self.member, now=lambda: fleet.world.now, host=host)
        self.circuit = self.circuits.share(self.breaker, "model")
        self.member.beat()

    def admit(self) -> Permit | None:
        if self.breaker.state == "closed" or not self.breaker.would_admit():
            return self.breaker.admit()
        question = self.circuit.ask()
        return self.circuit.admit(question, self.member.ask(question), lease=5.0)

    def call(self, outcome: str, times: int = 1) -> None:
        for _ in range(times):
            permit = self.admit()
            assert permit is not None
            getattr(permit, outcome)(*([OSError()] if outcome == "failed" else []))
        self.fleet.run(0.01)


def opened(*hosts: str, policy: BreakerPolicy = POLICY) -> Fleet:
    fleet = Fleet(*hosts, policy=policy)
    fleet.processes[0].call("failed", 2)
    fleet.processes[1].call("failed", 2)
    assert set(fleet.states) == {"open"}
    return fleet


def test_a_process_with_successes_during_the_failures_disputes_the_circuit() -> None:
    fleet = Fleet("a", "b", "c")
    first, second, third = fleet.processes
    moves: list[Any] = []
    third.breaker.add_listener(lambda *move: moves.append(move))
    first.call("failed", 2)
    third.call("succeeded")
    second.call("failed", 2)
    fleet.run(0.1)
    assert fleet.states == ["closed", "closed", "closed"]
    assert moves == []


def test_a_success_before_the_failures_does_not_dispute_them() -> None:
    fleet = Fleet("a", "b", "c")
    fleet.processes[2].call("succeeded")
    fleet.run(1.5)
    fleet.processes[0].call("failed", 2)
    fleet.processes[1].call("failed", 2)
    assert fleet.states == ["open", "open", "open"]


def test_one_probe_of_all_that_ask_at_the_same_time() -> None:
    fleet = opened("a", "b", "c")
    fleet.run(10.0)
    permits = [each.admit() for each in fleet.processes]
    assert [permit is None for permit in permits] == [False, True, True]
    fleet.run(4.0)  # longer than the lease, which is renewed
    assert fleet.processes[1].admit() is None
    assert permits[0] is not None
    permits[0].succeeded()
    fleet.run(0.01)
    assert fleet.states == ["closed", "closed", "closed"]


def test_one_probe_after_the_store_has_forgotten_the_circuit() -> None:
    fleet = opened("a", "b", "c")
    fleet.state.flush()
    fleet.run(1.5)
    assert [each.admit() for each in fleet.processes] == [None] * 3
    fleet.run(8.5)
    permits = [each.admit() for each in fleet.processes]
    assert [permit is None for permit in permits] == [False, True, True]


def test_a_probe_that_hangs_for_too_long_makes_room_for_another() -> None:
    fleet = opened("a", "b")
    fleet.run(10.0)
    first, second = fleet.processes
    assert first.admit() is not None
    fleet.run(9.0)  # five seconds, and the lease
    probe = second.admit()
    assert probe is not None
    probe.failed(OSError())
    fleet.run(0.01)
    assert fleet.states == ["open", "open"]
    assert first.breaker.retry_after > 9.9


@pytest.mark.parametrize("outcome", ["neutral", "abandoned"])
def test_a_probe_without_an_outcome_leaves_its_turn_to_the_next(outcome: str) -> None:
    fleet = opened("a", "b")
    fleet.run(10.0)
    fleet.processes[0].call(outcome)
    assert fleet.processes[1].admit() is not None


def test_probes_of_all_processes_together_reach_the_success_threshold() -> None:
    policy = BreakerPolicy(failure_threshold=4, recovery_timeout=10.0, success_threshold=2)
    fleet = opened("a", "b", "c", policy=policy)
    fleet.run(10.0)
    fleet.processes[0].call("succeeded")
    assert "closed" not in fleet.states
    fleet.processes[1].call("succeeded")
    assert fleet.states == ["closed", "closed", "closed"]


def test_a_message_that_another_one_has_overtaken_is_dropped() -> None:
    fleet = opened("a", "b")
    key, era = fleet.processes[0].circuit.key, 10**12
    fleet.members[0].receive("circuit", f"{key} closed {era} 0 -1 ".encode())
    assert fleet.states == ["open", "open"]


def test_a_process_that_missed_the_news_hears_at_its_first_failure() -> None:
    fleet = Fleet("a", "b", "c")
    fleet.silent = True
    fleet.processes[0].call("failed", 2)
    fleet.processes[1].call("failed", 2)
    assert fleet.states == ["closed", "open", "closed"]
    fleet.processes[2].call("failed")
    assert fleet.states[2] == "open"


def test_a_process_that_missed_the_recovery_reads_it_within_a_second() -> None:
    fleet = opened("a", "b", "c")
    fleet.silent = True
    fleet.run(10.0)
    fleet.processes[0].call("succeeded")
    assert fleet.states[2] == "open"
    fleet.run(1.1)
    assert fleet.states == ["closed", "closed", "closed"]


def test_the_failure_rate_of_several_processes_opens_the_circuit() -> None:
    policy = BreakerPolicy(failure_threshold=99, recovery_timeout=10.0, minimum_calls=10)
    fleet = Fleet("a", "b", "c", policy=policy)
    for _ in range(3):
        for each in fleet.processes[:2]:
            each.call("succeeded")
            each.call("failed")
    fleet.run(2.5)
    assert fleet.states == ["open", "open", "open"]
    assert fleet.processes[2].circuit.statistics()["reported_by"] == ["a", "b"]


def test_each_call_is_in_one_tally() -> None:
    policy = BreakerPolicy(failure_threshold=99, recovery_timeout=10.0, minimum_calls=10)
    fleet = Fleet("a", "b", policy=policy)
    for each in fleet.processes:
        each.call("succeeded", 2)
        each.call("failed", 2)
    fleet.run(5.0)
    assert fleet.states == ["closed", "closed"]


def test_a_host_whose_calls_all_fail_does_not_outvote_the_others_by_its_rate() -> None:
    policy = BreakerPolicy(failure_threshold=99, recovery_timeout=10.0, minimum_calls=40)
    fleet = Fleet("a", "b", "c", policy=policy)
    first, second, _ = fleet.processes
    first.call("failed", 39)
    second.call("succeeded", 9)
    second.call("failed", 1)
    fleet.run(2.5)
    assert fleet.states == ["closed", "closed", "closed"]


def test_two_models_of_a_process_share_the_circuit_of_one_provider() -> None:
    fleet = Fleet("a", "b")
    other = CircuitBreaker(policy=POLICY, clock=lambda: fleet.world.now)
    fleet.processes[0].circuits.share(other, "model")
    fleet.processes[0].call("failed", 2)
    fleet.processes[1].call("failed", 2)
    assert other.state == "open"


def test_a_model_that_nothing_calls_asks_nothing() -> None:
    fleet = Fleet("a")
    asked: list[Any] = []
    fleet.processes[0].member.post = lambda *question: asked.append(question)  # type: ignore[method-assign]
    fleet.run(5.0)
    assert asked == []


def test_the_name_of_the_host_is_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_FLEET_HOST", "node 7;x,y")
    assert host_name() == "node-7-x-y"
    monkeypatch.delenv("AGENTKIT_FLEET_HOST")
    assert host_name() == host_name()
