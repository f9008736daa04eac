"""Write docs/promises.md from the list of promises and the tests that are marked as proving them.

Run as a script after a change of either; a test compares the outcome.
"""

from __future__ import annotations

import ast
import functools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/promises.md"
LIST = ROOT / "docs/promises.toml"

_HEAD = """# Promises

What the specification promises, and the tests that prove it. This page is written by
`docs/_hooks/promises.py` from `docs/promises.toml` and from the `promise` markers of the tests.
"""


class Proof(NamedTuple):
    """One test that proves one promise."""

    promise: str
    file: str
    test: str


def documents() -> list[dict[str, Any]]:
    """Each document of the specification: its title, a note, and its promises by id."""
    listed: list[dict[str, Any]] = tomllib.loads(LIST.read_text(encoding="utf-8"))["documents"]
    return listed


def promised() -> list[str]:
    """The id of every promise, in the order of the documents."""
    return [promise for document in documents() for promise in document["promises"]]


@functools.cache
def proofs() -> tuple[Proof, ...]:
    """Every test with a `promise` marker, once for each promise that it names."""
    return tuple(
        Proof(promise, path.relative_to(ROOT).as_posix(), node.name)
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "mark.promise(" in (text := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for promise in _marked(node)
    )


def _marked(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in test.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.promise":
            yield from (ast.literal_eval(argument) for argument in decorator.args)


def page_text() -> str:
    """The page as it should be."""
    proven: dict[str, list[Proof]] = {}
    for proof in proofs():
        proven.setdefault(proof.promise, []).append(proof)
    return _HEAD + "".join(_section(document, proven) for document in documents())


def _section(document: dict[str, Any], proven: dict[str, list[Proof]]) -> str:
    rows = "".join(
        f"| {promise} | {text} | {', '.join(map(_reference, proven.get(promise, [])))} |\n"
        for promise, text in document["promises"].items()
    )
    return (
        f"\n## {document['title']}\n\n{document['note']}\n\n"
        f"| id | promise | proven by |\n|---|---|---|\n{rows}"
    )


def _reference(proof: Proof) -> str:
    return f"`{proof.file}::{proof.test}`"


if __name__ == "__main__":
    PAGE.write_text(page_text(), encoding="utf-8")
