"""The sixteen scenarios, over real sockets and the vendors' SDKs, with no option set.

The manager gets a clock that does not wait between attempts. Only the time limit of a silent model
passes in real time: `share` replaces the constant behind the default, which `test_time.py` holds.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any, Self

import pytest

from agentkit import LLMManager, Response
from agentkit import errors as e
from agentkit.policy import deadline
from agentkit.testing import FakeClock, WireServer, faults
from tests.failover.scenarios import (
    ANSWER,
    SCENARIOS,
    SECOND,
    History,
    Outcome,
    Scenario,
)

pytestmark = pytest.mark.wire

PAIRS = {
    "openai": ("openai:gpt-primary", "openai:gpt-fallback"),
    "anthropic": ("anthropic:claude-3-primary", "anthropic:claude-3-fallback"),
    "mixed": ("openai:gpt-primary", "anthropic:claude-3-fallback"),
}

each_pair = pytest.mark.parametrize("pair", PAIRS)
each_mode = pytest.mark.parametrize("mode", ["sync", "async"])
SINGLE = [each for each in SCENARIOS if isinstance(each, Scenario)]
complete_or_stream = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])


def name_of(scenario: Scenario) -> str:
    return scenario.name


@pytest.fixture(scope="module", name="shared_server")
def _shared_server() -> Iterator[WireServer]:
    with WireServer(reply=ANSWER) as running:
        yield running


@pytest.fixture
def server(shared_server: WireServer, monkeypatch: pytest.MonkeyPatch) -> WireServer:
    """A provider at the addresses in the environment: a model needs nothing but its name."""
    monkeypatch.setenv("AGENTKIT_CACHE", "memory")  # as a test run of a user has it
    monkeypatch.setenv("OPENAI_API_KEY", "made-up")
    monkeypatch.setenv("OPENAI_BASE_URL", shared_server.openai_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "made-up")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", shared_server.anthropic_url)
    shared_server.clear()
    return shared_server


class Clients:
    """A manager, and one way to use it."""

    def __init__(self, pair: str, mode: str, *, stream: bool, **options: Any) -> None:
        self.clock = FakeClock()
        self.primary, self.fallback = PAIRS[pair]
        self.llm = LLMManager(clock=self.clock, **options)
        self.llm.register_model("primary", self.primary)
        self.llm.register_model("fallback", self.fallback)
        self.llm.set_fallback_chain(["primary", "fallback"])
        self.stream = stream
        self.runner = asyncio.Runner() if mode == "async" else None

    def ask(self, prompt: str = "What is the capital of France?", **options: Any) -> Response[Any]:
        if self.runner is not None:
            return self.runner.run(self._aask(prompt, options))
        if not self.stream:
            return self.llm.complete(prompt, **options)
        with self.llm.stream(prompt, **options) as opened:
            list(opened.events())
        return opened.response

    async def _aask(self, prompt: str, options: dict[str, Any]) -> Response[Any]:
        if not self.stream:
            return await self.llm.acomplete(prompt, **options)
        async with self.llm.astream(prompt, **options) as opened:
            async for _ in opened.events():
                pass
        return opened.response

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.runner is None:
            self.llm.close()
            return
        self.runner.run(self.llm.aclose())
        self.runner.close()


def act(
    scenario: Scenario,
    expected: Outcome,
    server: WireServer,
    clients: Clients,
    monkeypatch: pytest.MonkeyPatch,
    **options: Any,
) -> None:
    """Ask once, and compare the outcome, the ledger and the requests that arrived."""
    if scenario.share is not None:  # connecting for the first time takes longer than that
        clients.ask("warm up")
        server.clear()
        monkeypatch.setattr(deadline, "LONGEST_SHARE", scenario.share)
    provider, _, model = clients.primary.partition(":")
    if scenario.once:
        server.script(scenario.of(provider), model=model)
    else:
        server.always(scenario.of(provider), model=model)
    server.always(scenario.fallback or SECOND, model=clients.fallback.partition(":")[2])
    partial = ""
    try:
        reply = clients.ask(**options)
    except e.LLMError as error:
        got, ledger, partial = type(error).__name__, error.ledger, getattr(error, "partial", "")
    else:
        got, ledger = reply.ledger.answered_by or "", reply.ledger
        assert reply.text == (ANSWER if got == "primary" else SECOND)
    assert ledger is not None
    sent = [entry.model for entry in ledger.sent]
    assert (got, sent.count("primary")) == (expected.caller, expected.attempts), str(ledger)
    arrived = [request.model.rpartition("-")[2] for request in server.requests]
    assert arrived == sent
    if got == "StreamInterruptedError":
        assert partial
        assert ANSWER.startswith(partial)


@pytest.mark.parametrize("scenario", SINGLE, ids=name_of)
@complete_or_stream
@each_mode
@each_pair
def test_no_option_is_needed(
    scenario: Scenario,
    pair: str,
    mode: str,
    stream: bool,
    server: WireServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = scenario.stream if stream else scenario.complete
    with Clients(pair, mode, stream=stream) as clients:
        act(scenario, expected, server, clients, monkeypatch)
        if scenario.name == "429 with Retry-After":
            assert clients.clock.sleeps[0] >= 1.0


@pytest.mark.parametrize("scenario", [each for each in SINGLE if each.option], ids=name_of)
@each_mode
@each_pair
def test_an_option_changes_the_outcome_of_a_stream(
    scenario: Scenario, pair: str, mode: str, server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = scenario.option
    assert option is not None
    with Clients(pair, mode, stream=True, **option.of_manager) as clients:
        act(scenario, option.stream, server, clients, monkeypatch, **option.of_call)


@each_mode
@each_pair
def test_a_content_filter_may_be_a_reason_for_a_fallback(
    pair: str, mode: str, server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scenario,) = (each for each in SINGLE if each.name == "content filter")
    assert scenario.option is not None
    assert scenario.option.complete is not None
    with Clients(pair, mode, stream=False, **scenario.option.of_manager) as clients:
        act(scenario, scenario.option.complete, server, clients, monkeypatch)


@complete_or_stream
@each_mode
@each_pair
def test_a_primary_that_recovers(pair: str, mode: str, stream: bool, server: WireServer) -> None:
    with Clients(pair, mode, stream=stream) as clients:
        model = clients.primary.partition(":")[2]
        server.always(faults.status(503), model=model)
        sick = [clients.ask(f"question {number}").ledger for number in range(4)]
        assert [each.answered_by for each in sick] == ["fallback"] * 4
        assert [len(each.sent) for each in sick] == [4, 3, 1, 1], "five failures open the breaker"
        server.always(ANSWER, model=model)
        assert clients.ask("too early").ledger.answered_by == "fallback"
        clients.clock.advance(60.0)
        well = [clients.ask(f"and now {number}").ledger for number in range(2)]
        assert [str(each) for each in well] == ["primary ✓", "primary ✓"]


@complete_or_stream
@each_mode
@each_pair
def test_every_request_is_accounted_for(
    pair: str, mode: str, stream: bool, server: WireServer
) -> None:
    with Clients(pair, mode, stream=stream) as clients:
        model = clients.primary.partition(":")[2]
        server.script(faults.status(500), model=model)
        retried = clients.ask("two words")
        server.always(faults.status(503), model=model)
        fallen_back = clients.ask("three more words")
        cached = clients.ask("two words")
        metrics, server_saw = clients.llm.get_metrics(), server.requests
        of_model = [clients.llm.get_model_info(name)["stats"] for name in ("primary", "fallback")]
    assert [(entry.model, entry.error_type, entry.status) for entry in retried.ledger] == [
        ("primary", "500", 500),
        ("primary", None, None),
    ]
    assert str(fallen_back.ledger) == "primary ✗ 503 · primary ✗ 503 · primary ✗ 503 · fallback ✓"
    assert (cached.cached, len(cached.ledger.sent)) == (True, 0)
    assert len(server_saw) == len(retried.ledger.sent) + len(fallen_back.ledger.sent) == 6
    assert [(each["requests"], each["failures"]) for each in of_model] == [(5, 4), (1, 0)]
    spent = retried.usage.total_tokens + fallen_back.usage.total_tokens
    assert retried.usage.output_tokens == len(ANSWER.split())
    assert spent == sum(
        entry.input_tokens + entry.output_tokens for entry in (*retried.ledger, *fallen_back.ledger)
    )
    assert {name: metrics[name] for name in _COUNTED} == {
        "total_requests": 3,
        "successful_requests": 3,
        "failed_requests": 0,
        "cache_hits": 1,
        "total_retries": 3,
        "total_tokens": spent,
    }


_COUNTED = (
    "total_requests",
    "successful_requests",
    "failed_requests",
    "cache_hits",
    "total_retries",
    "total_tokens",
)


def test_every_scenario_is_acted_out() -> None:
    tests = {name for name in vars(sys.modules[__name__]) if name.startswith("test_")}
    assert len(SCENARIOS) == 16
    assert {each.test for each in SCENARIOS if isinstance(each, History)} <= tests
