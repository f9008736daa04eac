"""A breaker refuses values that cannot work, naming the field, the value and the remedy."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest

from agentkit.errors import ConfigurationError
from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker

INTEGERS = ("failure_threshold", "success_threshold", "minimum_calls")
SECONDS = ("recovery_timeout", "window", "slow_call_duration")
RATES = ("failure_rate", "slow_call_rate")
NEVER: tuple[Any, ...] = (0, -1, math.nan, math.inf, True, "5", [1])

REFUSED = [
    *((field, value) for field in (*INTEGERS, *SECONDS, *RATES) for value in NEVER),
    *((field, 1.5) for field in (*INTEGERS, *RATES)),
    *((field, None) for field in (*INTEGERS, "recovery_timeout", "window", "slow_call_rate")),
    ("listeners", print),
    ("listeners", "listener"),
    ("listeners", (print, 5)),
]


@pytest.mark.parametrize(("field", "value"), REFUSED)
def test_a_value_that_cannot_work_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        BreakerPolicy(**{field: value})
    assert field in caught.value.message
    assert repr(value[-1] if isinstance(value, tuple) else value) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("failure_threshold", 1),
        ("recovery_timeout", 0.001),
        ("failure_rate", None),
        ("failure_rate", 1.0),
        ("slow_call_rate", 1),
        ("slow_call_duration", 0.5),
    ],
)
def test_the_edges_are_allowed(field: str, value: Any) -> None:
    assert getattr(BreakerPolicy(**{field: value}), field) == value


def test_an_async_listener_is_refused_because_it_would_never_be_awaited() -> None:
    async def listener(name: str, previous: str, state: str) -> None: ...

    with pytest.raises(ConfigurationError, match="listeners"):
        BreakerPolicy(listeners=(listener,))


def test_a_list_of_listeners_is_kept_as_a_tuple() -> None:
    policy = BreakerPolicy(listeners=[print])  # type: ignore[arg-type]
    assert policy.listeners == (print,)
    assert hash(policy) == hash(BreakerPolicy(listeners=(print,)))


@pytest.mark.promise("A19", "S3-13")
@pytest.mark.parametrize("threshold", [0, -1, True, 2.0, None])
def test_a_breaker_checks_its_threshold(threshold: Any) -> None:
    with pytest.raises(ConfigurationError, match="failure_threshold"):
        CircuitBreaker(threshold)


@pytest.mark.promise("A19", "S3-13")
@pytest.mark.parametrize("timeout", [0, -0.1, math.nan, "60", None])
def test_a_breaker_checks_its_timeout(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="recovery_timeout"):
        CircuitBreaker(5, timeout)


@pytest.mark.parametrize("ignore", [ValueError("x"), ("ValueError",), (KeyboardInterrupt,), None])
def test_a_breaker_checks_what_it_ignores(ignore: Any) -> None:
    with pytest.raises(ConfigurationError, match="ignore"):
        CircuitBreaker(ignore=ignore)


def test_a_breaker_checks_policy_and_lease() -> None:
    with pytest.raises(ConfigurationError, match="BreakerPolicy"):
        CircuitBreaker(policy={"failure_threshold": 5})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="probe_lease"):
        CircuitBreaker(probe_lease=0)


def test_a_policy_and_a_different_value_beside_it_contradict() -> None:
    policy = BreakerPolicy(failure_threshold=3)
    assert CircuitBreaker(3, policy=policy).policy is policy
    assert CircuitBreaker(policy=policy).policy is policy
    with pytest.raises(ConfigurationError, match="policy"):
        CircuitBreaker(4, policy=policy)


@pytest.mark.processes
def test_pybreaker_is_loaded_by_the_first_breaker_and_not_before() -> None:
    script = """
import sys
from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker
BreakerPolicy()
assert "pybreaker" not in sys.modules
CircuitBreaker()
assert "pybreaker" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
