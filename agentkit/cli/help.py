"""Help texts of the commands: flags are shown without a type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command whose help shows ``--json``, not ``--json <bool>``."""

    def get_params(self, ctx: Any) -> Any:
        """Every parameter, ``--help`` included."""
        return _without_type_of_flags(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands, likewise."""

    def get_params(self, ctx: Any) -> Any:
        """Every parameter, ``--help`` included."""
        return _without_type_of_flags(super().get_params(ctx))


def _without_type_of_flags(parameters: Iterable[Any]) -> list[Any]:
    shown = list(parameters)
    for each in shown:
        if getattr(each, "is_flag", False):
            each.metavar = ""
    return shown
