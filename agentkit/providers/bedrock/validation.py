"""Settings that are one of a few words, or that have two names."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from agentkit.errors import ConfigurationError

Kind = TypeVar("Kind", bound=StrEnum)


def member(name: str, kind: type[Kind], given: Any) -> Kind:
    """`given` as a member of `kind`; its value is understood, too.

    Raises:
        ConfigurationError: there is no such member.
    """
    try:
        return kind(given)
    except ValueError:
        raise ConfigurationError(
            f"{name} is {given!r}", hint=f"use one of {', '.join(each.name for each in kind)}"
        ) from None


def one_of(name: str, value: Any, other_name: str, other: Any, usual: Any) -> Any:
    """The one of two spellings that is given.

    Raises:
        ConfigurationError: both are, and they differ.
    """
    if value is not None and other is not None and value != other:
        raise ConfigurationError(
            f"{name}={value!r} contradicts {other_name}={other!r}", hint="give one of the two"
        )
    given = other if value is None else value
    return usual if given is None else given
