"""Uses of another module's private names: ``other._x`` and ``from other import _x``.

A file may use a private attribute on any object if a class of that file defines it: as a method, a
variable, a slot or an attribute of ``self``. On ``self``, ``cls`` and ``super()`` it may also use
what base classes define. Everything else is a use of another module's private name, through
``getattr`` with a literal name, too. Names are compared, not types: an attribute of another class
with the same name as one of the file's own is not found.

The methods of a named tuple are public in spite of their underscore, and so is ``os._exit``. A
private *module* (``agentkit._fork``) is private to the package, so its modules may import it.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.architecture.tree import ROOT, Finding, nodes, package_files

EDGES: Mapping[str, frozenset[str]] = {
    "threading": frozenset({"_at_fork_reinit", "_is_owned"}),
    "pybreaker": frozenset({"_handle_success", "_handle_error"}),
    "botocore": frozenset(
        {"_endpoint", "_pool_classes_by_scheme", "_verify", "_credentials", "_auth_token"}
    ),
    "opentelemetry": frozenset({"_TRACER_PROVIDER", "_METER_PROVIDER", "_internal"}),
    "httpx": frozenset({"_client", "_mounts", "_transport", "_pool", "_network_backend"}),
}
"""Private names of libraries that have no public equivalent. One file uses those of a library."""

ACCESSORS = {"getattr", "setattr", "hasattr", "delattr"}
PUBLIC = {"_replace", "_asdict", "_fields", "_make", "_field_defaults", "_exit"}


def foreign_private_names(root: Path = ROOT) -> list[Finding]:
    """Every use in the package of another module's private name, but for those of `EDGES`."""
    allowed = frozenset[str]().union(*EDGES.values())
    return [found for found in _all(root) if _last_part(found.what) not in allowed]


def edge_uses(root: Path = ROOT) -> dict[str, list[Finding]]:
    """The uses of private names that `EDGES` allows, by library."""
    found = _all(root)
    return {
        library: [use for use in found if _last_part(use.what) in names]
        for library, names in EDGES.items()
    }


def inherited_private_names(root: Path = ROOT) -> list[Finding]:
    """Every use of a private name on ``self`` that only a base class in another file defines."""
    return [
        Finding(path, node.lineno, ast.unparse(node))
        for path in package_files(root)
        for own in [set(_defined(nodes(path)))]
        for node in nodes(path)
        if isinstance(node, ast.Attribute)
        if is_private(node.attr) and node.attr not in own and _is_own(node.value)
    ]


@functools.cache
def _all(root: Path) -> list[Finding]:
    files = package_files(root)
    modules = {path.parent.name if path.stem == "__init__" else path.stem for path in files}
    return [
        Finding(path, line, name)
        for path in files
        for line, name in foreign_names(nodes(path), modules)
    ]


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]


def foreign_names(tree: tuple[ast.AST, ...], modules: set[str]) -> Iterator[tuple[int, str]]:
    """Line and name of each private name that `tree` uses and does not define."""
    own = set(_defined(tree))
    for node in tree:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if is_private(alias.name) and alias.name not in modules:
                    yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Attribute | ast.Call):
            owner, name = _attribute(node)
            if is_private(name) and name not in own and not _is_own(owner):
                yield node.lineno, f"{ast.unparse(owner)}.{name}"


def is_private(name: str) -> bool:
    """Whether `name` starts with one underscore and is not a public name that does."""
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC | {"_"}


def _is_own(value: ast.expr) -> bool:
    """Whether `value` is ``self``, ``cls`` or ``super()``."""
    if isinstance(value, ast.Call):
        value = value.func
    return isinstance(value, ast.Name) and value.id in {"self", "cls", "super"}


def _attribute(node: ast.Attribute | ast.Call) -> tuple[ast.expr, str]:
    """Owner and name of the attribute that `node` reads or writes; no name if it does neither."""
    if isinstance(node, ast.Attribute):
        return node.value, node.attr
    if isinstance(node.func, ast.Name) and node.func.id in ACCESSORS and len(node.args) > 1:
        owner, name = node.args[:2]
        if isinstance(name, ast.Constant):
            return owner, str(name.value)
    return node, ""


def _defined(tree: tuple[ast.AST, ...]) -> Iterator[str]:
    """The attributes that the classes of a file define."""
    for node in tree:
        if isinstance(node, ast.ClassDef):
            yield from _members(node)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield from [node.attr] if _is_own(node.value) else []


def _members(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
            continue
        for part in ast.walk(statement):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                yield part.id
        if isinstance(statement, ast.Assign) and _assigns_slots(statement):
            for part in ast.walk(statement.value):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def _assigns_slots(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "__slots__" for target in node.targets)
