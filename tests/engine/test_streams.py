"""Streams: free fallback before the first content, a choice after it, and no end without a mark."""

from __future__ import annotations

import asyncio
import math
from itertools import repeat
from typing import Any

import pytest

from agentkit import errors as e
from agentkit.engine.exchange import StreamExchange
from agentkit.policy.breaker import BreakerPolicy
from agentkit.policy.classification import Fallback
from agentkit.policy.retry import RetryPolicy
from agentkit.testing import Returns, Step, faults, overloaded
from agentkit.types import End, OnInterrupt, Response, Restart, TextDelta, Usage
from tests.engine.error_table import TABLE, Row
from tests.engine.stage import Asked, Stage, trip

pytestmark = pytest.mark.flows

ONCE = RetryPolicy(max_attempts=1)
CUT = faults.cut_stream(1, reply="one two three")


def run_stream(
    script: dict[str, Any], on_interrupt: OnInterrupt = "raise", names: str = "ab", **how: Any
) -> Asked:
    stage = Stage()
    targets = [
        stage.target(
            name, stream=True, slots=1, retry=ONCE, timeout=5.0, first_token_timeout=10.0,
            capabilities=("prefill",),
        )
        for name in names
    ]  # fmt: skip
    return stage.ask(*targets, script=script, exchange=StreamExchange(on_interrupt), **how)


def texts(asked: Asked) -> list[str]:
    return [event.text for event in asked.played.emitted if isinstance(event, TextDelta)]


def kinds(asked: Asked) -> list[str]:
    return [type(event).__name__ for event in asked.played.emitted]


def test_text_comes_in_pieces_and_the_end_closes_it() -> None:
    usage = Usage(3, 2)
    asked = run_stream({"a": [Response("one two", usage, finish_reason="stop")]})
    assert texts(asked) == ["one", " two"]
    assert asked.played.emitted[-1] == End("stop", usage)
    response = asked.played.value()
    assert (response.text, response.usage, response.model) == ("one two", usage, "a")
    assert response.ledger is asked.ledger
    assert asked.ledger[0].outcome == "success"


STREAMED = [row for row in TABLE if not isinstance(row.step, Returns)]


@pytest.mark.parametrize("row", STREAMED, ids=[row.name for row in STREAMED])
def test_before_the_first_content_a_stream_follows_the_error_table(row: Row) -> None:
    asked = run_stream({"a": [row.step], "b": ["fine"]}, deadline=None)
    if row.fallback is Fallback.NEVER:
        assert asked.order == ["a"]
        assert type(asked.error) is row.error
    else:
        assert asked.order == ["a", "b"]
        assert texts(asked) == ["fine"]


@pytest.mark.parametrize("value", [42, None, b"bytes"])
def test_a_value_that_is_neither_text_nor_event_is_an_invalid_response(value: object) -> None:
    asked = run_stream({"a": [Returns(value)], "b": ["fine"]})
    assert asked.order == ["a", "b"]
    assert asked.ledger[0].error == "InvalidResponseError"


def test_retries_before_the_first_content_wait_as_usual() -> None:
    stage = Stage()
    target = stage.target(stream=True)
    asked = stage.ask(
        target, script={"a": [overloaded(), overloaded(), "fine"]}, exchange=StreamExchange("raise")
    )
    assert asked.played.sleeps == (1.0, 2.0)
    assert texts(asked) == ["fine"]


@pytest.mark.parametrize("silent", [["", "", (math.inf, "x")], faults.silence()])
def test_empty_pieces_do_not_count_as_content(silent: Step) -> None:
    asked = run_stream({"a": [silent], "b": ["fine"]}, deadline=None)
    assert asked.order == ["a", "b"]
    assert asked.ledger[0].error == "ProviderTimeoutError"
    assert asked.ledger[0].duration == 10.0


def test_the_first_token_has_its_own_limit_and_is_noted() -> None:
    asked = run_stream({"a": [[(9.0, "slow"), (4.0, "and steady"), End()]]})
    assert texts(asked) == ["slow", "and steady"]
    assert asked.ledger[0].first_token == 9.0


class TestAStreamThatEndsWithoutItsMark:
    def test_before_any_content_it_is_a_failure_of_the_attempt(self) -> None:
        asked = run_stream({"a": [[]], "b": ["fine"]})
        assert asked.order == ["a", "b"]
        assert asked.ledger[0].error == "InvalidResponseError"

    def test_after_content_it_is_interrupted(self) -> None:
        asked = run_stream({"a": [faults.missing_end(reply="all of it")]})
        assert isinstance(asked.error, e.StreamInterruptedError)
        assert asked.error.partial == "all of it"
        assert "End" not in kinds(asked)
        assert [entry.outcome for entry in asked.ledger] == ["failure"]
        assert asked.ledger.answered_by is None

    def test_an_end_mark_alone_is_an_empty_answer(self) -> None:
        asked = run_stream({"a": [[End("stop")]]})
        assert asked.text == ""
        assert kinds(asked) == ["End"]

    def test_a_generator_owes_none(self) -> None:
        stage = Stage()
        asked = stage.ask(
            stage.target(), script={"a": [["one", "two"]]}, exchange=StreamExchange("raise")
        )
        assert asked.text == "onetwo"
        assert kinds(asked) == ["TextDelta", "TextDelta", "End"]


