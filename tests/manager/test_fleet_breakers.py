"""Managers that share the circuit of a model through a store."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import BreakerPolicy, CircuitBreaker, LLMManager
from agentkit.errors import CircuitOpenError, ServerError
from agentkit.state.questions import NEWS
from tests.forks import forks, in_child
from tests.helpers import Ask, each_way, generate, until
from tests.state.servers import Server

pytestmark = pytest.mark.usefixtures("quick_heartbeat")

LONG = BreakerPolicy(failure_threshold=4, recovery_timeout=60.0)
SHORT = BreakerPolicy(failure_threshold=4, recovery_timeout=0.3)


class Provider:
    """A provider that is down until it is not."""

    def __init__(self) -> None:
        self.calls = 0
        self.up = False

    def __call__(self, prompt: str, options: dict[str, Any]) -> str:
        self.calls += 1
        if not self.up:
            raise ServerError("down", provider="custom", status=500)
        return "answer"


@pytest.fixture
def provider() -> Provider:
    return Provider()


class Process:
    """A manager, which is a process of the fleet, with the transitions of its breaker."""

    def __init__(self, url: str, provider: Any, policy: BreakerPolicy) -> None:
        self.moves: list[tuple[str, str]] = []
        self.llm = LLMManager(fleet=url, cache=None, max_retries=1, breaker=policy)
        self.llm.register_model("m", provider)
        breaker = self.llm.registry.get("m").breaker
        assert breaker is not None
        breaker.add_listener(lambda _, before, after: self.moves.append((before, after)))
        until(lambda: self.circuit["state"] != "unknown")

    @property
    def state(self) -> str:
        found: str = self.llm.get_model_info("m")["circuit_breaker_state"]
        return found

    @property
    def circuit(self) -> dict[str, Any]:
        found: dict[str, Any] = self.llm.get_status()["fleet"]["circuits"]["m"]
        return found

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(ServerError):
                generate(self.llm)


@pytest.fixture
def make(server: Server, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made: list[Process] = []

    def start(host: str = "a", policy: BreakerPolicy = LONG, url: str | None = None) -> Process:
        monkeypatch.setenv("AGENTKIT_FLEET_HOST", host)
        process = Process(url or server.url, provider, policy)
        made.append(process)
        return process

    yield start
    for each in made:
        each.llm.close()


def opened(*processes: Process) -> None:
    """Let the first two open the circuit, and all hear of it."""
    first, second, *_ = processes
    first.fail(2)
    second.fail(2)
    until(lambda: all(each.state == "open" for each in processes))


@each_way
def test_a_circuit_that_two_processes_open_is_open_for_all(make: Any, ask: Ask) -> None:
    processes = [make("a"), make("b"), make("c")]
    opened(*processes)
    third = processes[2]
    until(lambda: third.moves == [("closed", "open")])
    with pytest.raises(
        CircuitOpenError, match=r"the fleet's circuit is open until .* by a, b"
    ) as caught:
        ask(third.llm)
    wait, ledger = caught.value.retry_after, caught.value.ledger
    assert wait is not None
    assert ledger is not None
    assert 50 < wait <= 60
    assert (ledger[0].reason, ledger[0].breaker) == ("circuit_open", "open")
    assert "circuit_open (the fleet's circuit is open until" in ledger.explain()
    assert third.circuit["state"] == "open"
    assert third.circuit["reported_by"] == ["a", "b"]
    assert 50 < third.circuit["retry_after"] <= 60


def test_the_circuit_of_a_host_with_a_broken_network_is_its_own(make: Any) -> None:
    broken, other = make("a"), make("b")
    broken.fail(4)
    assert broken.state == "open"
    assert broken.circuit["state"] == "closed"
    with pytest.raises(CircuitOpenError) as caught:
        generate(broken.llm)
    assert "fleet" not in str(caught.value)
    assert other.state == "closed"


def test_one_probe_closes_the_circuit_for_all(make: Any, provider: Provider) -> None:
    processes = [make(host, SHORT) for host in ("a", "b", "c")]
    opened(*processes)
    provider.up, provider.calls = True, 0
    until(lambda: _answers(processes[0]))
    assert provider.calls == 1
    until(lambda: all(each.state == "closed" for each in processes))
    until(lambda: processes[2].moves == [("closed", "open"), ("open", "closed")])


def test_a_probe_that_fails_is_one_for_all(make: Any, provider: Provider) -> None:
    # After the probe, all are looked at before the next one is due, also on a busy machine.
    policy = BreakerPolicy(failure_threshold=4, recovery_timeout=1.5)
    processes = [make(host, policy) for host in ("a", "b", "c")]
    opened(*processes)
    provider.calls = 0
    until(lambda: _answers(processes[0]) or provider.calls > 0)
    until(lambda: all(each.circuit["retry_after"] > 0 for each in processes))
    for each in processes:
        assert not _answers(each)
    assert provider.calls == 1


def test_a_process_that_starts_during_an_outage_sends_nothing(
    make: Any, provider: Provider
) -> None:
    opened(make("a"), make("b"))
    provider.calls = 0
    late = make("c")
    until(lambda: late.state == "open")
    assert not _answers(late)
    assert provider.calls == 0


def test_a_reset_closes_the_circuit_of_all(make: Any, provider: Provider) -> None:
    processes = [make("a"), make("b"), make("c")]
    opened(*processes)
    provider.up = True
    processes[2].llm.reset_circuit_breaker("m")
    until(lambda: all(each.state == "closed" for each in processes))
    assert all(_answers(each) for each in processes)


def test_a_flushed_store_gets_the_circuit_back(make: Any, server: Server) -> None:
    processes = [make("a"), make("b"), make("c")]
    opened(*processes)
    server.run("FLUSHALL")
    until(lambda: len(server.run("KEYS", "ak1:*b")) == 1)
    last = make("d")
    until(lambda: last.state == "open")
    assert [each.moves for each in processes] == [[("closed", "open")]] * 3
    assert processes[2].circuit["reported_by"] == ["a", "b"]


@pytest.mark.parametrize("failure", ["paused", "killed"])
def test_without_the_store_each_process_probes_alone(
    make: Any, server: Server, provider: Provider, failure: str
) -> None:
    processes = [make(host, SHORT) for host in ("a", "b", "c")]
    opened(*processes)
    provider.calls = 0
    server.pause() if failure == "paused" else server.kill()
    for each in processes:
        until(functools.partial(_has_probed, each, provider))
        assert provider.calls == 1
        provider.calls = 0
        assert each.state == "open"
    server.resume() if failure == "paused" else server.start()


def test_news_that_were_lost_are_read_again(make: Any, server: Server) -> None:
    processes = [make(host) for host in ("a", "b", "c")]
    opened(*processes)
    (key,) = server.run("KEYS", "ak1:*b")
    era = int(server.run("HGET", key, "era"))
    server.run("HSET", key, "state", "closed", "era", era + 1)  # without a message
    until(lambda: all(each.state == "closed" for each in processes))


@forks
def test_a_forked_child_hears_of_the_circuit(make: Any, server: Server) -> None:
    first, second, third = (make(host) for host in ("a", "b", "c"))
    until(lambda: third.llm.get_status()["fleet"]["processes"] == 3)

    def child() -> str:
        first.fail(2)
        second.fail(2)
        third.fail()  # connects
        until(lambda: third.state == "open")
        (key,) = server.run("KEYS", "ak1:*b")
        era = int(server.run("HGET", key, "era")) + 1
        server.run("HSET", key, "state", "closed", "era", era)
        server.run("PUBLISH", NEWS, f"circuit\n{key.decode()} closed {era} 0 -1 ")
        until(lambda: third.state == "closed")
        return str(third.circuit["state"])

    assert in_child(child) == "closed"


def test_a_breaker_that_the_user_made_is_not_shared(make: Any, provider: Provider) -> None:
    process = make("a")
    own = CircuitBreaker(failure_threshold=4)
    process.llm.register_model("own", provider, breaker=own)
    assert list(process.llm.get_status()["fleet"]["circuits"]) == ["m"]


def _has_probed(process: Process, provider: Provider) -> bool:
    return _answers(process) or provider.calls > 0


def _answers(process: Process) -> bool:
    try:
        return generate(process.llm) == "answer"
    except (CircuitOpenError, ServerError):
        return False
