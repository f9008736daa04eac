"""Each row of the table of failures in the documentation: no call fails, each process continues.

The names of `ROWS` and of the tests in `ELSEWHERE` are the first column of that table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from agentkit import BreakerPolicy, Budget, LLMManager, RateLimits
from agentkit.errors import CircuitOpenError, ServerError
from agentkit.state import questions
from agentkit.state.keeper import SLOW_IN_A_ROW
from agentkit.state.questions import SharedKeys
from agentkit.state.valkey import ValkeyFleet
from agentkit.testing import ScriptedModel
from tests.architecture.tree import ROOT
from tests.helpers import until
from tests.state.proxy import Proxy, proxy_of
from tests.state.servers import Server, any_server

pytestmark = pytest.mark.usefixtures("quick_heartbeat")


class Row(NamedTuple):
    """A failure of the store: how it begins and ends, and the kind of fault that is counted."""

    begin: Callable[[Server, Proxy], Any]
    end: Callable[[Server, Proxy], Any]
    fault: str


def acl(rule: str) -> Callable[[Server, Proxy], Any]:
    return lambda server, _: server.run("ACL", "SETUSER", "default", rule)


def config(name: str, value: str) -> Callable[[Server, Proxy], Any]:
    return lambda server, _: server.run("CONFIG", "SET", name, value)


ROWS = {
    "the server refuses the connection": Row(
        lambda server, _: server.kill(), lambda server, _: server.start(), "ConnectionError"
    ),
    "the server hangs": Row(
        lambda server, _: server.pause(), lambda server, _: server.resume(), "TimeoutError"
    ),
    "the network swallows the replies": Row(
        lambda _, proxy: proxy.hold(), lambda _, proxy: proxy.release(), "TimeoutError"
    ),
    "the network parts a process from the server": Row(
        lambda _, proxy: proxy.cut(), lambda _, proxy: proxy.repair(), "ConnectionError"
    ),
    "the server is full": Row(
        config("maxmemory", "1"), config("maxmemory", "0"), "OutOfMemoryError"
    ),
    "the server is read-only": Row(
        lambda server, _: server.run("REPLICAOF", "127.0.0.1", "1"),
        lambda server, _: server.run("REPLICAOF", "NO", "ONE"),
        "ReadOnlyError",
    ),
    "the server still loads its data": Row(
        lambda _, proxy: proxy.answer(b"-LOADING Valkey is loading the dataset in memory\r\n"),
        lambda _, proxy: proxy.answer(None),
        "BusyLoadingError",
    ),
    "replies come without a question": Row(
        lambda _, proxy: proxy.answer(b":1\r\n:2\r\n"),
        lambda _, proxy: proxy.answer(None),
        "ConnectionError",
    ),
    "the server forbids scripts": Row(acl("-evalsha"), acl("+evalsha"), "NoPermissionError"),
}
ELSEWHERE = {
    "the server takes more than 50 ms ten times in a row": "test_a_slow_server_is_not_used",
    "the server is flushed, or restarted empty": "test_an_empty_server_costs_no_call",
    "the connection works for moments only": (
        "test_a_store_that_comes_back_for_a_moment_holds_no_call, "
        "test_a_store_that_comes_back_for_a_moment_allows_no_more"
    ),
    "a call is cancelled": "test_the_reply_to_a_cancelled_question_is_not_given_to_the_next",
    "an event loop ends while it asks": "test_a_loop_that_ends_while_it_asks_disturbs_no_other",
    "the server fails over and loses writes": "test_failover",
    "this process is late itself": "test_what_has_arrived_when_the_time_is_up_is_in_time",
    "the clock of the server jumps": "test_a_clock_that_jumps_moves_the_end_of_a_lease, "
    "test_a_clock_that_jumps_moves_the_next_probe, "
    "test_a_clock_that_jumps_admits_nothing_over_the_limit",
    "the process forks": "test_a_forked_child_is_another_process_of_the_fleet",
    "the leading process closes its manager, or ends": "test_a_manager_that_is_closed_while_it_"
    "leads_hands_its_call_over_at_once",
    "the leading process is killed": "test_fleet",
    "a message is lost": "test_fleet_breakers",
}


@pytest.fixture
def server() -> Iterator[Server]:
    with any_server() as running:
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with proxy_of(server) as between:
        yield between


def is_down(prompt: str, options: dict[str, Any]) -> str:
    raise ServerError("down", provider="custom", status=503)


def manager(url: str, **options: Any) -> LLMManager:
    """A manager with everything that processes share."""
    llm = LLMManager(fleet=url, cache="memory", max_retries=1, **options)
    limits = RateLimits(requests_per_minute=1000, tokens_per_minute=10**9)
    llm.register_model("m", ScriptedModel(then="fine"), {"version": "1"}, limits=limits)
    llm.register_model("down", is_down, breaker=BreakerPolicy(failure_threshold=2))
    llm.register_model("free", ScriptedModel(then="fine"))
    llm.set_active_model("m")
    until(lambda: llm.get_status()["fleet"]["limits"]["m"]["shared"])
    return llm


def state(llm: LLMManager) -> str:
    found: str = llm.get_status()["fleet"]["state"]
    return found


async def use_own_connection(llm: LLMManager, proxy: Proxy) -> int:
    """Call until the running loop has a connection, beside that of threads and the inbox.

    Returns the number of calls.
    """
    calls = 0
    while proxy.connections < 3:
        await llm.agenerate(f"early {calls}")
        calls += 1
    await asyncio.sleep(0)
    return calls


@pytest.mark.parametrize("name", ROWS)
def test_no_call_fails_and_no_loop_stands_still(name: str, server: Server, proxy: Proxy) -> None:
    row = ROWS[name]
    budget = Budget(tokens=100_000, scope=name, per="month")
    with manager(proxy.url, budget=budget) as llm:
        llm.generate("before")

        async def main() -> int:
            early = await use_own_connection(llm, proxy)
            row.begin(server, proxy)
            calls = asyncio.gather(*(llm.agenerate(f"async {i}") for i in range(20)))
            ticks = 0
            while not calls.done():
                await asyncio.sleep(0)
                ticks += 1
            assert await calls == ["fine"] * 20
            assert ticks > 20 or row.fault != "TimeoutError", "it ran while the calls waited"
            return early

        early = asyncio.run(main())
        assert llm.generate("sync") == "fine"
        until(lambda: state(llm) == "down")
        for error in (ServerError, ServerError, CircuitOpenError):
            with pytest.raises(error):
                llm.generate("hi", model="down")
        spent = budget.spent_tokens
        row.end(server, proxy)
        until(lambda: llm.get_status()["fleet"]["limits"]["m"]["shared"])
        assert row.fault in llm.get_status()["fleet"]["faults"]
        assert llm.get_model_info("down")["circuit_breaker_state"] == "open"
        until(lambda: server.counted_requests() >= 22 + early)  # a lost reply may have reserved
        other = Budget(tokens=100_000, scope=name, per="month")
        with manager(server.url, budget=other) as witness:
            witness.generate("hi", model="free", max_tokens=1)
            until(lambda: other.spent_tokens > spent)


def test_a_store_that_sends_no_messages_is_not_used(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentkit.state.keeper.CONNECT_TIMEOUT", 0.02)
    proxy.hold_messages()
    heard: list[bytes] = []
    fleet = ValkeyFleet(proxy.url)
    until(lambda: fleet.statistics()["faults"].keys() == {"TimeoutError"})
    assert not fleet.is_up
    monkeypatch.setattr("agentkit.state.keeper.CONNECT_TIMEOUT", 20.0)
    proxy.release_messages()
    until(lambda: fleet.is_up)
    keys = SharedKeys.of("group", "key")
    fleet.subscribe(keys.call, heard.append)
    assert fleet.ask(questions.shared_claim(keys, "other:1", "other")) == questions.LEAD
    assert fleet.ask(questions.shared_claim(keys, f"{fleet.process}:1", fleet.process)) > 0
    fleet.post(questions.shared_complete(keys, "other:1", "answer", b"it", ttl=60.0))
    until(lambda: heard == [b"answer\nit"])
    fleet.close()


def test_a_slow_server_is_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = ValkeyFleet(server.url)
    until(lambda: fleet.state == "up")
    for module in ("line", "patience"):  # each reply takes longer than that
        monkeypatch.setattr(f"agentkit.state.{module}.SLOW", -1.0)
    asked = [fleet.ask(questions.beat("p")) for _ in range(SLOW_IN_A_ROW)]
    assert None not in asked, "a reply that is slow is a reply"
    until(lambda: fleet.ask(questions.beat("p")) is None)
    monkeypatch.undo()
    until(lambda: fleet.state == "up")
    fleet.close()


def test_an_empty_server_costs_no_call(server: Server) -> None:
    with manager(server.url) as llm:
        llm.generate("hi")
        server.kill()
        server.start()
        assert llm.generate("hi") == "fine"
        until(lambda: state(llm) == "up")
        assert llm.generate("there") == "fine"
        until(lambda: len(server.run("KEYS", "ak1:*a")) == 1)


def test_a_clock_that_jumps_moves_the_end_of_a_lease() -> None:
    from agentkit.state.local import LocalState

    now = 100_000
    store, keys = LocalState(lambda: now, lambda *_: None), SharedKeys.of("group", "key")
    claim = questions.shared_claim(keys, "p1:1", "p1"), questions.shared_claim(keys, "p2:1", "p2")
    assert store.ask(claim[0]) == questions.LEAD
    now -= 5_000
    assert store.ask(claim[1]) == questions.LEASE_MS + 5_000
    now += 60_000
    assert store.ask(claim[1]) == questions.LEAD


def test_the_documentation_has_a_row_for_each_failure_that_is_tested() -> None:
    page = (ROOT / "docs" / "how-to" / "fleet.md").read_text(encoding="utf-8")
    section = page.partition("## When something fails")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]
    assert set(rows[1:]) == {*ROWS, *ELSEWHERE}
