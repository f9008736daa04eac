"""The stubs of the packages whose names are imported lazily, written from their tables.

A type checker cannot read a table, so each such package has an ``__init__.pyi`` beside its
``__init__.py``. ``python -m tests.architecture.stubs`` writes them; `test_public_api` compares.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import PACKAGE, parse

LAZY = (PACKAGE, PACKAGE / "bedrock", PACKAGE / "testing")
"""The folders of these packages."""


def stub(folder: Path) -> str:
    """The text of a package's ``__init__.pyi``."""
    homes = table(folder)
    lines = ["# Written by `python -m tests.architecture.stubs`.", ""]
    for home, names in sorted(homes.items()):
        if len(names) == 1:
            lines.append(f"from {home} import {names[0]}")
        else:
            lines += [f"from {home} import (", *_rows(sorted(names, key=_kind)), ")"]
    public = sorted(name for names in homes.values() for name in names)
    return "\n".join([*lines, "", "__all__ = [", *_rows(f'"{name}"' for name in public), "]", ""])


def table(folder: Path) -> dict[str, list[str]]:
    """The public names of a package by their module: the table it gives to `attach`."""
    for node in ast.walk(parse(folder / "__init__.py")):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "attach":
            homes: dict[str, list[str]] = ast.literal_eval(node.args[1])
            return homes
    raise LookupError(f"{folder} has no table of public names")


def _rows(names: Iterator[str] | list[str]) -> list[str]:
    return [f"    {name}," for name in names]


def _kind(name: str) -> tuple[bool, str]:
    """The key by which the linter sorts imports: classes first, case aside."""
    return not name[0].isupper(), name.lower()


if __name__ == "__main__":
    for folder in LAZY:
        (folder / "__init__.pyi").write_text(stub(folder), encoding="utf-8")
