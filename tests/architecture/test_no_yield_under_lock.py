"""A generator that pauses inside a lock keeps it for as long as its caller pleases."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.tree import package_files, parse, where

Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def pauses_under_lock(tree: ast.AST) -> Iterator[int]:
    """Lines that yield inside any lock, or await inside a thread's lock."""
    for node in ast.walk(tree):
        if isinstance(node, ast.With | ast.AsyncWith) and any(map(_is_lock, node.items)):
            awaits = (ast.Await, ast.AsyncFor, ast.AsyncWith) if isinstance(node, ast.With) else ()
            pausing = (ast.Yield, ast.YieldFrom, *awaits)
            yield from (n.lineno for n in _same_scope(node.body) if isinstance(n, pausing))


def _is_lock(item: ast.withitem) -> bool:
    names = (
        node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        for node in ast.walk(item.context_expr)
    )
    return any("lock" in name.lower().split("_") or name.endswith("Lock") for name in names)


def _same_scope(body: list[ast.stmt]) -> Iterator[ast.expr | ast.stmt]:
    """Every node of `body` that runs with it; what a nested function does, it does later."""
    waiting: list[ast.AST] = [*body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.expr | ast.stmt):
            yield node
        if not isinstance(node, Scope):
            waiting.extend(ast.iter_child_nodes(node))


def test_nothing_pauses_while_it_holds_a_lock() -> None:
    found = [
        where(path, line, "pauses under a lock")
        for path in package_files()
        for line in pauses_under_lock(parse(path))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("with self._lock:\n  x = yield", True),
        ("with a, b.state_lock:\n  if x:\n    yield from y", True),
        ("async with lock:\n  yield 1", True),
        ("with Lock():\n  await x", True),
        ("async with lock:\n  await x", False),
        ("with self._lock:\n  def later():\n    yield", False),
        ("with clock:\n  yield", False),
        ("with self._lock:\n  x = 1\nyield x", False),
    ],
)
def test_the_check_itself(body: str, found: bool) -> None:
    source = "async def f():\n" + "\n".join(f"  {line}" for line in body.splitlines())
    assert bool(list(pauses_under_lock(ast.parse(source)))) is found
