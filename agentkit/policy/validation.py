"""Validation of settings, with messages that name the value and how to fix it."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from agentkit.errors import ConfigurationError

C = TypeVar("C", bound=type)


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


def instance(name: str, value: Any, kind: type, *, hint: str) -> None:
    """Check that `value` is a `kind`.

    Raises:
        ConfigurationError: it is not. The message names the value.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        message = f"{name} must be {article} {kind.__name__}, got {value!r}"
        raise ConfigurationError(message, hint=hint)


def choice(name: str, value: Any, options: Sequence[str]) -> None:
    """Check that `value` is one of `options`.

    Raises:
        ConfigurationError: it is not. The message names the value, and the hint a similar option.
    """
    if value not in options:
        listed = ", ".join(map(repr, options[:-1])) + f" or {options[-1]!r}"
        close = difflib.get_close_matches(str(value), options, n=1)
        hint = (
            f"did you mean {close[0]!r}?" if close else f"pass one of these, such as {options[0]!r}"
        )
        raise ConfigurationError(f"{name} must be {listed}, got {value!r}", hint=hint)


def checked_keywords(**other_names: str) -> Callable[[C], C]:
    """A class decorator: an unknown keyword of the constructor raises `ConfigurationError`.

    The message names the keyword, and the hint the argument that was probably meant. `other_names`
    are names by which other packages call an argument.
    """

    def decorate(cls: C) -> C:
        init = cls.__init__  # type: ignore[misc]  # of this very class
        known = [name for name in inspect.signature(init).parameters if name != "self"]

        @functools.wraps(init)
        def checked(self: Any, *args: Any, **kwargs: Any) -> None:
            for name in kwargs:
                if name not in known:
                    raise _unknown_keyword(cls.__name__, name, known, other_names.get(name))
            init(self, *args, **kwargs)

        cls.__init__ = checked  # type: ignore[misc]  # of this very class
        return cls

    return decorate


def _unknown_keyword(
    owner: str, name: str, known: list[str], meant: str | None
) -> ConfigurationError:
    close = [meant] if meant else difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}=?" if close else f"its arguments are {', '.join(known)}"
    return ConfigurationError(f"{owner} has no argument {name}=", hint=hint)
