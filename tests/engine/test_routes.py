"""Which model is asked when: attempts, back-off, budgets, breakers, slots, rounds, the deadline."""

from __future__ import annotations

from itertools import repeat

import pytest

from agentkit import errors as e
from agentkit.policy.breaker import BreakerPolicy
from agentkit.policy.deadline import DEFAULT_PATIENCE
from agentkit.policy.limits import Need
from agentkit.policy.retry import RetryPolicy
from agentkit.policy.route import Missing
from agentkit.testing import Step, faults, rate_limited
from tests.engine.stage import LITERAL, Stage, trip

pytestmark = pytest.mark.flows

DOWN = ConnectionError("down")


@pytest.mark.promise("A1", "S3-23", "S3-24")
def test_the_waits_double_up_to_the_cap() -> None:
    stage = Stage()
    policy = RetryPolicy(max_attempts=5, jitter=0.0, max_delay=5.0)
    asked = stage.ask(stage.target(retry=policy), script={"a": [*[DOWN] * 4, "fine"]})
    assert asked.text == "fine"
    assert asked.played.sleeps == (1.0, 2.0, 4.0, 5.0)
    assert asked.ledger.slept == 12.0
    assert [entry.delay for entry in asked.ledger] == [0.0, 1.0, 2.0, 4.0, 5.0]


@pytest.mark.promise("S4-17")
def test_jitter_spreads_the_nominal_wait() -> None:
    for dice, wait in ((0.0, 0.75), (0.5, 1.0), (1.0, 1.25)):
        stage = Stage(rng=lambda dice=dice: dice)  # type: ignore[misc]
        policy = RetryPolicy(max_attempts=2)
        asked = stage.ask(stage.target(retry=policy), script={"a": [DOWN, "fine"]})
        assert asked.played.sleeps == (wait,)


def test_one_attempt_is_one_attempt() -> None:
    stage = Stage()
    asked = stage.ask(stage.target(retry=RetryPolicy(max_attempts=1)), script={"a": [DOWN]})
    assert asked.order == ["a"]
    assert asked.played.sleeps == ()


class TestTheDeadline:
    def test_a_wait_that_does_not_fit_is_not_begun(self) -> None:
        stage = Stage()
        asked = stage.ask(stage.target(), script={"a": repeat(DOWN)}, deadline=2.5)
        assert asked.order == ["a", "a"]
        assert asked.played.sleeps == (1.0,), "the second wait would be 2 s and 1.5 s are left"
        assert isinstance(asked.error, e.DeadlineExceededError)
        assert isinstance(asked.error.__cause__, e.NetworkError)

    def test_a_wait_that_does_not_fit_gives_way_to_the_next_model(self) -> None:
        stage = Stage()
        asked = stage.ask(
            stage.target("a"), stage.target("b"), script={"a": [DOWN], "b": ["fine"]}, deadline=0.9
        )
        assert asked.order == ["a", "b"]
        assert asked.played.sleeps == ()

    def test_an_answer_after_the_deadline_does_not_count(self) -> None:
        stage = Stage()
        target = stage.target()

        def slow(prompt: str, kwargs: dict[str, object]) -> Step:
            stage.clock.advance(2.0)  # a blocking call that cannot be interrupted
            return "late"

        asked = stage.ask(target, script={"a": [slow]}, deadline=1.0)
        assert isinstance(asked.error, e.DeadlineExceededError)

    @pytest.mark.parametrize("deadline", [300.0, None])
    def test_a_silent_model_costs_a_minute_while_another_is_left(
        self, deadline: float | None
    ) -> None:
        stage = Stage()
        script: dict[str, list[Step]] = {
            "a": [faults.silence()],
            "b": [(200.0, "thought for long")],
        }
        asked = stage.ask(stage.target("a"), stage.target("b"), script=script, deadline=deadline)
        assert (asked.text, asked.order) == ("thought for long", ["a", "b"])
        silent, answered = asked.ledger
        assert (silent.duration, silent.outcome, silent.reason) == (60.0, "failure", "time_share")
        assert answered.duration == 200.0

    def test_a_timeout_of_its_own_may_be_longer_than_a_minute(self) -> None:
        stage = Stage()
        patient = stage.target("a", timeout=200.0)
        asked = stage.ask(patient, stage.target("b"), script={"a": [(150.0, "at last")]})
        assert asked.text == "at last"

    def test_no_deadline_waits_as_long_as_it_takes(self) -> None:
        stage = Stage()
        asked = stage.ask(stage.target(), script={"a": [(1e6, "at last")]}, deadline=None)
        assert asked.text == "at last"
        assert asked.played.duration == 1e6


