"""The package as its tests see it: its files, their imports and their layers."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "agentkit"

# A module imports its own layer and below, never above.
LAYERS = {
    "_version": 0, "types": 0, "errors": 0, "ledger": 0, "events": 0, "closing": 0,
    "policy": 1,
    "engine": 2,
    "cache": 3, "providers": 3, "telemetry": 3,
    "manager": 4, "models": 4, "asking": 4, "building": 4, "registry": 4, "batch": 4,
    "structured": 4, "client": 4, "pool": 4, "config": 4, "tools": 4, "partial": 4,
    "instructing": 4, "batch_files": 4, "configured": 4, "middleware": 4,
    "bedrock": 5,
    "agent": 6,
    "testing": 7,
    "cli": 8,
    "__init__": 9, "__main__": 9,
}  # fmt: skip


class Import(NamedTuple):
    """One imported module (and the name taken from it, if any), with its line."""

    module: str
    name: str | None
    line: int


@functools.cache
def parse(path: Path) -> ast.Module:
    """The syntax tree of `path`."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def package_files() -> list[Path]:
    """Every Python file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """The dotted name of a file: ``agentkit.policy.retry``; a package's name for its `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
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
