"""The counters inside the process: what is counted, and in which unit."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.telemetry.recorder import RECENT, WINDOW, Recorder
from agentkit.testing import FakeClock
from agentkit.types.ledger import Entry, Outcome
from agentkit.types.observer import CallOutcome
from tests.forks import forks, in_child

SENT = [outcome for outcome in get_args(Outcome) if outcome != "skipped"]
KINDS = [None, "429", "500", "400", "content_filter", "timeout"]
seconds = st.floats(0, 1e6, allow_nan=False)
entries = st.builds(
    Entry,
    st.sampled_from("ab"),
    st.just("p"),
    st.sampled_from(SENT),
    st.integers(1, 4),
    duration=seconds,
    error_type=st.sampled_from(KINDS),
    input_tokens=st.integers(0, 9),
    output_tokens=st.integers(0, 9),
    details=st.none(),
)
outcomes = st.sampled_from(get_args(CallOutcome))


@pytest.mark.promise("A15", "S2-40", "S3-21", "S3-22")
@given(st.lists(st.one_of(entries, outcomes, st.floats(0, 200))))
def test_rates_are_fractions_and_sums_add_up(history: list[Entry | str | float]) -> None:
    clock = FakeClock()
    recorder = Recorder(clock)
    for each in history:
        if isinstance(each, Entry):
            recorder.attempt(each)
        elif isinstance(each, str):
            recorder.call(each)  # type: ignore[arg-type]
        else:
            clock.advance(each)
    sent = [each for each in history if isinstance(each, Entry)]
    ended = [each for each in history if isinstance(each, str)]
    stats = recorder.metrics()
    assert 0.0 <= stats["success_rate"] <= 1.0
    assert 0.0 <= stats["cache_hit_rate"] <= 1.0
    assert stats["total_requests"] == len(ended)
    assert stats["failed_requests"] == ended.count("error")
    assert stats["cache_hits"] == ended.count("cache_hit")
    assert stats["successful_requests"] == len(
        [o for o in ended if o not in ("error", "cancelled")]
    )
    assert stats["total_retries"] == sum(each.number > 1 for each in sent)
    assert stats["total_tokens"] == sum(each.input_tokens + each.output_tokens for each in sent)
    for name in "ab":
        model, health = recorder.model(name), recorder.health(name)
        mine = [each for each in sent if each.model == name]
        durations = [each.duration for each in mine if each.outcome == "success"]
        assert model["requests"] == len(mine)
        assert model["successes"] == len(durations)
        assert model["failures"] == len([each for each in mine if each.outcome == "failure"])
        assert model["total_latency"] == pytest.approx(sum(durations))
        assert 0.0 <= health.success_rate <= 1.0
        assert health.samples <= len(mine)
        assert model["p50_latency"] <= model["p95_latency"]
        assert health.p50_latency <= health.p95_latency
        assert {model["p50_latency"], model["p95_latency"]} <= {0.0, *durations}


def done(duration: float = 1.0, outcome: Outcome = "success", kind: str | None = None) -> Entry:
    return Entry("a", "p", outcome, 1, duration=duration, error_type=kind)


def test_a_model_that_was_never_asked_is_zeros_and_healthy() -> None:
    recorder = Recorder()
    assert set(recorder.model("a").values()) == {0}
    health = recorder.health("a")
    assert (health.success_rate, health.samples) == (1.0, 0)
    assert recorder.metrics()["success_rate"] == 1.0
    assert recorder.metrics()["cache_hit_rate"] == 0.0


@pytest.mark.promise("S3-21")
def test_percentiles_are_of_the_successes_in_the_window() -> None:
    recorder = Recorder(FakeClock())
    recorder.attempt(done(1000.0))
    for duration in range(1, 101):
        recorder.attempt(done(float(duration)))
    for _ in range(WINDOW - 100):
        recorder.attempt(done(0.0, "failure", "500"))
    stats = recorder.model("a")
    assert stats["p50_latency"] == pytest.approx(50, abs=1)
    assert stats["p95_latency"] == pytest.approx(95, abs=1)
    assert stats["avg_latency"] == pytest.approx((1000 + 5050) / 101), "over all, not the window"


def test_abandoned_attempts_do_not_change_the_rates() -> None:
    recorder = Recorder(FakeClock())
    recorder.attempt(done(9.0, "abandoned"))
    recorder.call("cancelled")
    stats = recorder.model("a")
    assert (stats["requests"], stats["successes"], stats["failures"]) == (1, 0, 0)
    assert recorder.health("a").samples == 0
    assert recorder.metrics()["total_requests"] == 1
    assert recorder.metrics()["success_rate"] == 1.0


@pytest.mark.parametrize("kind", ["400", "413", "422", "content_filter", "context_length_exceeded"])
def test_errors_of_the_request_itself_do_not_affect_health(kind: str) -> None:
    recorder = Recorder(FakeClock())
    recorder.attempt(done(1.0, "failure", kind))
    assert recorder.model("a")["failures"] == 1
    assert recorder.health("a").samples == 0


def test_health_forgets_what_is_old_and_counts_do_not() -> None:
    clock = FakeClock()
    recorder = Recorder(clock)
    recorder.attempt(done(1.0, "failure", "500"))
    clock.advance(RECENT)
    recorder.attempt(done(2.0))
    assert recorder.health("a").success_rate == 0.5
    clock.advance(0.5)
    health = recorder.health("a")
    assert (health.success_rate, health.p50_latency, health.samples) == (1.0, 2.0, 1)
    assert recorder.model("a")["failures"] == 1


def test_forgetting_a_model_keeps_the_totals() -> None:
    recorder = Recorder(FakeClock())
    recorder.attempt(Entry("a", "p", "success", 2, input_tokens=3, output_tokens=4))
    recorder.forget("a")
    recorder.forget("a")
    assert recorder.model("a")["requests"] == 0
    assert (recorder.metrics()["total_retries"], recorder.metrics()["total_tokens"]) == (1, 7)


@forks
def test_a_forked_child_continues_counting() -> None:
    recorder = Recorder(FakeClock())
    recorder.attempt(done())

    def work() -> object:
        recorder.attempt(done())
        return recorder.model("a")["requests"]

    assert in_child(work) == "2"
