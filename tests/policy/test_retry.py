"""How long a retry policy waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import RetryPolicy


@pytest.mark.promise("S2-04")
@given(
    number=st.integers(1, 200),
    dice=st.floats(0, 1, exclude_max=True),
    base=st.floats(0.001, 100),
    cap=st.floats(0.1, 1000),
)
def test_the_wait_doubles_up_to_its_cap_within_a_quarter(
    number: int, dice: float, base: float, cap: float
) -> None:
    policy = RetryPolicy(base_delay=base, max_delay=cap)
    nominal = min(base * 2.0 ** (number - 1), cap)
    assert 0.75 * nominal - 1e-9 <= policy.backoff(number, lambda: dice) <= 1.25 * nominal + 1e-9