BREAKS: list[Step] = [
    CUT,
    faults.cut_stream(1, reply="one two three", reset=True),
    faults.malformed_chunk(1, reply="one two three"),
    faults.stream_error(1, reply="one two three"),
    faults.stream_error(1, reply="one two three", status=429),
    faults.stalled_stream(1, reply="one two three"),
    faults.missing_end(reply="one"),
    ["one", TimeoutError()],
    ["one", ValueError("even this")],
    ["one", (5.1, " two"), End()],
]


@pytest.mark.parametrize("step", BREAKS, ids=str)
class TestABreakAfterContent:
    def test_raise_keeps_what_was_shown(self, step: Step) -> None:
        asked = run_stream({"a": [step], "b": ["never"]})
        assert asked.order == ["a"]
        assert isinstance(asked.error, e.StreamInterruptedError)
        assert asked.error.partial == "one"
        assert asked.error.ledger is asked.ledger
        assert asked.error.__cause__ is not None
        assert asked.ledger[0].outcome == "failure"

    def test_restart_begins_at_the_next_model_and_says_so(self, step: Step) -> None:
        asked = run_stream({"a": [step], "b": ["new start"]}, "restart")
        assert asked.order == ["a", "b"]
        first, restart, *rest = asked.played.emitted
        assert first == TextDelta("one")
        assert isinstance(restart, Restart)
        assert (restart.model, restart.discarded) == ("b", "one")
        assert [type(event) for event in rest] == [TextDelta, TextDelta, End]
        assert asked.text == "new start"

    def test_continue_hands_on_what_was_shown(self, step: Step) -> None:
        asked = run_stream({"a": [step], "b": [" two three"]}, "continue")
        assert asked.order == ["a", "b"]
        assert asked.text == "one two three"
        assert "".join(texts(asked)) == "one two three"
        assert kinds(asked).count("End") == 1
        prefill = asked.played.requests[1][1].messages[-1]
        assert (prefill.role, prefill.text) == ("assistant", "one")

    def test_it_counts_against_the_model(self, step: Step) -> None:
        asked = run_stream({"a": [step]})
        target = asked.call.walk.route.stops[0]
        breaker = target.breaker  # type: ignore[union-attr]
        assert breaker is not None
        expected = 0 if step == BREAKS[8] else 1
        assert breaker.statistics().consecutive_failures == expected


class TestGoingOn:
    def test_two_breaks_in_a_row_add_up_when_continuing(self) -> None:
        asked = run_stream(
            {"a": [CUT], "b": [["-", ConnectionError()]], "c": ["fin"]}, "continue", "abc"
        )
        assert asked.text == "one-fin"
        assert asked.played.requests[2][1].messages[-1].text == "one-"

    def test_two_breaks_in_a_row_restart_twice(self) -> None:
        asked = run_stream({"a": [CUT], "b": [CUT], "c": ["fin"]}, "restart", "abc")
        assert kinds(asked) == ["TextDelta", "Restart", "TextDelta", "Restart", "TextDelta", "End"]
        assert asked.text == "fin"

    def test_a_fallback_that_fails_before_content_does_not_restart_twice(self) -> None:
        asked = run_stream({"a": [CUT], "b": [overloaded()], "c": ["fin"]}, "restart", "abc")
        assert asked.text == "fin"
        shown = [event for event in asked.played.emitted if isinstance(event, Restart)]
        assert [event.discarded for event in shown] == ["one"]

    @pytest.mark.parametrize("how", ["restart", "continue"])
    def test_without_another_model_it_raises(self, how: OnInterrupt) -> None:
        asked = run_stream({"a": [CUT]}, how, "a")
        assert isinstance(asked.error, e.StreamInterruptedError)
        assert asked.error.partial == "one"

    def test_continue_passes_models_that_cannot(self) -> None:
        stage = Stage()
        a = stage.target("a", stream=True, retry=ONCE)
        b = stage.target("b", stream=True)
        c = stage.target("c", stream=True, capabilities=["prefill"])
        asked = stage.ask(
            a, b, c, script={"a": [CUT], "c": ["!"]}, exchange=StreamExchange("continue")
        )
        assert asked.order == ["a", "c"]
        assert asked.text == "one!"

    def test_without_a_model_that_can_continue_the_interruption_is_raised(self) -> None:
        stage = Stage()
        a, b = stage.target("a", stream=True, retry=ONCE), stage.target("b", stream=True)
        asked = stage.ask(a, b, script={"a": [CUT]}, exchange=StreamExchange("continue"))
        assert isinstance(asked.error, e.StreamInterruptedError)
        assert asked.error.partial == "one"

    def test_when_every_restart_fails_the_failure_is_raised(self) -> None:
        asked = run_stream({"a": [CUT], "b": [overloaded()]}, "restart")
        assert isinstance(asked.error, e.AllModelsFailedError)
        assert len(asked.error.exceptions) == 2


