"""Waits that fit exactly or not at all, and what is given back when nothing is sent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Budget, LLMManager, RetryPolicy, Usage
from agentkit import errors as e
from agentkit.engine.exchange import StreamExchange
from agentkit.policy.limits import Need
from agentkit.policy.price import Price
from agentkit.policy.target import Target
from agentkit.testing import FakeClock, Step, faults, rate_limited
from agentkit.types import End, Response, TextDelta
from tests.engine.stage import Stage, trip

pytestmark = pytest.mark.flows

DOWN = ConnectionError("down")
ONCE = RetryPolicy(max_attempts=1)


def limited_for(target: Target, seconds: float, stage: Stage) -> Target:
    target.rate_limited_until = stage.clock() + seconds
    return target


class TestRetryAfter:
    @pytest.mark.parametrize(("after", "wait"), [(0.5, 1.0), (1.0, 1.0), (3.0, 3.0)])
    def test_the_longer_of_back_off_and_header_is_waited(self, after: float, wait: float) -> None:
        stage = Stage(rng=lambda: 0.0)
        script: dict[str, list[Step]] = {"a": [rate_limited(retry_after=after), "fine"]}
        asked = stage.ask(stage.target(), script=script)
        assert (asked.text, asked.played.sleeps) == ("fine", (wait,))

    @given(after=st.floats(0, 5), dice=st.floats(0, 1, exclude_max=True))
    def test_jitter_never_shortens_the_header(self, after: float, dice: float) -> None:
        stage = Stage(rng=lambda: dice)
        script: dict[str, list[Step]] = {"a": [rate_limited(retry_after=after), "fine"]}
        asked = stage.ask(stage.target(retry=RetryPolicy()), script=script)
        (wait,) = asked.played.sleeps
        assert wait >= after
        assert wait <= max(1.25, after * 1.25)

    def test_the_longest_header_that_is_waited_for(self) -> None:
        for after, order in ((5.0, ["a", "a"]), (5.001, ["a", "b"])):
            stage = Stage()
            script: dict[str, list[Step]] = {
                "a": [rate_limited(retry_after=after), "fine"], "b": ["fine"],
            }  # fmt: skip
            asked = stage.ask(stage.target("a"), stage.target("b"), script=script)
            assert asked.order == order

    def test_a_shorter_header_does_not_end_a_longer_one(self) -> None:
        stage = Stage()
        target = stage.target(retry=ONCE)
        stage.ask(target, script={"a": [rate_limited(retry_after=100)]})
        target.rate_limited_until, until = -1.0, target.rate_limited_until
        limited = stage.target(retry=ONCE)

        def meanwhile_longer(prompt: str, options: dict[str, Any]) -> Step:
            limited.rate_limited_until = until
            return rate_limited(retry_after=1)

        stage.ask(limited, script={"a": [meanwhile_longer]})
        assert limited.rate_limited_until == until


class TestRateLimitedFallback:
    def test_it_is_waited_for_if_nothing_else_is_left(self) -> None:
        stage = Stage()
        fallback = limited_for(stage.target("b"), 5.0, stage)
        script: dict[str, list[Step]] = {"a": [DOWN], "b": ["fine"]}
        asked = stage.ask(stage.target("a", retry=ONCE), fallback, script=script)
        assert (asked.text, asked.played.sleeps) == ("fine", (5.0,))

    def test_it_is_skipped_if_it_takes_too_long(self) -> None:
        stage = Stage()
        fallback = limited_for(stage.target("b"), 5.001, stage)
        asked = stage.ask(stage.target("a", retry=ONCE), fallback, script={"a": [DOWN]})
        assert isinstance(asked.error, e.AllModelsFailedError)
        assert asked.error.retry_after == pytest.approx(5.001)
        assert (asked.reasons, asked.played.sleeps) == (["resting"], ())

    def test_it_is_skipped_for_one_that_is_free(self) -> None:
        stage = Stage()
        fallback = limited_for(stage.target("b"), 0.5, stage)
        script: dict[str, list[Step]] = {"a": [DOWN], "c": ["fine"]}
        asked = stage.ask(stage.target("a", retry=ONCE), fallback, stage.target("c"), script=script)
        assert (asked.order, asked.played.sleeps) == (["a", "c"], ())

    def test_a_primary_is_waited_for_if_the_fallback_is_rate_limited_too(self) -> None:
        stage = Stage()
        both = [limited_for(stage.target(name), 2.0, stage) for name in "ab"]
        asked = stage.ask(*both, script={"a": ["fine"]})
        assert (asked.order, asked.played.sleeps) == (["a"], (2.0,))

    def test_it_is_not_a_reason_to_give_up_the_primary(self) -> None:
        for seconds, order in ((5.0, ["a", "b"]), (5.001, ["a", "a"])):
            stage = Stage()
            fallback = limited_for(stage.target("b"), seconds, stage)
            script: dict[str, list[Step]] = {
                "a": [e.ProviderTimeoutError("slow"), "fine"], "b": ["fine"],
            }  # fmt: skip
            assert stage.ask(stage.target("a"), fallback, script=script).order == order


class TestDeadline:
    @pytest.mark.parametrize(("deadline", "waits"), [(3.0, False), (3.001, True)])
    def test_the_delay_before_the_first_attempt_has_to_fit(
        self, deadline: float, waits: bool
    ) -> None:
        stage = Stage()
        target = limited_for(stage.target(), 3.0, stage)
        asked = stage.ask(target, script={"a": ["fine"]}, deadline=deadline)
        assert asked.played.sleeps == ((3.0,) if waits else ())
        assert isinstance(asked.error, e.RateLimitError) is not waits

    @pytest.mark.parametrize(("deadline", "sent"), [(1.0, 1), (1.001, 2)])
    def test_a_retry_delay_that_ends_at_the_deadline_is_not_begun(
        self, deadline: float, sent: int
    ) -> None:
        stage = Stage()
        asked = stage.ask(stage.target(), script={"a": [DOWN, "fine"]}, deadline=deadline)
        assert len(asked.order) == sent

    @pytest.mark.parametrize(("seconds", "counts"), [(5.0, True), (5.001, False)])
    def test_an_answer_at_the_deadline_counts(self, seconds: float, counts: bool) -> None:
        stage = Stage()

        def blocks(prompt: str, options: dict[str, Any]) -> Step:
            stage.clock.advance(seconds)
            return "fine"

        asked = stage.ask(stage.target(), script={"a": [blocks]}, deadline=5.0)
        assert isinstance(asked.error, e.DeadlineExceededError) is not counts

    def test_a_fallback_is_not_asked_when_the_time_is_up(self) -> None:
        stage = Stage()

        def blocks(prompt: str, options: dict[str, Any]) -> Step:
            stage.clock.advance(5.0)
            raise DOWN

        stops = stage.target("a", retry=ONCE), stage.target("b")
        asked = stage.ask(*stops, script={"a": [blocks], "b": ["never"]}, deadline=5.0)
        assert asked.order == ["a"]
        assert isinstance(asked.error, e.DeadlineExceededError)

    @pytest.mark.parametrize("way", ["sync", "async"])
    def test_it_stands_still_while_the_consumer_holds_an_event(self, way: str) -> None:
        clock = FakeClock()

        def pieces(prompt: str, options: dict[str, Any]) -> Iterator[str]:
            for piece in "abcde":
                clock.advance(1.0)
                yield piece

        async def read(llm: LLMManager) -> str:
            text = ""
            async with llm.astream("hi", deadline=6.0) as stream:
                async for piece in stream:
                    clock.advance(100.0)
                    text += piece
            return text

        with LLMManager(cache=None, clock=clock) as llm:
            llm.register_model("m", pieces)
            if way == "async":
                assert asyncio.run(read(llm)) == "abcde"
                return
            text = ""
            with llm.stream("hi", deadline=6.0) as stream:
                for piece in stream:
                    clock.advance(100.0)
                    text += piece
            assert text == "abcde"

    def test_it_does_not_stand_still_while_the_model_is_silent(self) -> None:
        stage = Stage()
        drips: list[Any] = [(2.0, "x")] * 5
        asked = stage.ask(
            stage.target(stream=True),
            script={"a": [[*drips, End()]]},
            exchange=StreamExchange("raise"),
            deadline=9.0,
        )
        assert isinstance(asked.error, e.DeadlineExceededError)
        assert asked.played.duration == 9.0
        assert asked.played.emitted == (TextDelta("x"),) * 4


class TestLedger:
    """What an attempt that ran out of time says about it."""

    def test_a_stream_that_the_deadline_ends_says_so(self) -> None:
        stage = Stage()
        target = stage.target(stream=True, slots=1)
        script: dict[str, list[Step]] = {"a": [["begun", (20.0, "late")]]}
        asked = stage.ask(target, script=script, exchange=StreamExchange("raise"), deadline=9.0)
        (entry,) = asked.ledger
        assert (entry.outcome, entry.reason, entry.duration) == ("abandoned", "deadline", 9.0)
        assert target.breaker is not None
        assert target.breaker.statistics().calls == 0

    def test_an_answer_that_never_comes_is_the_cause_of_the_deadline_error(self) -> None:
        stage = Stage()
        target = stage.target(slots=1)
        asked = stage.ask(target, script={"a": [faults.silence()]}, deadline=9.0)
        assert isinstance(asked.error, e.DeadlineExceededError)
        assert isinstance(asked.error.__cause__, e.ProviderTimeoutError)
        (entry,) = asked.ledger
        assert (entry.outcome, entry.reason) == ("abandoned", "deadline")

    def test_each_attempt_has_its_own_wait_for_a_slot(self) -> None:
        stage = Stage()
        first, second = (stage.target(name, slots=1, retry=ONCE) for name in "ab")
        assert first.pool is not None
        assert second.pool is not None
        held = [each.pool.request(Need(), 0.0) for each in (first, second) if each.pool]
        asked = stage.ask(
            first,
            second,
            script={"a": [DOWN], "b": ["fine"]},
            meanwhile={
                2.0: lambda: held[0].release(stage.clock()),
                5.0: lambda: held[1].release(stage.clock()),
            },
        )
        assert [entry.waited for entry in asked.ledger.sent] == [2.0, 3.0]
        assert asked.ledger.waited == 5.0


class TestGivenBack:
    """A budget that was reserved for an attempt which is never sent."""

    def test_when_the_breaker_refuses(self) -> None:
        stage = Stage()
        target = stage.target(slots=1)
        trip(target.breaker)
        budget = Budget(tokens=10_000)
        asked = stage.ask(target, script={}, budget=budget)
        assert isinstance(asked.error, e.CircuitOpenError)
        assert budget.spent_tokens == 0
        assert target.pool is not None
        assert target.pool.in_use == 0

    @pytest.mark.parametrize(
        ("deadline", "fallback", "error"),
        [(8.0, True, type(None)), (8.0, False, e.DeadlineExceededError)],
    )
    def test_when_the_wait_for_a_slot_fails(
        self, deadline: float, fallback: bool, error: type
    ) -> None:
        stage = Stage()
        full = stage.target("full", slots=1)
        assert full.pool is not None
        holder = full.pool.request(Need(), 0.0)  # a dropped lease is given back
        assert holder.granted
        budget = Budget(tokens=10_000)
        stops = [full, stage.target("free")] if fallback else [full]
        answer = Response("fine", Usage(3, 4))
        asked = stage.ask(*stops, script={"free": [answer]}, deadline=deadline, budget=budget)
        assert type(asked.error) is error
        assert budget.spent_tokens == (7 if fallback else 0)

    def test_when_the_caller_leaves_the_queue(self) -> None:
        def leave() -> None:
            raise asyncio.CancelledError

        stage = Stage()
        full = stage.target("full", slots=1)
        assert full.pool is not None
        holder = full.pool.request(Need(), 0.0)  # a dropped lease is given back
        assert holder.granted
        budget = Budget(tokens=10_000)
        asked = stage.ask(full, script={}, budget=budget, meanwhile={1.0: leave})
        assert isinstance(asked.error, asyncio.CancelledError)
        assert (budget.spent_tokens, full.pool.waiting) == (0, 0)

    def test_when_a_second_budget_is_exceeded(self) -> None:
        wide, narrow = Budget(tokens=10_000), Budget(tokens=10)
        with LLMManager(cache=None, clock=FakeClock(), budget=wide) as llm:
            llm.register_model("m", lambda prompt, options: "fine")
            with pytest.raises(e.BudgetExceededError):
                llm.complete("hi", max_tokens=50, budget=narrow)
        assert (wide.spent_tokens, narrow.spent_tokens) == (0, 0)


class TestBudgetEdges:
    def test_an_estimate_that_fits_exactly_is_sent(self) -> None:
        budget = Budget(tokens=100, usd=1.0)
        price = Price(input=10.0, output=10.0)
        budget.reserve(Need(60, 40), price, "m")
        assert budget.exhausted
        for need in (Need(1, 0), Need(0, 1)):
            with pytest.raises(e.BudgetExceededError):
                budget.reserve(need, price, "m")
        assert (budget.spent_tokens, budget.spent_usd) == (100, 1.0)

    def test_money_ends_before_tokens_do(self) -> None:
        budget = Budget(tokens=1_000_000, usd=0.5)
        with pytest.raises(e.BudgetExceededError, match="USD"):
            budget.reserve(Need(51, 0), Price(input=10.0, output=10.0), "m")
        assert not budget.exhausted
        assert (budget.spent_tokens, budget.spent_usd) == (0, 0.0)

    def test_a_retry_that_takes_the_last_tokens_is_paid(self) -> None:
        stage = Stage()
        for tokens, sent in ((5, 2), (4, 1)):
            target = stage.target(budget=tokens)
            script: dict[str, list[Step]] = {"a": [DOWN, "fine"]}
            assert len(stage.ask(target, script=script).order) == sent

    def test_no_share_is_infinite_for_a_call_without_a_deadline(self) -> None:
        stage = Stage()
        asked = stage.ask(stage.target(), script={"a": ["fine"]}, deadline=math.inf)
        assert asked.call.time_left() == math.inf
