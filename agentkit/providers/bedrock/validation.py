"""Validation of settings that are one of a few words, or that have two names."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from agentkit.errors import ConfigurationError

Kind = TypeVar("Kind", bound=StrEnum)


def member(name: str, kind: type[Kind], given: Any) -> Kind:
    """`given` as a member of `kind`, or the member with that value in any letter case.

    Raises:
        ConfigurationError: there is no such member.
    """
    try:
        return kind(str(given).lower())
    except ValueError:
        known = ", ".join(each.name for each in kind)
        raise ConfigurationError(f"unknown {name} {given!r}", hint=f"use one of: {known}") from None


def one_of(name: str, value: Any, other_name: str, other: Any, default: Any = None) -> Any:
    """The value of a setting with two names; `default` if neither is given.

    Raises:
        ConfigurationError: both are given, and they differ.
    """
    if value is not None and other is not None and value != other:
        raise ConfigurationError(
            f"{name} and {other_name} contradict each other",
            hint=f"they are two names of one setting: give {name} only",
        )
    given = other if value is None else value
    return default if given is None else given
