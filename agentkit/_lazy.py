"""Public names that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def attach(
    package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The ``__getattr__``, ``__dir__`` and ``__all__`` of a package, from one table.

    Args:
        package: the package's own ``__name__``.
        homes: the public names by the module that defines them; under `package` itself, the names
            of submodules.
    """
    home_of = {name: home for home, names in homes.items() for name in names}
    public = sorted(home_of)

    def __getattr__(name: str) -> Any:  # noqa: N807 - it becomes the package's
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if home == package:
            return import_module(f"{home}.{name}")
        value = getattr(import_module(home), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:  # noqa: N807 - it becomes the package's
        return public

    return __getattr__, __dir__, public
