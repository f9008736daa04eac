"""The time limits of the scenarios, with the default policies and a scripted provider."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import pytest

from agentkit import LLMManager, RetryPolicy
from agentkit.engine.exchange import COMPLETE, Exchange, StreamExchange
from agentkit.policy.target import Target
from agentkit.testing import faults
from tests.engine.stage import Asked, Stage

pytestmark = pytest.mark.flows

MINUTE = 60.0
exchanges = pytest.mark.parametrize(
    "exchange", [lambda: COMPLETE, lambda: StreamExchange("raise")], ids=["complete", "stream"]
)


def ask(stage: Stage, script: dict[str, Any], exchange: Exchange = COMPLETE) -> Asked:
    """A request with every default of a manager, to two models of an SDK."""
    default = inspect.signature(LLMManager).parameters["deadline"].default
    stops = [sdk_model(stage, name) for name in ("primary", "fallback")]
    return stage.ask(*stops, script=script, exchange=exchange, deadline=default)


def sdk_model(stage: Stage, name: str) -> Target:
    target = stage.target(name, retry=RetryPolicy(), stream=True)
    target.endpoint = replace(target.endpoint, timed=True)
    return target


@exchanges
@pytest.mark.parametrize("outcome", [faults.silence(), faults.slow_first_token(61)])
def test_a_silent_primary_costs_a_minute(exchange: Any, outcome: faults.Fault) -> None:
    asked = ask(Stage(), {"primary": [outcome], "fallback": ["fine"]}, exchange())
    assert (asked.text, asked.played.duration) == ("fine", MINUTE)
    (entry, _) = asked.ledger
    assert (entry.outcome, entry.error_type, entry.reason) == ("failure", "timeout", "time_share")


@exchanges
def test_a_token_within_the_minute_is_waited_for(exchange: Any) -> None:
    slow = faults.slow_first_token(59, reply="at last")
    asked = ask(Stage(), {"primary": [slow], "fallback": ["never"]}, exchange())
    assert (asked.text, asked.played.duration) == ("at last", 59.0)


@exchanges
def test_the_sockets_of_the_primary_may_be_silent_for_a_minute(exchange: Any) -> None:
    asked = ask(Stage(), {"primary": ["fine"], "fallback": ["never"]}, exchange())
    ((_, request),) = asked.played.requests
    assert request.timeout == MINUTE, "so long can a stream stall after its first content"


@exchanges
def test_the_last_model_gets_all_the_time(exchange: Any) -> None:
    slow = faults.slow_first_token(239, reply="at last")
    asked = ask(Stage(), {"primary": [faults.silence()], "fallback": [slow]}, exchange())
    assert (asked.text, asked.played.duration) == ("at last", 299.0)


def test_a_primary_that_is_down_costs_two_pauses() -> None:
    asked = ask(Stage(), {"primary": [faults.status(503)] * 3, "fallback": ["fine"]})
    assert (asked.text, asked.played.sleeps) == ("fine", (1.0, 2.0))


def test_a_primary_that_recovers_is_asked_after_a_minute() -> None:
    stage = Stage()
    target, down = sdk_model(stage, "primary"), faults.status(503)
    script = {"primary": [down] * 3}
    for _ in range(2):
        stage.ask(target, script=script)
    assert target.breaker is not None
    assert target.breaker_state == "open"
    opened = target.breaker.statistics().opened_at
    assert opened is not None
    stage.clock.advance(opened + MINUTE - stage.clock() - 0.001)
    assert not target.breaker.would_admit()
    stage.clock.advance(0.001)
    assert stage.ask(target, script={"primary": ["fine"]}).text == "fine"
    assert target.breaker_state == "closed"