class TestTheBudget:
    def test_an_empty_budget_stops_retries_not_first_attempts(self) -> None:
        stage = Stage()
        target = stage.target(budget=5)
        asked = stage.ask(target, script={"a": repeat(DOWN)})
        assert asked.order == ["a", "a"]
        assert asked.reasons == ["retry_budget_exhausted"]
        assert isinstance(asked.error, e.NetworkError)
        asked = stage.ask(target, script={"a": ["fine"]})
        assert asked.text == "fine"

    def test_a_clean_success_earns_and_a_repaired_one_does_not(self) -> None:
        stage = Stage()
        target = stage.target(budget=10)
        assert target.budget is not None
        stage.ask(target, script={"a": [DOWN, "fine"]})
        assert target.budget.tokens == 5
        stage.ask(target, script={"a": ["fine"]})
        assert target.budget.tokens == 6

    def test_a_retry_after_a_timeout_costs_twice(self) -> None:
        stage = Stage()
        target = stage.target(budget=20)
        assert target.budget is not None
        stage.ask(target, script={"a": [TimeoutError(), "fine"]})
        assert target.budget.tokens == 10


class TestTheBreaker:
    @pytest.mark.promise("A9", "A10")
    def test_opening_ends_the_loop_with_the_last_real_error(self) -> None:
        stage = Stage()
        target = stage.target(breaker=BreakerPolicy(failure_threshold=2))
        asked = stage.ask(target, script={"a": repeat(DOWN)})
        assert asked.order == ["a", "a"]
        assert isinstance(asked.error, e.NetworkError)

    @pytest.mark.promise("S3-40")
    def test_an_open_one_sends_nothing_and_never_sleeps(self) -> None:
        stage = Stage()
        a, b = stage.target("a"), stage.target("b")
        trip(a.breaker)
        asked = stage.ask(a, b, script={"b": ["fine"]})
        assert asked.order == ["b"]
        assert asked.played.sleeps == ()
        assert asked.reasons == ["circuit_open"]
        assert asked.watch.fallbacks == [("a", "b", "circuit_open")]
        assert asked.ledger[0].breaker == "open"

    def test_alone_it_raises_that_it_is_open_and_for_how_long(self) -> None:
        stage = Stage()
        target = stage.target()
        trip(target.breaker)
        stage.clock.advance(20)
        asked = stage.ask(target, script={})
        assert isinstance(asked.error, e.CircuitOpenError)
        assert asked.error.retry_after == pytest.approx(40)
        assert asked.order == []

    def test_a_sleeper_wakes_when_it_opens_and_another_model_is_left(self) -> None:
        stage = Stage()
        a, b = stage.target("a"), stage.target("b")
        asked = stage.ask(
            a, b, script={"a": [DOWN], "b": ["fine"]}, meanwhile={0.25: lambda: trip(a.breaker)}
        )
        assert asked.order == ["a", "b"]
        assert asked.played.duration == 0.25
        assert asked.ledger.slept == 0.25

    def test_a_sleeper_without_a_fallback_sleeps_on_and_is_refused(self) -> None:
        stage = Stage()
        a = stage.target("a")
        asked = stage.ask(a, script={"a": [DOWN]}, meanwhile={0.25: lambda: trip(a.breaker)})
        assert asked.order == ["a"]
        assert isinstance(asked.error, e.NetworkError), "the last real error, not the refusal"
        assert asked.reasons == ["circuit_open"]

    def test_a_probe_closes_it(self) -> None:
        stage = Stage()
        a, b = stage.target("a"), stage.target("b")
        trip(a.breaker)
        stage.clock.advance(60)
        asked = stage.ask(a, b, script={"a": ["back"]})
        assert asked.text == "back"
        assert asked.ledger[0].breaker == "half-open"
        assert a.breaker_state == "closed"

    def test_a_failed_probe_is_not_repeated(self) -> None:
        stage = Stage()
        a, b = stage.target("a"), stage.target("b")
        trip(a.breaker)
        stage.clock.advance(60)
        asked = stage.ask(a, b, script={"a": [DOWN], "b": ["fine"]})
        assert asked.order == ["a", "b"]
        assert a.breaker_state == "open"

    def test_a_cancelled_probe_makes_room_for_another(self) -> None:
        stage = Stage()
        a = stage.target("a")
        trip(a.breaker)
        stage.clock.advance(60)
        stage.ask(a, script={"a": [KeyboardInterrupt()]})
        assert a.breaker is not None
        assert a.breaker.would_admit()
        assert stage.ask(a, script={"a": ["back"]}).text == "back"

    def test_a_timeout_is_tried_again_when_the_other_model_is_broken(self) -> None:
        stage = Stage()
        a, b = stage.target("a"), stage.target("b")
        trip(b.breaker)
        asked = stage.ask(a, b, script={"a": [TimeoutError(), "fine"]})
        assert asked.order == ["a", "a"]


