"""The fault table: each fault, provider and way of asking, over real sockets and real SDKs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from agentkit import BreakerPolicy, CircuitBreaker, LLMManager, Response, RetryPolicy
from agentkit import errors as e
from agentkit.providers.transport import size_limit
from agentkit.testing import WireServer, faults
from agentkit.types import Request
from tests.helpers import with_backup
from tests.providers.contract import ADAPTERS, ANSWER, CASES, Row, rows


class Found(NamedTuple):
    """The text of an answer or the name of an error, and how a call came to it."""

    text: str
    raised: str
    ledger: Any
    failures: int
    in_a_row: int


class Stage:
    """One server, one event loop and one adapter a provider: connections are kept, as in life."""

    def __init__(self, server: WireServer, runner: asyncio.Runner) -> None:
        self.server = server
        self.runner = runner
        self.adapters = {name: each.make(server) for name, each in ADAPTERS.items()}
        for adapter in self.adapters.values():  # an SDK's import takes longer than a silence here
            adapter.send(Request(prompt="warm up"))

    def close(self) -> None:
        for each in self.adapters.values():
            self.runner.run(each.aclose())

    def ask(self, llm: LLMManager, mode: str, *, stream: bool) -> Response[Any]:
        if mode == "async":
            return self.runner.run(_aask(llm, stream=stream))
        return _ask(llm, stream=stream)

    def play(self, group: list[Row]) -> list[Found]:
        """What each row of a group comes to; they are asked at the same time."""
        first = group[0]
        outcome = CASES[first.fault].outcome
        if not isinstance(outcome, faults.Fault | Response):
            outcome = outcome(ADAPTERS[first.provider])
        self.server.clear()
        self.server.always(outcome)
        patience = CASES[first.fault].expected(stream=first.stream).patience or 20.0
        breakers = [CircuitBreaker(policy=BreakerPolicy(failure_threshold=99)) for _ in group]
        with ExitStack() as closing:
            managers = [
                closing.enter_context(
                    with_backup(self.adapters[row.provider], breaker=breaker, timeout=patience)
                )
                for row, breaker in zip(group, breakers, strict=True)
            ]
            replies = self._ask_all(managers, first.mode, stream=first.stream)
        found = []
        for reply, breaker in zip(replies, breakers, strict=True):
            failed = isinstance(reply, e.LLMError)
            figures = breaker.statistics()
            found.append(
                Found(
                    text="" if failed else reply.text,
                    raised=type(reply).__name__ if failed else "",
                    ledger=reply.ledger,
                    failures=figures.failures,
                    in_a_row=figures.consecutive_failures,
                )
            )
        return found

    def _ask_all(self, managers: list[LLMManager], mode: str, *, stream: bool) -> list[Any]:
        """The response or the error of each."""

        def ask(llm: LLMManager) -> Any:
            try:
                return _ask(llm, stream=stream)
            except e.LLMError as error:
                return error

        async def aask(llm: LLMManager) -> Any:
            try:
                return await _aask(llm, stream=stream)
            except e.LLMError as error:
                return error

        async def aask_all() -> list[Any]:
            return await asyncio.gather(*map(aask, managers))

        if mode == "async":
            return self.runner.run(aask_all())
        if len(managers) == 1:
            return [ask(managers[0])]
        with ThreadPoolExecutor(len(managers)) as threads:
            return list(threads.map(ask, managers))


def _ask(llm: LLMManager, *, stream: bool) -> Response[Any]:
    if not stream:
        return llm.complete("capital?")
    with llm.stream("capital?") as opened:
        list(opened.events())
    return opened.response


async def _aask(llm: LLMManager, *, stream: bool) -> Response[Any]:
    if not stream:
        return await llm.acomplete("capital?")
    async with llm.astream("capital?") as opened:
        async for _ in opened.events():
            pass
    return opened.response


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with WireServer(reply=ANSWER) as server, asyncio.Runner() as runner:
        made = Stage(server, runner)
        yield made
        made.close()


def groups() -> list[list[Row]]:
    """The rows of the table; where only a time limit ends an attempt, all providers at once."""
    grouped: dict[tuple[object, ...], list[Row]] = {}
    for row in rows():
        provider = row.provider if CASES[row.fault].patience is None else None
        grouped.setdefault((row.fault, provider, row.mode, row.stream), []).append(row)
    return list(grouped.values())


def name_of(group: list[Row]) -> str:
    first = group[0]
    provider = first.provider if len(group) == 1 else "all"
    return f"{first.fault}-{provider}-{first.mode}-{'stream' if first.stream else 'complete'}"


@pytest.mark.promise("N12", "S2-22", "S2-33", "S2-34")
@pytest.mark.wire
@pytest.mark.parametrize("group", groups(), ids=name_of)
def test_each_fault_has_the_outcome_of_the_table(group: list[Row], stage: Stage) -> None:
    for row, found in zip(group, stage.play(group), strict=True):
        assert found.raised == row.raises, row
        assert found.text == ("" if row.raises else "from backup"), row
        assert found.ledger is not None, row
        sent = [entry for entry in found.ledger.sent if entry.model == "primary"]
        assert [entry.error for entry in sent] == [row.error] * row.attempts, row
        failed = row.attempts if row.blame == "failure" else 0
        uncounted = {"neutral": row.attempts, "in vain": 1}.get(row.blame, 0)
        assert (found.failures, found.in_a_row) == (failed, row.attempts - uncounted), row


@pytest.mark.wire
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("provider", ADAPTERS)
def test_a_refused_connection_is_a_network_error(
    provider: str, mode: str, stream: bool, stage: Stage
) -> None:
    with WireServer() as gone:
        adapter = ADAPTERS[provider].make(gone)
    breaker = CircuitBreaker(policy=BreakerPolicy(failure_threshold=99))
    with with_backup(adapter, breaker=breaker) as llm:
        reply = stage.ask(llm, mode, stream=stream)
    stage.runner.run(adapter.aclose())
    assert [entry.error for entry in reply.ledger.sent[:2]] == ["NetworkError"] * 2
    assert breaker.statistics().failures == 2


@pytest.mark.wire
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("provider", ADAPTERS)
def test_a_redirect_never_takes_the_prompt_to_another_server(
    provider: str, mode: str, stream: bool, stage: Stage
) -> None:
    with WireServer(reply="from elsewhere") as elsewhere:
        place = ADAPTERS[provider].url(elsewhere)
        stage.server.clear()
        stage.server.always(faults.status(308, headers=(("location", place),)))
        with with_backup(stage.adapters[provider]) as llm:
            reply = stage.ask(llm, mode, stream=stream)
        assert (reply.text, len(elsewhere.requests)) == ("from backup", 0)


@pytest.mark.wire
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("outcome", ["answer " * 2000, faults.status(500, message="x" * 14000)])
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("provider", ADAPTERS)
def test_a_response_that_is_too_large_is_not_read_to_its_end(
    provider: str,
    mode: str,
    stream: bool,
    outcome: Any,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(size_limit, "LARGEST", 10_000)
    stage.server.clear()
    stage.server.always(outcome)
    before = stage.server.connections
    with LLMManager(enable_caching=False, retry=RetryPolicy(max_attempts=1)) as llm:
        llm.register_model("only", stage.adapters[provider])
        for _ in range(2):  # the first may have the connection of another test
            with pytest.raises(e.InvalidResponseError) as caught:
                stage.ask(llm, mode, stream=stream)
            assert "10000 bytes" in f"{caught.value} {caught.value.__cause__}"
    stage.server.wait_until(lambda server: server.connections <= before, timeout=1.0)


@pytest.mark.promise("N12", "S2-32", "S2-34")
@pytest.mark.wire
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("provider", ADAPTERS)
def test_after_a_fault_the_same_adapter_answers(
    provider: str, mode: str, stream: bool, stage: Stage
) -> None:
    stage.server.clear()
    stage.server.script(faults.cut_stream(0, reset=True), faults.status(503))
    llm = LLMManager(enable_caching=False, retry=RetryPolicy(max_attempts=3, base_delay=0.002))
    with llm:
        llm.register_model("only", stage.adapters[provider])
        reply = stage.ask(llm, mode, stream=stream)
    assert (reply.text, len(reply.ledger.sent)) == (ANSWER, 3)


def test_every_kind_of_fault_is_in_the_table() -> None:
    """Except latency, which cannot be distinguished from silence."""
    roots = {faults.Fault, faults.StreamFault, faults.BrokenStream, faults.Latency}
    kinds = {each for each in vars(faults).values() if isinstance(each, type)} - {Response}
    assert kinds - roots <= {type(case.outcome) for case in CASES.values()}
