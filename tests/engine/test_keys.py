"""Keys, slots and quota as one request meets them: with which key it asks, and how it waits."""

from __future__ import annotations

import pytest

from agentkit import errors as e
from agentkit.engine.exchange import COMPLETE, StreamExchange
from agentkit.policy.limits import COOLDOWN, Need, RateLimits
from agentkit.policy.retry import RetryPolicy
from agentkit.testing import Step, faults, overloaded, rate_limited
from agentkit.types import Quota, Request, Response
from tests.engine.keyed import assert_idle, keyed, pool_of, take, used
from tests.engine.stage import Stage, trip

pytestmark = pytest.mark.flows

REFUSED = faults.Status(401)
DOWN = overloaded()


class TestAnotherKey:
    @pytest.mark.promise("S4-42")
    def test_a_429_moves_the_same_request_to_the_next_key_without_waiting(self) -> None:
        stage = Stage()
        target = keyed(stage)
        asked = stage.ask(target, script={"a": [rate_limited(retry_after=20), "fine"]})
        assert asked.text == "fine"
        assert used(asked) == ["#1", "#2"]
        assert asked.played.sleeps == ()
        assert asked.watch.retries == [("a", 2, 0.0, "next_key")]
        assert (asked.ledger.slept, asked.ledger.waited) == (0, 0)
        assert_idle(target)

    def test_the_limited_key_is_not_used_until_its_retry_after(self) -> None:
        stage = Stage()
        target = keyed(stage)
        stage.ask(target, script={"a": [rate_limited(retry_after=20), "fine"]})
        for _ in range(4):
            assert used(stage.ask(target, script={"a": "fine"})) == ["#2"]
        stage.clock.advance(20)
        assert used(stage.ask(target, script={"a": "fine"})) == ["#1"]
        assert target.rate_limited_for(stage.clock()) <= 0, "the target itself never rested"
        assert target.breaker is not None
        assert target.breaker.statistics().consecutive_failures == 0

    def test_when_every_key_is_limited_it_waits_for_the_first_to_come_back(self) -> None:
        stage = Stage()
        target = keyed(stage)
        asked = stage.ask(
            target, script={"a": [rate_limited(retry_after=2), rate_limited(retry_after=4), "fine"]}
        )
        assert used(asked) == ["#1", "#2", "#1"]
        assert sum(asked.played.sleeps) == 2.0
        assert asked.text == "fine"

    def test_a_long_rest_of_every_key_is_not_waited_for(self) -> None:
        stage = Stage()
        target = keyed(stage)
        asked = stage.ask(
            target, script={"a": [rate_limited(retry_after=50), rate_limited(retry_after=40)]}
        )
        assert isinstance(asked.error, e.RateLimitError)
        assert asked.error.retry_after == 40
        assert asked.played.sleeps == ()

    def test_a_refused_key_is_retired_and_the_request_continues(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        stage = Stage()
        target = keyed(stage, 3)
        asked = stage.ask(target, script={"a": [REFUSED, "fine"]})
        assert used(asked) == ["#1", "#2"]
        later = [used(stage.ask(target, script={"a": "fine"}))[0] for _ in range(4)]
        assert later == ["#3", "#2", "#3", "#2"]
        assert [record.getMessage() for record in caplog.records] == [
            "a: key #1 was refused and is not used again"
        ]

    def test_the_last_key_stays_and_the_targets_breaker_takes_over(self) -> None:
        stage = Stage()
        target = keyed(stage)
        asked = stage.ask(target, script={"a": [REFUSED, REFUSED]})
        assert isinstance(asked.error, e.AuthenticationError)
        for _ in range(4):
            asked = stage.ask(target, script={"a": [REFUSED]})
            assert isinstance(asked.error, e.AuthenticationError)
        assert target.breaker_state == "open"
        assert isinstance(stage.ask(target, script={}).error, e.CircuitOpenError)

    @pytest.mark.parametrize("status", [402, 403, 404])
    def test_a_key_without_credit_or_right_is_not_used_for_now(self, status: int) -> None:
        stage = Stage()
        target = keyed(stage)
        asked = stage.ask(target, script={"a": [faults.Status(status), "fine"]})
        assert used(asked) == ["#1", "#2"]
        stage.clock.advance(COOLDOWN)
        assert used(stage.ask(target, script={"a": "fine"})) == ["#1"]

    def test_one_dead_key_does_not_stop_the_service(self) -> None:
        stage = Stage()
        target = keyed(stage, 2, retry=RetryPolicy(max_attempts=2, jitter=0.0))
        script: list[Step] = [DOWN, "fine"] * 3
        for round_ in range(3):
            asked = stage.ask(target, script={"a": script[2 * round_ :]})
            assert used(asked) == ["#1", "#2"]
        for _ in range(10):
            assert used(stage.ask(target, script={"a": "fine"})) == ["#2"]
        stage.clock.advance(COOLDOWN)
        assert used(stage.ask(target, script={"a": "fine"})) == ["#1"], "it recovers"

    def test_a_success_in_between_keeps_a_key_in_service(self) -> None:
        stage = Stage()
        target = keyed(stage, 2, retry=RetryPolicy(max_attempts=2, jitter=0.0), breaker=False)
        for _ in range(3):
            assert used(stage.ask(target, script={"a": [DOWN, "fine"]})) == ["#1", "#2"]
            assert used(stage.ask(target, script={"a": ["fine"]})) == ["#1"]
            assert used(stage.ask(target, script={"a": ["fine"]})) == ["#2"]

    def test_a_silent_key_counts_as_failing(self) -> None:
        stage = Stage()
        target = keyed(stage, 2, timeout=1.0, retry=RetryPolicy(max_attempts=2, jitter=0.0))
        for _ in range(3):
            asked = stage.ask(target, script={"a": [(9.0, "late"), "fine"]})
            assert used(asked) == ["#1", "#2"]
        assert used(stage.ask(target, script={"a": "fine"})) == ["#2"]

    def test_a_stream_that_cannot_open_continues_with_the_next_key(self) -> None:
        stage = Stage()
        target = keyed(stage, stream=True)
        asked = stage.ask(
            target,
            script={"a": [rate_limited(retry_after=20), "one two"]},
            exchange=StreamExchange("raise"),
        )
        assert used(asked) == ["#1", "#2"]
        assert asked.text == "one two"
        assert asked.played.sleeps == ()
        assert_idle(target)

    def test_an_answer_teaches_the_limits_of_its_key_alone(self) -> None:
        stage = Stage()
        target = keyed(stage)
        stage.ask(target, script={"a": [Response("fine", quota=Quota(requests_per_minute=7))]})
        learned = [each.window.limits()["requests_per_minute"] for each in pool_of(target).members]
        assert learned == [7, None]


class TestWaiting:
    def test_the_sixth_call_of_a_key_waits_for_a_release(self) -> None:
        stage = Stage()
        target = keyed(stage, 1)
        leases = take(target, 5, stage.clock())
        asked = stage.ask(
            target, script={"a": ["fine"]}, meanwhile={3.0: lambda: leases[2].release(3.0)}
        )
        assert asked.text == "fine"
        assert (asked.ledger.waited, asked.ledger[0].waited) == (3.0, 3.0)
        assert pool_of(target).in_use == 4

    def test_a_release_in_the_distance_is_not_missed(self) -> None:
        stage = Stage()
        target = keyed(stage, 1, slots=1)
        [lease] = take(target, 1, stage.clock())
        asked = stage.ask(
            target, script={"a": ["fine"]}, meanwhile={77.0: lambda: lease.release(77.0)}
        )
        assert asked.ledger.waited == 77.0

    def test_time_alone_frees_quota(self) -> None:
        stage = Stage()
        target = keyed(stage, 1, limits=RateLimits(requests_per_minute=1))
        stage.ask(target, script={"a": ["one"]})
        stage.clock.advance(12)
        asked = stage.ask(target, script={"a": ["two"]})
        assert asked.text == "two"
        assert asked.played.sleeps == (48.0,)
        assert asked.ledger.waited == 48.0

    def test_a_wait_without_a_deadline_has_no_end_of_its_own(self) -> None:
        stage = Stage()
        target = keyed(stage, 1, slots=1)
        [lease] = take(target, 1, stage.clock())
        asked = stage.ask(
            target, script={"a": ["fine"]}, deadline=None,
            meanwhile={9000.0: lambda: lease.release(9000.0)},
        )  # fmt: skip
        assert asked.text == "fine"
        assert max(asked.played.sleeps) < 60

    @pytest.mark.promise("S2-07")
    @pytest.mark.parametrize("deadline", [59.0, 60.0])
    def test_a_wait_that_leaves_no_time_is_not_begun(self, deadline: float) -> None:
        stage = Stage()
        target = keyed(stage, 1, limits=RateLimits(requests_per_minute=1))
        stage.ask(target, script={"a": ["one"]})
        asked = stage.ask(target, script={}, deadline=deadline)
        assert isinstance(asked.error, e.DeadlineExceededError)
        assert (asked.played.sleeps, asked.played.duration) == ((), 0.0)
        assert_idle(target)

    def test_an_exhausted_pool_is_an_error_after_the_acquire_timeout(self) -> None:
        stage = Stage()
        target = keyed(stage, 1, slots=1, acquire_timeout=7.0)
        _held = take(target, 1, stage.clock())
        asked = stage.ask(target, script={})
        assert isinstance(asked.error, e.PoolExhaustedError)
        assert "within 7.0 s" in str(asked.error)
        assert (asked.played.duration, asked.ledger.waited) == (7.0, 7.0)
        assert asked.reasons == ["no_quota"]
        assert pool_of(target).waiting == 0

    def test_a_wait_longer_than_the_acquire_timeout_fails_immediately(self) -> None:
        stage = Stage()
        limits = RateLimits(requests_per_minute=1)
        target = keyed(stage, 1, limits=limits, acquire_timeout=10.0)
        stage.ask(target, script={"a": ["one"]})
        stage.clock.advance(15)
        asked = stage.ask(target, script={})
        assert isinstance(asked.error, e.PoolExhaustedError)
        assert asked.error.retry_after == 45.0
        assert asked.played.sleeps == ()

    def test_an_acquire_timeout_of_zero_never_waits_and_says_when_to_come_back(self) -> None:
        stage = Stage()
        limits = RateLimits(requests_per_minute=1)
        target = keyed(stage, 1, limits=limits, acquire_timeout=0.0)
        stage.ask(target, script={"a": ["one"]})
        asked = stage.ask(target, script={})
        assert isinstance(asked.error, e.PoolExhaustedError)
        assert (asked.error.retry_after, asked.played.sleeps) == (60.0, ())

    def test_the_deadline_cuts_the_acquire_timeout(self) -> None:
        stage = Stage()
        target = keyed(stage, 1, slots=1, acquire_timeout=30.0)
        _held = take(target, 1, stage.clock())
        asked = stage.ask(target, script={}, deadline=4.0)
        assert isinstance(asked.error, e.DeadlineExceededError)
        assert asked.played.duration == 4.0

    @pytest.mark.parametrize(("deadline", "kept"), [(9.0, 3.0), (300.0, 10.0)])
    def test_with_fallbacks_left_a_full_pool_keeps_a_call_only_for_its_part(
        self, deadline: float, kept: float
    ) -> None:
        stage = Stage()
        full = keyed(stage, 1, slots=1)
        _held = take(full, 1, stage.clock())
        rest = [stage.target("b"), stage.target("c")]
        asked = stage.ask(full, *rest, script={"b": ["fine"]}, deadline=deadline)
        assert asked.text == "fine"
        assert asked.ledger.waited == kept
        assert asked.reasons == ["no_quota"]
        assert asked.watch.fallbacks[0][:2] == ("a", "b")
        assert pool_of(full).waiting == 0

    def test_quota_that_comes_back_too_late_sends_the_call_on_at_once(self) -> None:
        stage = Stage()
        full = keyed(stage, 1, limits=RateLimits(requests_per_minute=1))
        stage.ask(full, script={"a": ["one"]})
        asked = stage.ask(full, stage.target("b"), script={"b": ["fine"]})
        assert asked.text == "fine"
        assert asked.played.sleeps == ()

    def test_an_open_breaker_is_not_waited_for(self) -> None:
        stage = Stage()
        target = keyed(stage, 1, slots=1)
        _held = take(target, 1, stage.clock())
        trip(target.breaker)
        asked = stage.ask(target, script={})
        assert isinstance(asked.error, e.CircuitOpenError)
        assert asked.played.sleeps == ()
        assert pool_of(target).waiting == 0

    def test_priority_travels_with_the_request(self) -> None:
        stage = Stage()
        target = keyed(stage, 1, slots=1)
        [lease] = take(target, 1, stage.clock())
        other = pool_of(target).request(Need(), stage.clock())
        asked = stage.ask(
            target, script={"a": ["fine"]}, request=Request(prompt="hi", priority=1),
            meanwhile={1.0: lambda: lease.release(1.0)},
        )  # fmt: skip
        assert asked.text == "fine"
        assert other.granted, "served after it"

    @pytest.mark.promise("N6")
    @pytest.mark.parametrize("effects", range(1, 6))
    @pytest.mark.parametrize("stream", [False, True])
    def test_a_caller_that_leaves_at_any_point_leaves_nothing_behind(
        self, effects: int, stream: bool
    ) -> None:
        stage = Stage()
        target = keyed(stage, 1, slots=1, stream=stream)
        [lease] = take(target, 1, stage.clock())
        exchange = StreamExchange("raise") if stream else COMPLETE
        stage.ask(
            target, script={"a": [rate_limited(retry_after=1), "one two"]}, stop_after=effects,
            meanwhile={1.0: lambda: lease.release(1.0)}, exchange=exchange,
        )  # fmt: skip
        lease.release(2.0)
        assert_idle(target)
