"""The package as its tests see it: its files, their imports and their layers."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "agentkit"


def _layers() -> dict[str, int]:
    """The layer of each top-level name, in the order of the map in CONTRIBUTING.md.

    A line of the map names one folder or module; lines that share a layer are joined by ``+``.
    """
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    house = text.split("<!-- layers -->")[1].split("```")[1]
    rows = [line.split("  ")[0] for line in house.splitlines()[1:] if line.strip()]
    names = [
        [name.strip().removesuffix("/").removesuffix(".py") for name in row.split("+")]
        for row in rows
    ]
    return {name: layer for layer, row in enumerate(names) for name in row}


# A module imports its own layer and those above it in the map, never below.
LAYERS = _layers()


class Import(NamedTuple):
    """One imported module (and the name taken from it, if any), with its line."""

    module: str
    name: str | None
    line: int


class Finding(NamedTuple):
    """A line of the tree that a rule is about."""

    path: Path
    line: int
    what: str


@functools.cache
def read(path: Path) -> str:
    """The text of `path`."""
    return path.read_text(encoding="utf-8")


@functools.cache
def parse(path: Path) -> ast.Module:
    """The syntax tree of `path`."""
    return ast.parse(read(path), filename=str(path))


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of the syntax tree of `path`, parents first."""
    return tuple(ast.walk(parse(path)))


def python_files(folder: Path) -> list[Path]:
    """Every Python file under `folder`."""
    return sorted(folder.rglob("*.py"))


def package_files(root: Path = ROOT) -> list[Path]:
    """Every Python file of the package."""
    return python_files(root / "agentkit")


def module_of(path: Path, root: Path = ROOT) -> str:
    """The dotted name of a file: ``agentkit.policy.retry``; a package's name for its `__init__`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> int | None:
    """The layer of a dotted name; the root itself is the top but for the command line."""
    parts = module.split(".")
    return LAYERS.get(parts[1] if len(parts) > 1 else "__init__")


def imports(tree: ast.AST) -> Iterator[Import]:
    """Every import, wherever it stands: in a function or under TYPE_CHECKING, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, None, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (Import(node.module, alias.name, node.lineno) for alias in node.names)


def where(path: Path, line: int, what: str) -> str:
    """One finding as an editor understands it."""
    return f"{path.relative_to(ROOT)}:{line}: {what}"
