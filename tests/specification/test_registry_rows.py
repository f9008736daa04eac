"""The registry document's promises, one test a row; the names carry the specification's ids."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from agentkit import (
    Agent,
    LLMError,
    LLMManager,
    Response,
    RetryPolicy,
    Telemetry,
    UnknownModelError,
    Usage,
)
from agentkit.testing import FakeClock

METRICS = {
    "total_requests", "successful_requests", "failed_requests", "cache_hits", "total_retries",
    "total_tokens", "success_rate", "cache_hit_rate", "active_model", "fallback_chain",
    "stuck_calls",
}  # fmt: skip
STATS = {"requests", "successes", "failures", "total_latency", "avg_latency",
         "p50_latency", "p95_latency"}  # fmt: skip


class Recorder:
    """A model that remembers how it was called."""

    def __init__(self, answer: str = "x") -> None:
        self.answer = answer
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, prompt: str, kwargs: dict[str, Any]) -> str:
        self.calls.append((prompt, kwargs))
        return self.answer


def failing(error: type[Exception], log: list[str], name: str) -> Callable[..., str]:
    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        log.append(name)
        raise error

    return model


def quiet(clock: FakeClock | None = None, **options: Any) -> LLMManager:
    options.setdefault("enable_caching", False)
    return LLMManager(clock=clock or FakeClock(), rng=lambda: 0.5, **options)


@pytest.mark.promise("S3-01")
def test_s3_01_the_constructor_takes_both_by_keyword_and_by_position() -> None:
    log: list[str] = []
    for llm in (LLMManager(2, False, clock=FakeClock()),
                LLMManager(max_retries=2, enable_caching=False, clock=FakeClock())):  # fmt: skip
        log.clear()
        llm.register_model("m", failing(OSError, log, "m"))
        with pytest.raises(LLMError):
            llm.generate("hi")
        assert len(log) == 2


@pytest.mark.promise("S3-02")
def test_s3_02_and_35_metadata_is_kept_verbatim() -> None:
    llm = quiet()
    metadata = {"provider": "openai", "max_tokens": 8192, "cost_per_1k_tokens": 0.03, "x": [1]}
    llm.register_model(name="gpt-4", inference_fn=Recorder(), metadata=metadata)
    assert llm.get_model_info("gpt-4")["metadata"] == metadata


@pytest.mark.promise("S3-03", "S3-07")
def test_s3_03_and_07_options_come_as_one_positional_dict_fresh_each_attempt() -> None:
    seen: list[dict[str, Any]] = []

    def greedy(prompt: str, kwargs: dict[str, Any]) -> str:
        seen.append(dict(kwargs))
        kwargs.clear()
        if len(seen) == 1:
            raise ConnectionError
        return "x"

    llm = quiet()
    llm.register_model("m", greedy)
    llm.generate("hi", temperature=0.7, max_tokens=500)
    assert seen == [{"temperature": 0.7, "max_tokens": 500}] * 2


@pytest.mark.promise("S3-04")
def test_s3_04_the_active_model_is_asked_first_and_must_exist() -> None:
    llm = quiet()
    llm.register_model("a", Recorder("a"))
    llm.register_model("b", Recorder("b"))
    llm.set_active_model("b")
    assert llm.generate("hi") == "b"
    with pytest.raises(UnknownModelError):
        llm.set_active_model("c")


@pytest.mark.promise("S3-05")
def test_s3_05_the_chain_is_walked_in_order_without_duplicates() -> None:
    log: list[str] = []
    llm = quiet(retry=RetryPolicy(max_attempts=1))
    for name in "abc":
        llm.register_model(name, failing(OSError, log, name))
    llm.set_active_model("b")
    llm.set_fallback_chain(["a", "b", "a", "c"])
    with pytest.raises(LLMError):
        llm.generate("hi")
    assert log == ["b", "a", "c"]


@pytest.mark.promise("S3-06", "S3-25", "S4-48")
def test_s3_06_and_25_retries_come_before_fallback() -> None:
    log: list[str] = []
    llm = quiet()
    llm.register_model("primary", failing(ConnectionError, log, "primary"))
    llm.register_model("backup", Recorder("saved"))
    llm.set_fallback_chain(["primary", "backup"])
    assert llm.generate("hi") == "saved"
    assert log == ["primary"] * 3


@pytest.mark.promise("S3-08")
def test_s3_08_clearing_empties_memory_and_disk(tmp_path: Path) -> None:
    model = Recorder()
    llm = LLMManager(cache_dir=str(tmp_path))
    llm.register_model("m", model, {"version": "1"})
    llm.generate("hi")
    llm.clear_cache()
    other = LLMManager(cache_dir=str(tmp_path))
    other.register_model("m", model, {"version": "1"})
    assert other.complete("hi").cached is False
    llm.generate("hi")
    assert len(model.calls) >= 2


@pytest.mark.promise("S3-09")
def test_s3_09_model_info_has_exactly_these_keys() -> None:
    llm = quiet()
    llm.register_model("m", Recorder())
    llm.generate("hi")
    info = llm.get_model_info("m")
    assert set(info) == {"name", "metadata", "stats", "circuit_breaker_state"}
    assert set(info["stats"]) == STATS


@pytest.mark.promise("S3-10")
def test_s3_10_metrics_have_exactly_these_keys_before_and_after_a_call() -> None:
    llm = quiet()
    before = llm.get_metrics()
    assert set(before) == METRICS
    assert before["success_rate"] == 1.0
    assert not any(before[key] for key in METRICS - {"success_rate"})
    llm.register_model("m", Recorder())
    llm.generate("hi")
    assert set(llm.get_metrics()) == METRICS


def open_breaker(llm: LLMManager, name: str) -> None:
    while llm.get_model_info(name)["circuit_breaker_state"] != "open":
        with pytest.raises(LLMError):
            llm.complete("hi", model=name)


@pytest.mark.promise("S3-11")
def test_s3_11_a_breaker_can_be_reset_by_hand() -> None:
    llm = quiet()
    llm.register_model("m", failing(OSError, [], "m"))
    open_breaker(llm, "m")
    llm.reset_circuit_breaker("m")
    assert llm.get_model_info("m")["circuit_breaker_state"] == "closed"


@pytest.mark.promise("S3-12")
def test_s3_12_models_are_listed_in_registration_order() -> None:
    llm = quiet()
    for name in ("z", "a", "m"):
        llm.register_model(name, Recorder())
    assert llm.list_models() == ["z", "a", "m"]


@pytest.mark.promise("S3-18")
def test_s3_18_a_breaker_is_each_models_own() -> None:
    llm = quiet()
    llm.register_model("a", failing(OSError, [], "a"))
    llm.register_model("b", Recorder("b"))
    open_breaker(llm, "a")
    assert llm.get_model_info("b")["circuit_breaker_state"] == "closed"
    assert llm.complete("hi", model="b").text == "b"


@pytest.mark.promise("S3-19", "S3-20")
def test_s3_19_and_20_five_failing_calls_open_it_and_each_state_shows() -> None:
    clock = FakeClock()
    llm = quiet(clock, max_retries=1)
    outcomes: list[Any] = [OSError()] * 5

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        if outcomes:
            raise outcomes.pop()
        states.append(state())
        return "x"

    def state() -> str:
        return str(llm.get_model_info("m")["circuit_breaker_state"])

    llm.register_model("m", model)
    states = []
    for _ in range(5):
        states.append(state())
        with pytest.raises(LLMError):
            llm.generate("hi")
    states.append(state())
    clock.advance(60)
    llm.generate("hi")
    assert [*states, state()] == ["closed"] * 5 + ["open", "half-open", "closed"]


@pytest.mark.promise("S3-21")
def test_s3_21_statistics_are_seconds_by_attempt() -> None:
    clock = FakeClock()
    llm = quiet(clock, max_retries=1)
    outcomes: list[Any] = [1.0, 3.0, OSError()]

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        clock.advance(outcome)
        return "x"

    llm.register_model("m", model)
    llm.generate("hi")
    llm.generate("hi")
    with pytest.raises(LLMError):
        llm.generate("hi")
    stats = llm.get_model_info("m")["stats"]
    assert (stats["requests"], stats["successes"], stats["failures"]) == (3, 2, 1)
    assert stats["avg_latency"] == pytest.approx(2.0)
    assert stats["total_latency"] == pytest.approx(4.0)


@pytest.mark.promise("S3-22")
@given(st.lists(st.booleans(), max_size=20))
def test_s3_22_rates_are_fractions(outcomes: list[bool]) -> None:
    llm = quiet(max_retries=1, breaker=False)
    script = list(outcomes)

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        if script.pop(0):
            return "x"
        raise OSError

    llm.register_model("m", model)
    for outcome in outcomes:
        if outcome:
            llm.generate("hi")
        else:
            with pytest.raises(LLMError):
                llm.generate("hi")
    metrics = llm.get_metrics()
    assert 0.0 <= metrics["success_rate"] <= 1.0
    assert 0.0 <= metrics["cache_hit_rate"] <= 1.0
    if outcomes:
        assert metrics["success_rate"] == pytest.approx(sum(outcomes) / len(outcomes))


@pytest.mark.promise("S3-23", "S3-24")
def test_s3_23_and_24_the_schedule_is_0_1_2_4_8() -> None:
    """No sleep before the first attempt, none after the last."""
    clock = FakeClock()
    log: list[str] = []
    llm = quiet(clock, retry=RetryPolicy(max_attempts=5, jitter=0), breaker=False)
    llm.register_model("m", failing(ConnectionError, log, "m"))
    with pytest.raises(LLMError) as caught:
        llm.generate("hi")
    assert clock.sleeps == [1, 2, 4, 8]
    assert caught.value.ledger is not None
    assert [entry.delay for entry in caught.value.ledger] == [0, 1, 2, 4, 8]
    assert len(log) == 5


@pytest.mark.promise("S3-26")
def test_s3_26_a_name_that_is_not_registered_is_reported_not_fatal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    llm = quiet()
    llm.register_model("b", Recorder("b"))
    llm.set_fallback_chain(["gpt-3.5", "b"])
    reply = llm.complete("hi")
    assert (reply.text, reply.ledger[0].reason) == ("b", "not_registered")
    assert "gpt-3.5" in caplog.text


@pytest.mark.promise("S3-27")
def test_s3_27_a_second_manager_on_the_same_directory_hits(tmp_path: Path) -> None:
    calls: list[str] = []

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        calls.append(prompt)
        return "x"

    for expected in (False, True):
        with LLMManager(cache_dir=str(tmp_path)) as llm:
            llm.register_model("m", model, {"version": "1"})
            assert llm.complete("hi").cached is expected
    assert calls == ["hi"]


@pytest.mark.promise("S3-28")
def test_s3_28_bypassing_neither_reads_nor_writes(tmp_path: Path) -> None:
    model = Recorder()
    llm = LLMManager(cache_dir=str(tmp_path))
    llm.register_model("m", model, {"version": "1"})
    llm.generate("hi", use_cache=False)
    assert llm.complete("hi").cached is False
    llm.generate("hi", use_cache=False)
    assert len(model.calls) == 3


@pytest.mark.promise("S3-29")
def test_s3_29_disabled_caching_makes_no_directory(tmp_path: Path) -> None:
    llm = LLMManager(enable_caching=False, cache_dir=str(tmp_path / "responses"))
    llm.register_model("m", Recorder())
    llm.generate("hi")
    assert not (tmp_path / "responses").exists()


@pytest.mark.promise("S3-30")
def test_s3_30_the_printed_loop_sees_exceptions() -> None:
    llm = quiet()
    llm.register_model("unreliable-model", failing(OSError, [], "m"))
    seen = []
    for _ in range(10):
        try:
            llm.generate("Test prompt")
        except Exception as error:
            seen.append(error)
    assert len(seen) == 10


@pytest.mark.promise("S3-31", "S3-32", "S3-33", "S3-34")
def test_s3_31_to_34_an_agent_holds_a_manager_runs_tasks_and_reasons() -> None:
    llm = quiet()
    llm.register_model("m", Recorder("reasoned"))
    agent = Agent("A", "assistant", ["talk"], {"llm_manager": llm})
    assert agent.llm_manager is llm
    agent.start()
    assert agent.status == "running"
    assert agent.execute_task(functools.partial(int, base=2), "101") == 5
    assert agent.execute_task(agent.ask, "why?") == "reasoned"
    assert agent.get_performance_metrics()["successful_tasks"] == 3, "asking is a task of its own"
    with pytest.raises(ZeroDivisionError):
        agent.execute_task(lambda: 1 // 0)


@pytest.mark.promise("S3-36")
def test_s3_36_response_cache_hits_do_not_lower_the_success_rate() -> None:
    llm = LLMManager(cache="memory")
    llm.register_model("m", Recorder())
    for _ in range(10):
        llm.generate("same")
    assert llm.get_metrics()["success_rate"] == 1.0


@pytest.mark.promise("S3-40")
def test_s3_40_an_open_breaker_costs_a_fallback_no_sleep() -> None:
    clock = FakeClock()
    log: list[str] = []
    llm = quiet(clock)
    llm.register_model("down", failing(OSError, log, "down"))
    llm.register_model("up", Recorder("up"))
    open_breaker(llm, "down")
    asked, slept = len(log), len(clock.sleeps)
    llm.set_fallback_chain(["down", "up"])
    assert llm.generate("hi") == "up"
    assert (len(log), len(clock.sleeps)) == (asked, slept)


@pytest.mark.promise("S3-35", "S3-41")
def test_s3_35_and_41_success_latency_tokens_and_cost_are_exported_by_model() -> None:
    reader = InMemoryMetricReader()
    telemetry = Telemetry(meter_provider=MeterProvider([reader]))
    llm = quiet(telemetry=telemetry, max_retries=1)
    outcomes: list[Any] = [Response("x", Usage(700, 300)), OSError()]

    def model(prompt: str, kwargs: dict[str, Any]) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    llm.register_model("gpt-4", model, {"provider": "openai", "cost_per_1k_tokens": 0.03})
    llm.generate("hi")
    with pytest.raises(LLMError):
        llm.generate("hi")
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {
        metric.name: metric.data.data_points
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    attempts = metrics["gen_ai.client.operation.duration"]
    assert {dict(point.attributes or {})["gen_ai.request.model"] for point in attempts} == {"gpt-4"}
    failed = [point for point in attempts if "error.type" in dict(point.attributes or {})]
    assert (len(attempts), len(failed)) == (2, 1)
    (cost,) = metrics["agentkit.cost"]
    assert isinstance(cost, NumberDataPoint)
    assert cost.value == pytest.approx(0.03)
