"""Validation of settings, with messages that name the value and how to fix it."""

from __future__ import annotations

import math
import sys
from typing import Any

from agentkit.errors import ConfigurationError


def number(
    name: str,
    value: Any,
    *,
    minimum: float = 0.0,
    above: bool = False,
    maximum: float = math.inf,
    hint: str | None = None,
) -> float:
    """Return `value` if it is a finite number in range.

    Raises:
        ConfigurationError: not a number, NaN, infinite, or out of range.
    """
    bound = f"greater than {minimum:g}" if above else f"at least {minimum:g}"
    if maximum != math.inf:
        bound += f" and at most {maximum:g}"
    remedy = hint or f"pass a finite number {bound}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{name} must be a number, got {value!r}", hint=remedy)
    if (
        not abs(value) <= sys.float_info.max
        or value < minimum
        or value > maximum
        or (above and value == minimum)
    ):
        raise ConfigurationError(f"{name} must be {bound}, got {value!r}", hint=remedy)
    return value


def optional_number(name: str, value: Any, **limits: Any) -> float | None:
    """Like `number`, but None is allowed."""
    return None if value is None else number(name, value, **limits)


def whole_number(name: str, value: Any, *, minimum: int = 1, hint: str | None = None) -> int:
    """Return `value` if it is an `int` of at least `minimum`.

    Raises:
        ConfigurationError: not an int, or too small.
    """
    remedy = hint or f"pass a whole number of at least {minimum}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name} must be a whole number, got {value!r}", hint=remedy)
    if value < minimum:
        raise ConfigurationError(f"{name} must be at least {minimum}, got {value!r}", hint=remedy)
    return value
