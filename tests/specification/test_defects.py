"""Each defect found in the system the registry document describes: the same situation, put right.

The names carry the specification's ids, A1 to A19.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import (
    AllModelsFailedError,
    CircuitBreaker,
    CircuitOpenError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidResponseError,
    LLMError,
    LLMManager,
    ProviderError,
    RateLimitError,
    Response,
    RetryPolicy,
    UnknownModelError,
    Usage,
)
from agentkit.testing import FakeClock


class ThrottledError(Exception):
    """What an SDK raises for a 429."""

    status_code = 429


def failing(error: Callable[[], BaseException]) -> tuple[Callable[..., str], list[str]]:
    """A model that always raises, and the prompts it saw."""
    seen: list[str] = []

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        seen.append(prompt)
        raise error()

    return model, seen


def manager(clock: FakeClock | None = None, **options: Any) -> LLMManager:
    options.setdefault("enable_caching", False)
    return LLMManager(clock=clock or FakeClock(), rng=lambda: 0.5, **options)


@pytest.mark.promise("A1")
@pytest.mark.parametrize(
    "error", [ConnectionError, TimeoutError, ThrottledError, RuntimeError], ids=lambda e: e.__name__
)
def test_a1_network_timeout_and_throttling_errors_back_off_too(
    error: type[Exception],
) -> None:
    """The literal schedule 1, 2 comes for every kind of transient error, slept before the retry."""
    clock = FakeClock()
    llm = manager(clock, retry=RetryPolicy(jitter=0))
    model, seen = failing(error)
    llm.register_model("only", model)
    with pytest.raises(LLMError):
        llm.generate("hi")
    assert (len(seen), clock.sleeps) == (3, [1.0, 2.0])


@pytest.mark.promise("A2")
@pytest.mark.parametrize("error", [ValueError, KeyError, TypeError, AttributeError])
def test_a2_programming_and_permanent_errors_are_not_retried(error: type[Exception]) -> None:
    clock = FakeClock()
    llm = manager(clock)
    model, seen = failing(error)
    llm.register_model("only", model)
    with pytest.raises(ProviderError) as caught:
        llm.generate("hi")
    assert (len(seen), clock.sleeps) == (1, [])
    assert isinstance(caught.value.__cause__, error)


@pytest.mark.promise("A3")
def test_a3_no_failure_is_a_none() -> None:
    """No model, unknown model, a None answer, an open breaker: each raises and says why."""
    llm = manager()
    with pytest.raises(ConfigurationError, match="no model"):
        llm.generate("hi")
    with pytest.raises(UnknownModelError):
        llm.complete("hi", model="nobody")
    llm.register_model("none", lambda prompt, kwargs: None)
    with pytest.raises(InvalidResponseError, match="None"):
        llm.generate("hi")
    with pytest.raises(InvalidResponseError):
        llm.generate("hi")
    assert llm.get_model_info("none")["circuit_breaker_state"] == "open"
    with pytest.raises(CircuitOpenError):
        llm.generate("hi")


@pytest.mark.promise("A4")
def test_a4_the_printed_loop_catches_and_the_chain_alone_is_enough() -> None:
    llm = manager()
    model, _ = failing(ConnectionError)
    llm.register_model("down", model)
    llm.register_model("up", lambda prompt, kwargs: "fine")
    llm.set_fallback_chain(["down", "up"])
    assert llm.generate("hi") == "fine"
    llm.set_fallback_chain(["down"])
    caught = []
    for _ in range(3):
        try:
            llm.generate("hi")
        except Exception as error:
            caught.append(error)
    assert len(caught) == 3


@pytest.mark.promise("A5")
def test_a5_a_success_resets_the_count() -> None:
    """Failures spread over a lifetime do not open the breaker."""
    breaker = CircuitBreaker(failure_threshold=3, clock=FakeClock())
    for _ in range(5):
        for _ in range(2):
            with pytest.raises(OSError):
                breaker.call(_raise, OSError)
        breaker.call(int)
    assert breaker.state == "closed"


def _raise(error: type[Exception]) -> None:
    raise error


@pytest.mark.promise("A6")
def test_a6_one_failed_probe_reopens_at_once() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(failure_threshold=3, recovery_timeout=60, clock=clock)
    for _ in range(3):
        with pytest.raises(OSError):
            breaker.call(_raise, OSError)
    clock.advance(60)
    with pytest.raises(OSError):
        breaker.call(_raise, OSError)
    assert breaker.state == "open"
    with pytest.raises(CircuitOpenError):
        breaker.call(int)


@pytest.mark.promise("A7")
def test_a7_half_open_admits_one_probe_of_twenty_callers() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=1, clock=clock)
    with pytest.raises(OSError):
        breaker.call(_raise, OSError)
    clock.advance(1)
    permits = [breaker.admit() for _ in range(20)]
    assert sum(permit is not None for permit in permits) == 1


@pytest.mark.promise("A8")
def test_a8_the_clock_is_monotonic_and_zero_is_a_time() -> None:
    """A failure at time 0.0 recovers like any other."""
    clock = FakeClock(start=0.0)
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=5, clock=clock)
    with pytest.raises(OSError):
        breaker.call(_raise, OSError)
    clock.advance(5)
    assert breaker.call(int) == 0


@pytest.mark.promise("A9")
def test_a9_nothing_sleeps_after_the_breaker_opened() -> None:
    clock = FakeClock()
    llm = manager(clock, max_retries=10)
    model, seen = failing(ConnectionError)
    llm.register_model("only", model)
    with pytest.raises(ProviderError):
        llm.generate("hi")
    assert len(seen) == 5
    assert len(clock.sleeps) == 4


@pytest.mark.promise("A10")
def test_a10_the_breaker_counts_calls_and_ends_the_loop_with_the_last_real_error() -> None:
    """Three attempts a request: it opens at the second attempt of the second request."""
    llm = manager()
    model, seen = failing(ConnectionError)
    llm.register_model("only", model)
    for expected in (3, 5):
        with pytest.raises(ProviderError) as caught:
            llm.generate("hi")
        assert not isinstance(caught.value, CircuitOpenError)
        assert len(seen) == expected
    assert llm.get_model_info("only")["circuit_breaker_state"] == "open"


@pytest.mark.promise("A11")
def test_a11_switching_models_never_serves_the_other_ones_answer() -> None:
    llm = LLMManager(cache="memory")
    llm.register_model("a", lambda prompt, kwargs: "from a")
    llm.register_model("b", lambda prompt, kwargs: "from b")
    llm.set_active_model("a")
    assert llm.generate("hi") == "from a"
    llm.set_active_model("b")
    assert llm.generate("hi") == "from b"


@pytest.mark.promise("A12")
def test_a12_bypass_does_not_write_and_a_fallbacks_answer_is_its_own() -> None:
    llm = LLMManager(cache="memory", retry=RetryPolicy(max_attempts=1))
    healthy = threading.Event()
    calls: list[str] = []

    def primary(prompt: str, kwargs: dict[str, Any]) -> str:
        calls.append("primary")
        if not healthy.is_set():
            raise ConnectionError
        return "primary"

    llm.register_model("primary", primary)
    llm.register_model("backup", lambda prompt, kwargs: "backup")
    llm.set_fallback_chain(["primary", "backup"])
    assert llm.generate("q", use_cache=False) == "backup"
    assert llm.complete("q").cached is False
    healthy.set()
    assert llm.generate("q") == "primary"
    assert llm.complete("q").cached is True


@pytest.mark.promise("A13")
def test_a13_identical_calls_in_flight_share_one() -> None:
    llm = LLMManager(cache="memory")
    release = threading.Event()
    calls: list[str] = []

    def slow(prompt: str, kwargs: dict[str, Any]) -> str:
        calls.append(prompt)
        release.wait(5)
        return "one"

    llm.register_model("m", slow)
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(llm.generate("same"))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join()
    assert (len(calls), answers) == (1, ["one"] * 20)


@pytest.mark.promise("A14")
def test_a14_response_cache_hits_are_successes() -> None:
    llm = LLMManager(cache="memory")
    llm.register_model("m", lambda prompt, kwargs: "x")
    for _ in range(10):
        llm.generate("same")
    metrics = llm.get_metrics()
    assert (metrics["success_rate"], metrics["cache_hits"]) == (1.0, 9)
    assert metrics["cache_hit_rate"] == pytest.approx(0.9)


@pytest.mark.promise("A15")
def test_a15_retries_are_retries_and_tokens_are_the_providers() -> None:
    llm = manager(max_retries=5)
    outcomes: list[Any] = [ConnectionError(), ConnectionError(), Response("a b c", Usage(7, 5))]

    def model(prompt: str, kwargs: dict[str, Any]) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    llm.register_model("m", model)
    llm.generate("hi")
    metrics = llm.get_metrics()
    assert (metrics["total_retries"], metrics["total_tokens"]) == (2, 12)


@pytest.mark.promise("A16")
def test_a16_unknown_names_duplicates_and_zero_attempts_are_told() -> None:
    llm = manager()
    llm.register_model("gpt-4", lambda prompt, kwargs: "x")
    with pytest.raises(UnknownModelError, match="did you mean 'gpt-4'"):
        llm.set_active_model("gpt4")
    with pytest.raises(ConfigurationError, match="registered already"):
        llm.register_model("gpt-4", lambda prompt, kwargs: "y")
    with pytest.raises(ConfigurationError, match="single attempt"):
        LLMManager(max_retries=0)
    llm.set_fallback_chain(["gpt-5", "gpt-4"])
    ledger = llm.complete("hi").ledger
    assert (ledger[0].model, ledger[0].reason) == ("gpt-5", "not_registered")
    with pytest.raises(UnknownModelError):
        LLMManager(strict=True).set_fallback_chain(["gpt-5"])


@pytest.mark.promise("A17")
def test_a17_metrics_are_copies_and_count_under_threads() -> None:
    llm = manager()
    llm.register_model("m", lambda prompt, kwargs: "x")
    llm.set_fallback_chain(["m"])
    llm.get_metrics()["fallback_chain"].append("junk")
    assert llm.get_metrics()["fallback_chain"] == ["m"]
    threads = [
        threading.Thread(target=lambda: [llm.generate("hi") for _ in range(100)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert llm.get_metrics()["total_requests"] == 800


@pytest.mark.promise("A18")
def test_a18_there_is_a_deadline_a_timeout_cancellation_and_async() -> None:
    llm = LLMManager(enable_caching=False)

    async def silent(prompt: str, kwargs: dict[str, Any]) -> str:
        await asyncio.Event().wait()
        return "never"

    llm.register_model("silent", silent)
    with pytest.raises(DeadlineExceededError):
        llm.complete("hi", deadline=0.05)

    async def cancelled() -> None:
        task = asyncio.create_task(llm.agenerate("hi"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert llm.get_model_info("silent")["circuit_breaker_state"] == "closed"
    llm.close()


@pytest.mark.promise("A19", "S3-13")
@pytest.mark.parametrize(
    "arguments",
    [{"failure_threshold": 0}, {"failure_threshold": -1}, {"recovery_timeout": float("nan")},
     {"recovery_timeout": -1}, {"failure_threshold": 1.5}],
)  # fmt: skip
def test_a19_a_breaker_validates_its_arguments(arguments: dict[str, Any]) -> None:
    name = next(iter(arguments))
    with pytest.raises(ConfigurationError, match=name):
        CircuitBreaker(**arguments)


def test_an_agents_failure_is_raised_not_none() -> None:
    """In the described system every exception of a task became None."""
    from agentkit import Agent

    agent = Agent("a", "r")
    agent.start()
    with pytest.raises(ZeroDivisionError):
        agent.execute_task(lambda: 1 // 0)


def test_a_single_route_raises_its_own_error_a_longer_one_the_group() -> None:
    model, _ = failing(ThrottledError)
    llm = manager(retry=RetryPolicy(max_attempts=1))
    llm.register_model("one", model)
    llm.register_model("two", model)
    llm.set_active_model("one")
    with pytest.raises(RateLimitError):
        llm.generate("hi")
    llm.set_fallback_chain(["one", "two"])
    with pytest.raises(AllModelsFailedError) as caught:
        llm.generate("hi")
    assert len(caught.value.exceptions) == 2


def test_time_is_not_imported_for_sleeping() -> None:
    """The tests of this file never slept: the fake clock did."""
    clock = FakeClock()
    began = time.monotonic()
    llm = manager(clock, retry=RetryPolicy(jitter=0, base_delay=60))
    model, _ = failing(ConnectionError)
    llm.register_model("only", model)
    with pytest.raises(ProviderError):
        llm.generate("hi")
    assert sum(clock.sleeps) == 120
    assert time.monotonic() - began < 5
