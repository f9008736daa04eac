"""pybreaker still has every name that is driven by hand, and each does what is relied upon."""

from __future__ import annotations

import threading

import pybreaker
import pytest

from agentkit.policy.breaker.circuit import Circuit


def circuit(failures: int = 2, successes: int = 1) -> Circuit:
    return Circuit("m", failures, 60.0, successes)


def test_the_lock_that_is_replaced_is_the_one_of_pybreaker() -> None:
    original = pybreaker.CircuitBreaker()
    assert isinstance(original._lock, type(threading.RLock()))


def test_state_attribute_is_the_current_state_object() -> None:
    subject = circuit()
    assert subject._state is subject.state
    assert isinstance(subject._state, pybreaker.CircuitClosedState)


def test_create_new_state_makes_a_new_object_for_each_era() -> None:
    subject = circuit()
    seen = [subject.state]
    for move in (subject.close, subject.open, subject.half_open, subject.open, subject.close):
        move()
        assert subject._state not in seen
        assert subject.state.name == subject.current_state
        seen.append(subject.state)
    assert [state.name for state in seen] == [
        "closed", "closed", "open", "half-open", "open", "closed",
    ]  # fmt: skip


def test_reading_the_state_moves_nothing_while_storage_and_state_differ() -> None:
    """In the middle of a transition the storage lags behind for a moment."""
    subject = circuit()
    before = subject._state
    subject._state_storage.state = "open"
    assert subject.state is before
    assert subject._state is before


def test_handle_error_counts_and_opens_at_the_threshold() -> None:
    subject = circuit(failures=2)
    subject.count_failure()
    assert (subject.fail_counter, subject.state.name) == (1, "closed")
    subject.count_failure()
    assert subject.state.name == "open"


def test_handle_error_raises_only_what_it_was_given() -> None:
    subject, error = circuit(failures=1), KeyError("mine")
    with pytest.raises(KeyError) as caught:
        subject._state._handle_error(error, reraise=False)
    assert caught.value is error


def test_handle_error_reopens_a_half_open_circuit() -> None:
    subject = circuit(failures=99)
    subject.half_open()
    subject.count_failure()
    assert subject.state.name == "open"


def test_handle_success_resets_the_failures() -> None:
    subject = circuit()
    subject.count_failure()
    subject.count_success()
    assert subject.fail_counter == 0


def test_handle_success_closes_a_half_open_circuit_at_the_threshold() -> None:
    subject = circuit(successes=2)
    subject.half_open()
    subject.count_success()
    assert (subject.success_counter, subject.state.name) == (1, "half-open")
    subject.count_success()
    assert subject.state.name == "closed"


def test_a_new_era_begins_without_the_counters_of_the_last() -> None:
    subject = circuit(failures=3, successes=2)
    subject.half_open()
    subject.count_success()
    subject.half_open()
    assert subject.success_counter == 0
    subject.close()
    subject.count_failure()
    subject.close()
    assert subject.fail_counter == 0
