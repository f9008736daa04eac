"""Policies and the engine decide; they do no waiting, no clock reading and no dice throwing."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.tree import PACKAGE, package_files, parse, where

FORBIDDEN = {"asyncio", "time", "random", "concurrent", "threading"}
LOCKS = {"threading.Lock", "threading.RLock"}
DEFAULTS = {"time.monotonic", "time.time", "random.random"}
IMPORTABLE = {"threading", "time", "random"} | LOCKS | DEFAULTS


def is_pure(relative: str) -> bool:
    """All of the policies and of the engine, but the drivers, which do what the engine decides."""
    return relative.startswith(("policy/", "engine/")) and not relative.startswith("engine/drivers")


def impurities(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each use of a forbidden module; clock and dice are allowed as default arguments."""
    allowed = {id(part) for default in _defaults(tree) for part in ast.walk(default)}
    aliases = {}
    for line, local, full in _forbidden_imports(tree):
        aliases[local] = full
        if full not in IMPORTABLE:
            yield line, full
    for node in (found for found in ast.walk(tree) if isinstance(found, ast.expr)):
        used = _used(node, aliases)
        if used and used not in LOCKS and not (used in DEFAULTS and id(node) in allowed):
            yield node.lineno, used


def _forbidden_imports(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                full = prefix + alias.name
                if full.split(".")[0] in FORBIDDEN:
                    yield node.lineno, alias.asname or alias.name, full


def _used(node: ast.expr, aliases: dict[str, str]) -> str | None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = aliases.get(node.value.id, "")
        return f"{module}.{node.attr}" if module in FORBIDDEN else None
    full = aliases.get(node.id, "") if isinstance(node, ast.Name) else ""
    return full if "." in full else None


def _defaults(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from node.args.defaults
            yield from (default for default in node.args.kw_defaults if default)
        elif isinstance(node, ast.ClassDef):  # a field's default is its constructor's
            yield from (s.value for s in node.body if isinstance(s, ast.AnnAssign) and s.value)


def test_policies_and_engine_are_pure() -> None:
    found = [
        where(path, line, use)
        for path in package_files()
        if is_pure(path.relative_to(PACKAGE).as_posix())
        for line, use in impurities(parse(path))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio",
        "from concurrent.futures import Future",
        "from time import sleep",
        "import time\ntime.sleep(1)",
        "import time\ndef now(): return time.monotonic()",
        "import random as dice\nx = dice.random()",
        "from random import random\ndef f(): return random()",
        "import threading\nthreading.Thread()",
        "from threading import Event",
    ],
)
def test_an_impurity_is_found(source: str) -> None:
    assert list(impurities(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "import time\ndef f(clock=time.monotonic): ...",
        "from random import random\ndef f(*, rng=random): ...",
        "import threading\nlock = threading.Lock()",
        "from threading import RLock\nlock = RLock()",
        "import time\nclass Window:\n    clock: Clock = time.monotonic",
    ],
)
def test_locks_and_default_arguments_are_allowed(source: str) -> None:
    assert list(impurities(ast.parse(source))) == []
