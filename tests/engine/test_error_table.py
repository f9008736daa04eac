"""Every row of the error table: what the breaker hears, who is asked next, what is raised."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import repeat
from typing import Any

import pytest

from agentkit import errors as e
from agentkit.policy.breaker import CircuitBreaker
from agentkit.policy.classification import Blame, Fallback, Retry
from agentkit.policy.retry import RetryPolicy
from agentkit.testing import Step, faults, rate_limited
from agentkit.types import Request, ToolSpec
from agentkit.types.ledger import Entry
from tests.engine.error_table import CARRYING, OF_CALLABLES, TABLE, Carrying, Row
from tests.engine.stage import Stage

pytestmark = pytest.mark.flows

TWICE = RetryPolicy(max_attempts=2, jitter=0.0)
ONCE = RetryPolicy(max_attempts=1)
every_row = pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])


def counted(breaker: CircuitBreaker | None) -> tuple[int, int]:
    """Failures in a row, and failures in the window."""
    assert breaker is not None
    figures = breaker.statistics()
    return figures.consecutive_failures, figures.failures


@every_row
def test_what_the_breaker_counts(row: Row) -> None:
    stage = Stage()
    target = stage.target(retry=ONCE, timeout=10.0)
    stage.ask(target, script={"a": [row.step]})
    expected = {Blame.FAILURE: (1, 1), Blame.CONSECUTIVE: (1, 0), Blame.NEUTRAL: (0, 0)}
    assert counted(target.breaker) == expected[row.blame]


@pytest.mark.promise("A1", "A2", "A4", "N12", "S3-30")
@every_row
def test_a_lone_model_is_asked_again_or_not_and_its_own_error_raised(row: Row) -> None:
    stage = Stage()
    asked = stage.ask(
        stage.target(retry=TWICE, timeout=10.0), script={"a": repeat(row.step)}, deadline=None
    )
    assert asked.order == ["a"] * (1 if row.retry is Retry.NEVER else 2)
    assert type(asked.error) is row.error
    assert asked.error.ledger is asked.ledger


@every_row
def test_with_a_fallback_left_who_is_asked(row: Row) -> None:
    stage = Stage()
    asked = stage.ask(
        stage.target("a", retry=TWICE, timeout=10.0),
        stage.target("b"),
        script={"a": repeat(row.step), "b": ["fine"]},
        deadline=None,
    )
    here = 2 if row.retry is Retry.AFTER_DELAY else 1
    if row.fallback is Fallback.NEVER:
        assert asked.order == ["a"] * here
        assert type(asked.error) is row.error
    else:
        assert asked.order == ["a"] * here + ["b"]
        assert asked.text == "fine"
        assert asked.watch.ends == ["fallback_success"]


@every_row
def test_the_ledger_names_the_error(row: Row) -> None:
    stage = Stage()
    asked = stage.ask(stage.target(retry=ONCE, timeout=10.0), script={"a": [row.step]})
    (entry,) = asked.ledger
    assert (entry.outcome, entry.error) == ("failure", row.error.__name__)
    assert entry.error_type is not None


@every_row
def test_what_a_longer_route_raises_holds_one_cause_a_model(row: Row) -> None:
    stage = Stage()
    asked = stage.ask(
        stage.target("a", retry=ONCE, timeout=10.0),
        stage.target("b", retry=ONCE, timeout=10.0),
        script={"a": [row.step], "b": [row.step]},
        deadline=None,
    )
    if row.fallback is Fallback.NEVER:
        assert type(asked.error) is row.error
        return
    assert isinstance(asked.error, e.AllModelsFailedError)
    assert [type(cause) for cause in asked.error.exceptions] == [row.error] * 2


@pytest.mark.parametrize("row", OF_CALLABLES + CARRYING, ids=lambda row: row.name)
def test_a_foreign_exception_stays_as_the_cause(row: Row) -> None:
    stage = Stage()
    asked = stage.ask(stage.target(retry=ONCE), script={"a": [row.step]})
    assert asked.error is not None
    assert asked.error.__cause__ is row.step


@pytest.mark.parametrize("kind", [TypeError, NameError, AssertionError, ImportError])
def test_a_bug_is_logged_with_its_traceback(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    stage.ask(stage.target(), script={"a": [kind("a bug")]})
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], kind)


@pytest.mark.parametrize("step", [ValueError("no"), ConnectionError(), faults.status(500)])
def test_only_a_bug_is_logged(step: Step, caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    stage.ask(stage.target(retry=ONCE), script={"a": [step]})
    assert caplog.records == []


@pytest.mark.promise("A18")
@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt(), SystemExit(1), asyncio.CancelledError(), GeneratorExit()]
)
def test_a_cancellation_is_abandoned_and_propagates(stop: BaseException) -> None:
    stage = Stage()
    target = stage.target(slots=1)
    asked = stage.ask(target, stage.target("b"), script={"a": [stop]})
    assert asked.order == ["a"]
    assert asked.error is stop
    assert counted(target.breaker) == (0, 0)
    assert target.pool is not None
    assert target.pool.in_use == 0
    assert [(entry.outcome, entry.reason) for entry in asked.ledger] == [("abandoned", "cancelled")]
    assert asked.watch.ends == ["cancelled"]


@pytest.mark.promise("A18")
def test_an_attempt_ended_by_the_deadline_is_abandoned_and_so_is_the_request() -> None:
    stage = Stage()
    target = stage.target(timeout=10.0)
    asked = stage.ask(
        target, stage.target("b"), script={"a": [faults.silence()], "b": ["late"]}, deadline=4.0
    )
    assert asked.order == ["a"]
    assert isinstance(asked.error, e.DeadlineExceededError)
    assert counted(target.breaker) == (0, 0)
    assert [(entry.outcome, entry.reason) for entry in asked.ledger] == [("abandoned", "deadline")]
    assert asked.played.duration == 4.0


def test_a_silent_model_without_a_timeout_leaves_its_fallback_time() -> None:
    stage = Stage()
    target = stage.target("a")
    asked = stage.ask(
        target, stage.target("b"), script={"a": [faults.silence()], "b": ["fine"]}, deadline=8.0
    )
    assert asked.text == "fine"
    assert asked.played.duration == 4.0
    assert counted(target.breaker) == (0, 0), "4 s are less than the patience of 10 s"


def test_ten_seconds_of_silence_are_a_failure_even_without_a_timeout() -> None:
    stage = Stage()
    target = stage.target("a")
    asked = stage.ask(
        target, stage.target("b"), script={"a": [faults.silence()], "b": ["fine"]}, deadline=30.0
    )
    assert asked.text == "fine"
    assert counted(target.breaker) == (1, 1)


class TestContextLength:
    def ask(self, own: int | None, *others: int | None) -> list[str]:
        stage = Stage()
        targets = [
            stage.target(name, context_window=window)
            for name, window in zip("abcd", [own, *others], strict=False)
        ]
        too_long = faults.status(400, kind="context_length_exceeded")
        return stage.ask(*targets, script={name: [too_long] for name in "abcd"}).order

    def test_only_a_larger_or_unknown_context_is_asked(self) -> None:
        assert self.ask(8_000, 8_000, 4_000, 16_000) == ["a", "d"]
        assert self.ask(8_000, None) == ["a", "b"]

    def test_the_error_says_how_many_models_were_tried(self) -> None:
        stage = Stage()
        too_long = faults.status(400, kind="context_length_exceeded")
        for windows, beginning in (((8, 4), "the only model tried"), ((8, 16), "all 2 models")):
            targets = [
                stage.target(name, context_window=window)
                for name, window in zip("ab", windows, strict=True)
            ]
            error = stage.ask(*targets, script={"a": [too_long], "b": [too_long]}).error
            assert isinstance(error, e.AllModelsFailedError)
            assert error.message.startswith(beginning)

    def test_an_unknown_context_says_nothing_about_the_others(self) -> None:
        assert self.ask(None, 8_000) == ["a", "b"]

    def test_each_refusal_raises_the_bar(self) -> None:
        assert self.ask(8_000, 16_000, 12_000, 32_000) == ["a", "b", "d"]


class TestOptions:
    def test_an_invalid_request_may_go_to_another_provider(self) -> None:
        stage = Stage()
        asked = stage.ask(
            stage.target("a", provider="one"),
            stage.target("b", provider="one"),
            stage.target("c", provider="two"),
            script={"a": [faults.status(422)], "c": ["fine"]},
            fallback_on_invalid=True,
        )
        assert asked.order == ["a", "c"]
        assert asked.text == "fine"

    def test_a_refusal_by_policy_may_continue_with_the_next_model(self) -> None:
        stage = Stage()
        asked = stage.ask(
            stage.target("a"),
            stage.target("b"),
            script={"a": [faults.status(400, kind="content_filter")], "b": ["fine"]},
            fallback_on_content_filter=True,
        )
        assert asked.order == ["a", "b"]
        assert asked.watch.fallbacks == [("a", "b", "content_filter")]

    def test_the_two_options_do_not_mix(self) -> None:
        refused = faults.status(400, kind="content_filter")
        stage = Stage()
        targets = [stage.target(name, provider=name) for name in "ab"]
        asked = stage.ask(*targets, script={"a": [refused]}, fallback_on_invalid=True)
        assert asked.order == ["a"]
        invalid = {"a": [faults.status(400)]}
        asked = stage.ask(*targets, script=invalid, fallback_on_content_filter=True)
        assert asked.order == ["a"]

    def test_tools_go_past_a_model_that_cannot_use_them(self) -> None:
        stage = Stage()
        asked = stage.ask(
            stage.target("a"),
            stage.target("b", stream=True, capabilities=["tools"]),
            script={"b": ["fine"]},
            request=Request(prompt="hi", tools=(ToolSpec("t"),)),
        )
        assert asked.order == ["b"]
        assert asked.reasons == ["incapable"]


class TestRetryOn:
    def ask(self, step: Step, retry_on: Any) -> tuple[list[str], tuple[int, int]]:
        stage = Stage()
        target = stage.target("a", retry=TWICE, retry_on=retry_on)
        asked = stage.ask(
            target, stage.target("b"), script={"a": repeat(step), "b": ["fine"]}, deadline=None
        )
        return asked.order, counted(target.breaker)

    def test_a_type_listed_is_a_failure_and_asked_again(self) -> None:
        assert self.ask(ValueError("flaky"), ValueError) == (["a", "a", "b"], (2, 2))
        assert self.ask(ValueError("flaky"), (KeyError, ValueError))[0] == ["a", "a", "b"]

    def test_a_type_not_listed_follows_the_table(self) -> None:
        assert self.ask(ValueError("no"), (KeyError,)) == (["a", "b"], (0, 0))

    def test_the_original_exception_is_asked_about(self) -> None:
        seen: list[BaseException] = []
        judge: Callable[[BaseException], None] = seen.append
        original = Carrying(status_code=503)
        self.ask(original, judge)
        assert seen
        assert all(each is original for each in seen)

    def test_true_is_a_failure_and_asked_again(self) -> None:
        assert self.ask(faults.status(400), lambda _: True) == (["a", "a", "b"], (2, 2))

    def test_false_is_neutral_and_continues_with_the_next_model(self) -> None:
        assert self.ask(ConnectionError(), lambda _: False) == (["a", "b"], (0, 0))

    def test_none_is_the_table(self) -> None:
        assert self.ask(ConnectionError(), lambda _: None) == (["a", "a", "b"], (2, 2))


class TestRetryAfter:
    @pytest.mark.promise("N14", "S2-31")
    def test_it_is_waited_for_and_never_undercut(self) -> None:
        stage = Stage(rng=lambda: 0.0)
        policy = RetryPolicy(max_attempts=2, jitter=0.25)
        asked = stage.ask(
            stage.target(retry=policy), script={"a": [rate_limited(retry_after=3), "fine"]}
        )
        assert asked.text == "fine"
        assert asked.played.sleeps == (3.0,)
        assert asked.watch.retries == [("a", 2, 3.0, "retry_after")]

    def test_the_next_request_skips_a_rate_limited_target_too(self) -> None:
        stage = Stage()
        a, b = stage.target("a"), stage.target("b")
        stage.ask(a, b, script={"a": [rate_limited(retry_after=60)], "b": ["fine"]})
        asked = stage.ask(a, b, script={"b": ["fine"]})
        assert asked.order == ["b"]
        assert asked.reasons == ["resting"]
        stage.clock.advance(61)
        assert stage.ask(a, b, script={"a": ["back"]}).text == "back"

    def test_a_short_rate_limit_is_waited_for_when_no_other_target_is_left(self) -> None:
        stage = Stage()
        a = stage.target("a", retry=ONCE)
        stage.ask(a, script={"a": [rate_limited(retry_after=4)]})
        stage.clock.advance(1.0)
        asked = stage.ask(a, script={"a": ["fine"]})
        assert asked.text == "fine"
        assert asked.played.sleeps == (3.0,)

    def test_a_long_one_ends_a_lone_models_request_at_once(self) -> None:
        stage = Stage()
        asked = stage.ask(stage.target(), script={"a": [rate_limited(retry_after=60)]})
        assert asked.played.sleeps == ()
        assert isinstance(asked.error, e.RateLimitError)
        assert asked.error.retry_after == 60

    def test_the_whole_route_says_when_to_come_back(self) -> None:
        stage = Stage()
        waits = {"a": [rate_limited(retry_after=60)], "b": [rate_limited(retry_after=30)]}
        asked = stage.ask(stage.target("a"), stage.target("b"), script=waits)
        assert isinstance(asked.error, e.AllModelsFailedError)
        assert asked.error.retry_after == 30


def test_numbers_in_the_ledger_count_attempts_at_one_model() -> None:
    stage = Stage()
    asked = stage.ask(
        stage.target("a", retry=TWICE),
        stage.target("b", retry=TWICE),
        script={"a": repeat(ConnectionError()), "b": [ConnectionError(), "fine"]},
    )
    entries: list[Entry] = list(asked.ledger)
    assert [(each.model, each.number) for each in entries] == [
        ("a", 1), ("a", 2), ("b", 1), ("b", 2),
    ]  # fmt: skip
    assert [each.position for each in entries] == [0, 0, 1, 1]
    assert asked.ledger.retries == 2