class TestItsTime:
    def test_the_deadline_cuts_a_stream_that_drips_for_ever(self) -> None:
        asked = run_stream({"a": [[*[(1.0, "drip")] * 100, End()]]}, deadline=10.0)
        assert isinstance(asked.error, e.DeadlineExceededError)
        assert asked.played.duration == 10.0
        assert asked.ledger[0].outcome == "abandoned"

    def test_the_deadline_before_content_ends_the_request(self) -> None:
        asked = run_stream({"a": [faults.silence()], "b": ["never"]}, deadline=3.0)
        assert asked.order == ["a"]
        assert isinstance(asked.error, e.DeadlineExceededError)


class TestItsBreaker:
    def test_a_probe_settles_at_its_first_content(self) -> None:
        stage = Stage()
        a = stage.target("a", stream=True)
        trip(a.breaker)
        stage.clock.advance(60)
        asked = stage.ask(
            a, script={"a": ["one two"]}, exchange=StreamExchange("raise"), stop_after=3
        )
        assert asked.played.closed
        assert texts(asked) == ["one"]
        assert a.breaker_state == "closed"

    def test_a_streamed_probe_is_one_success(self) -> None:
        stage = Stage()
        a = stage.target("a", stream=True, breaker=BreakerPolicy(success_threshold=2))
        trip(a.breaker)
        stage.clock.advance(60)
        states = []
        for _ in range(2):
            stage.ask(a, script={"a": ["one two"]}, exchange=StreamExchange("raise"))
            states.append(a.breaker_state)
        assert states == ["half-open", "closed"]

    def test_a_break_after_the_probe_counts_in_the_new_era(self) -> None:
        stage = Stage()
        a = stage.target("a", stream=True)
        trip(a.breaker)
        stage.clock.advance(60)
        stage.ask(a, script={"a": [CUT]}, exchange=StreamExchange("raise"))
        assert a.breaker is not None
        assert a.breaker.state == "closed"
        assert a.breaker.statistics().consecutive_failures == 1


@pytest.mark.promise("S4-26")
@pytest.mark.parametrize("stop", range(8))
def test_leaving_early_at_any_point_releases_everything(stop: int) -> None:
    asked = run_stream({"a": ["one two three"]}, stop_after=stop)
    target: Any = asked.call.walk.route.stops[0]
    assert asked.played.closed
    assert target.pool.in_use == 0
    assert target.breaker.statistics().consecutive_failures == 0
    assert asked.watch.ends == ["cancelled"]
    assert [entry.outcome for entry in asked.ledger] == ["abandoned"]


@pytest.mark.parametrize("stop", [8, 9])
def test_leaving_after_the_end_mark_came_takes_nothing_back(stop: int) -> None:
    asked = run_stream({"a": ["one two three"]}, stop_after=stop)
    target: Any = asked.call.walk.route.stops[0]
    assert asked.played.closed
    assert target.pool.in_use == 0
    assert [entry.outcome for entry in asked.ledger] == ["success"]


@pytest.mark.parametrize("at", ["opening", "middle"])
def test_a_cancellation_does_not_count_as_a_failure(at: str) -> None:
    stop = asyncio.CancelledError()
    asked = run_stream(
        {"a": [[stop] if at == "opening" else ["one", stop]], "b": ["never"]}, "restart"
    )
    assert asked.error is stop
    assert [entry.outcome for entry in asked.ledger] == ["abandoned"]
    target: Any = asked.call.walk.route.stops[0]
    assert target.pool.in_use == 0


class TestTheResponseCache:
    def test_a_finished_stream_is_stored_and_replayed_as_one_chunk(self) -> None:
        stage = Stage()
        target = stage.target(stream=True)
        first = stage.ask(
            target, script={"a": ["one two"]}, exchange=StreamExchange("raise"), cached=True
        )
        assert texts(first) == ["one", " two"]
        again = stage.ask(target, script={}, exchange=StreamExchange("raise"), cached=True)
        assert texts(again) == ["one two"]
        assert again.played.value().cached
        assert again.watch.ends == ["cache_hit"]

    @pytest.mark.parametrize("step", BREAKS, ids=str)
    def test_a_broken_one_is_not_stored(self, step: Step) -> None:
        stage = Stage()
        target = stage.target(stream=True, timeout=5.0)
        asked = stage.ask(
            target, script={"a": repeat(step)}, exchange=StreamExchange("raise"), cached=True
        )
        assert isinstance(asked.error, e.StreamInterruptedError)
        assert asked.error.partial == "one"
        assert stage.store == {}
