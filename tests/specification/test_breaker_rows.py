"""The registry document's promises about its circuit breaker, one test a row."""

from __future__ import annotations

import threading

import pytest

from agentkit import CircuitBreaker, CircuitOpenError
from agentkit.testing import FakeClock


@pytest.mark.promise("S3-14", "S3-37")
def test_s3_14_and_37_the_three_states_are_strings_and_reading_changes_nothing() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=60, clock=clock)
    states = [breaker.state]
    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 // 0)
    states.append(breaker.state)
    clock.advance(60)
    assert breaker.state == "open"
    breaker.call(lambda: states.append(breaker.state))
    assert (*states, breaker.state) == ("closed", "open", "half-open", "closed")


@pytest.mark.promise("S3-15")
def test_s3_15_a_protected_call_keeps_value_and_exception() -> None:
    breaker = CircuitBreaker()
    assert breaker.call(divmod, 7, 2) == (3, 1)
    error = OSError("mine")

    def raising() -> None:
        raise error

    with pytest.raises(OSError) as caught:
        breaker.call(raising)
    assert caught.value is error
    assert caught.traceback[-1].name == "raising"


@pytest.mark.promise("S3-16")
def test_s3_16_open_blocks_the_call_and_says_for_how_long() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=60, clock=clock)
    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 // 0)
    clock.advance(20)
    called: list[int] = []
    with pytest.raises(CircuitOpenError) as caught:
        breaker.call(called.append, 1)
    assert (called, caught.value.retry_after) == ([], 40)


@pytest.mark.promise("S3-17")
def test_s3_17_exactly_one_of_32_threads_probes() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=60, clock=clock)
    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 // 0)
    clock.advance(60)
    gate, release = threading.Barrier(32), threading.Event()
    outcomes: list[str] = []

    def caller() -> None:
        gate.wait()
        try:
            breaker.call(release.wait, 10)
            outcomes.append("probe")
        except CircuitOpenError:
            outcomes.append("refused")
            if len(outcomes) == 31:
                release.set()

    threads = [threading.Thread(target=caller) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["probe"] + ["refused"] * 31
    assert breaker.state == "closed"