class TestSlots:
    def test_a_call_waits_for_a_slot(self) -> None:
        stage = Stage()
        target = stage.target(slots=1)
        assert target.pool is not None
        taken = target.pool.request(Need(), 0.0)
        asked = stage.ask(
            target, script={"a": ["fine"]}, meanwhile={3.0: lambda: taken.release(3.0)}
        )
        assert asked.text == "fine"
        assert asked.ledger.waited == 3.0
        assert asked.ledger[0].waited == 3.0
        assert target.pool.in_use == 0

    def test_no_slot_in_time_is_an_overrun_and_leaves_the_queue(self) -> None:
        stage = Stage()
        target = stage.target(slots=1)
        assert target.pool is not None
        taken = target.pool.request(Need(), 0.0)
        asked = stage.ask(target, script={}, deadline=2.0)
        assert isinstance(asked.error, e.DeadlineExceededError)
        taken.release(stage.clock())
        assert target.pool.in_use == 0

    def test_a_refused_call_gives_its_slot_back(self) -> None:
        stage = Stage()
        target = stage.target(slots=1)
        trip(target.breaker)
        stage.ask(target, script={})
        assert target.pool is not None
        assert target.pool.in_use == 0


class TestMissing:
    def test_a_name_that_is_not_registered_is_skipped(self) -> None:
        stage = Stage()
        asked = stage.ask(Missing("ghost"), stage.target("b"), script={"b": ["fine"]})
        assert asked.text == "fine"
        assert asked.reasons == ["not_registered"]
        assert asked.watch.fallbacks == [("ghost", "b", "skipped")]

    def test_a_route_of_ghosts_raises(self) -> None:
        asked = Stage().ask(Missing("ghost"), Missing("spirit"), script={})
        assert isinstance(asked.error, e.AllModelsFailedError)
        assert [type(cause) for cause in asked.error.exceptions] == [e.UnknownModelError] * 2


class TestRounds:
    def ask(self, script: dict[str, list[Step]], rounds: int, names: str = "abc") -> list[str]:
        stage = Stage()
        targets = [stage.target(name) for name in names]
        return stage.ask(*targets, script=script, order="rounds", rounds=rounds).order

    def test_one_attempt_a_target_a_round(self) -> None:
        down: dict[str, list[Step]] = {name: [DOWN] * 3 for name in "abc"}
        assert self.ask(down, 7) == ["a", "b", "c", "a", "b", "c", "a"]

    def test_attempts_are_counted_per_request(self) -> None:
        down: dict[str, list[Step]] = {name: [DOWN] * 3 for name in "abc"}
        assert self.ask(down, 2) == ["a", "b"]

    def test_after_the_last_attempt_no_retry_is_announced_or_paid(self) -> None:
        stage = Stage()
        target = stage.target("a", budget=10)
        asked = stage.ask(target, script={"a": [DOWN]}, order="rounds", rounds=1)
        assert asked.watch.retries == []
        assert target.budget is not None
        assert target.budget.tokens == 10

    def test_a_fresh_target_is_asked_without_a_sleep(self) -> None:
        stage = Stage()
        targets = [stage.target(name) for name in "abc"]
        script: dict[str, list[Step]] = {"a": [DOWN], "b": [DOWN], "c": ["fine"]}
        asked = stage.ask(*targets, script=script, order="rounds", rounds=9)
        assert asked.text == "fine"
        assert asked.played.sleeps == ()

    def test_the_second_round_waits_what_is_left_of_the_back_off(self) -> None:
        stage = Stage()
        targets = [stage.target(name, retry=LITERAL) for name in "ab"]
        script: dict[str, list[Step]] = {"a": [DOWN, "fine"], "b": [(0.75, DOWN)]}
        asked = stage.ask(*targets, script=script, order="rounds", rounds=9)
        assert asked.order == ["a", "b", "a"]
        assert asked.played.sleeps == (0.25,)

    def test_a_target_without_another_try_leaves_the_rounds(self) -> None:
        script: dict[str, list[Step]] = {
            "a": [faults.status(401)], "b": [DOWN, DOWN], "c": [DOWN, "fine"],
        }  # fmt: skip
        assert self.ask(script, 9) == ["a", "b", "c", "b", "c"]

    def test_a_rate_limited_target_is_skipped(self) -> None:
        script: dict[str, list[Step]] = {
            "a": [rate_limited(retry_after=60)], "b": [DOWN, "fine"],
        }  # fmt: skip
        assert self.ask(script, 9, "ab") == ["a", "b", "b"]

    def test_an_invalid_request_ends_the_rounds(self) -> None:
        assert self.ask({"a": [faults.status(400)]}, 9) == ["a"]


def test_a_full_model_keeps_a_call_no_longer_than_its_part_of_the_time() -> None:
    stage = Stage()
    full = stage.target("full", slots=1)
    assert full.pool is not None
    taken = full.pool.request(Need(), 0.0)
    asked = stage.ask(full, stage.target("free"), script={"free": "fine"}, deadline=8.0)
    assert asked.text == "fine"
    assert asked.played.duration == 4.0
    assert asked.reasons == ["no_quota"]
    taken.release(stage.clock())
    assert full.pool.in_use == 0


def test_without_a_deadline_a_full_model_does_not_keep_a_call_for_ever() -> None:
    stage = Stage()
    full = stage.target("full", slots=1)
    assert full.pool is not None
    _held = full.pool.request(Need(), 0.0)
    asked = stage.ask(full, stage.target("free"), script={"free": "fine"}, deadline=None)
    assert asked.text == "fine"
    assert asked.played.duration == DEFAULT_PATIENCE
