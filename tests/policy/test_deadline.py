"""How the time of a request is divided."""

from __future__ import annotations

import math

import pytest

from agentkit import ConfigurationError
from agentkit.policy.deadline import share


@pytest.mark.parametrize(
    ("left", "own", "targets_left", "seconds"),
    [
        (300.0, None, 1, 300.0),
        (300.0, None, 2, 60.0),
        (300.0, None, 10, 30.0),
        (90.0, None, 2, 45.0),
        (math.inf, None, 1, math.inf),
        (math.inf, None, 2, 60.0),
        (300.0, 200.0, 2, 200.0),
        (100.0, 200.0, 2, 100.0),
        (math.inf, 200.0, 1, 200.0),
    ],
)
def test_the_share_of_an_attempt(
    left: float, own: float | None, targets_left: int, seconds: float
) -> None:
    assert share(left, own, targets_left) == seconds


def test_there_is_at_least_one_model_to_share_with() -> None:
    with pytest.raises(ConfigurationError):
        share(1.0, None, 0)
