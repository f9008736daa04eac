"""Token quota as one request meets it: estimated, reserved, corrected, refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import repeat

import pytest

from agentkit import errors as e
from agentkit.policy.limits import RateLimits
from agentkit.testing import Step, faults, overloaded
from agentkit.types import Quota, Request, Response, Usage
from tests.engine.keyed import keyed, pool_of, take
from tests.engine.stage import LITERAL, Stage

pytestmark = pytest.mark.flows

DOWN = overloaded()


class TestTokens:
    LIMITS = RateLimits(tokens_per_minute=2000)
    REQUEST = Request(prompt="7" * 166, params={"max_tokens": 1000})  # 104 and 1000 tokens

    def test_real_usage_gives_back_what_was_estimated_too_high(self) -> None:
        stage = Stage()
        target = keyed(stage, 1, limits=self.LIMITS)
        step: Step = Response("fine", usage=Usage(100, 10))
        for _ in range(8):  # an estimate of 1104 stands for 110
            asked = stage.ask(target, script={"a": [step]}, request=self.REQUEST)
            assert asked.played.sleeps == ()
        [member] = pool_of(target).members
        assert member.window.used(stage.clock())["tokens_per_minute"] == 880

    def test_an_answer_without_usage_keeps_its_estimate(self) -> None:
        stage = Stage()
        target = keyed(stage, 1, limits=self.LIMITS)
        stage.ask(target, script={"a": ["fine"]}, request=self.REQUEST)
        asked = stage.ask(target, script={"a": ["fine"]}, request=self.REQUEST)
        assert asked.played.sleeps == (60.0,)

    @pytest.mark.parametrize(
        ("step", "tokens"),
        [(DOWN, 0), (faults.Status(400), 0), ((9.0, "late"), 1104)],
        ids=["down", "invalid", "silent"],
    )
    def test_a_failure_takes_tokens_only_where_some_may_have_been_spent(
        self, step: Step, tokens: int
    ) -> None:
        stage = Stage()
        once = replace(LITERAL, max_attempts=1)
        target = keyed(stage, 1, limits=self.LIMITS, retry=once, timeout=5.0)
        stage.ask(target, script={"a": [step]}, request=self.REQUEST)
        counted = pool_of(target).members[0].window.used(stage.clock())
        assert counted["requests_per_minute"] == 1
        assert counted["tokens_per_minute"] == tokens

    def test_each_attempt_is_charged(self) -> None:
        stage = Stage()
        target = keyed(stage, 1, limits=RateLimits(requests_per_minute=2))
        asked = stage.ask(target, script={"a": [DOWN, DOWN, "fine"]})
        assert asked.text == "fine"
        assert asked.ledger.waited == pytest.approx(60.0 - asked.ledger.slept)

    def test_a_request_larger_than_the_limit_is_refused_before_it_is_sent(self) -> None:
        stage = Stage()
        target = keyed(stage, 1, limits=RateLimits(tokens_per_minute=1000))
        asked = stage.ask(target, script={}, request=self.REQUEST)
        assert isinstance(asked.error, e.PoolExhaustedError)
        assert "1,104 of 1,000 tokens_per_minute" in str(asked.error)
        assert asked.reasons == ["no_quota"]
        assert asked.played.effects == ()

    def test_a_request_too_large_for_one_model_is_asked_of_the_next(self) -> None:
        stage = Stage()
        small = keyed(stage, 1, limits=RateLimits(tokens_per_minute=1000))
        asked = stage.ask(small, stage.target("b"), script={"b": ["fine"]}, request=self.REQUEST)
        assert asked.text == "fine"

    def test_a_limit_learned_while_it_waits_may_refuse_it(self) -> None:
        stage = Stage()
        target = keyed(stage, 1, slots=1, limits=self.LIMITS)
        [lease] = take(target, 1, stage.clock())
        asked = stage.ask(
            target, script={}, request=self.REQUEST,
            meanwhile={2.0: lambda: lease.learn(Quota(tokens_per_minute=500), stage.clock())},
        )  # fmt: skip
        assert isinstance(asked.error, e.PoolExhaustedError)
        assert asked.ledger.waited == 2.0
        assert asked.reasons == ["no_quota"]
        assert pool_of(target).waiting == 0

    def test_many_requests_are_paced_by_the_window_and_never_faster(self) -> None:
        stage = Stage()
        target = keyed(stage, 3, limits=RateLimits(requests_per_minute=10))
        times = []
        for _ in range(100):
            stage.ask(target, script={"a": repeat("fine")}, deadline=None)
            times.append(stage.clock.elapsed)
        assert max(sum(at <= each < at + 60 for each in times) for at in times) == 30
        assert times[-1] == 180.0, "and not slower either"


class TestAnAnswerOfNoStatedLength:
    """A request without a maximum reserves 1024 tokens, or what a minute has room for."""

    PROMPT = "7" * 166  # 104 tokens

    @pytest.mark.parametrize(
        ("limits", "reserved"),
        [
            (RateLimits(output_tokens_per_minute=300), 300),
            (RateLimits(tokens_per_minute=500), 396),
            (RateLimits(output_tokens_per_minute=450, tokens_per_minute=500), 396),
            (RateLimits(tokens_per_minute=5000), 1024),
            (RateLimits(input_tokens_per_minute=104, output_tokens_per_minute=1), 1),
        ],
    )
    def test_is_not_refused_for_its_default(self, limits: RateLimits, reserved: int) -> None:
        stage = Stage()
        target = keyed(stage, 1, limits=limits)
        stage.ask(target, script={"a": ["fine"]}, request=Request(prompt=self.PROMPT))
        used = pool_of(target).members[0].window.used(stage.clock())
        assert used["output_tokens_per_minute"] == reserved

    @pytest.mark.parametrize(
        ("limits", "params"),
        [
            (RateLimits(output_tokens_per_minute=300), {"max_tokens": 301}),
            (RateLimits(input_tokens_per_minute=103), {}),
            (RateLimits(tokens_per_minute=104), {}),
        ],
        ids=["max_tokens", "input", "no room for any answer"],
    )
    def test_is_refused_where_the_rest_is_too_large(
        self, limits: RateLimits, params: dict[str, int]
    ) -> None:
        stage = Stage()
        target = keyed(stage, 1, limits=limits)
        asked = stage.ask(
            target, script={"a": ["fine"]}, request=Request(prompt=self.PROMPT, params=params)
        )
        assert isinstance(asked.error, e.PoolExhaustedError)
        assert asked.played.sleeps == ()
