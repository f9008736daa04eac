"""A file of more than 800 lines holds two ideas, unless its reason is written down here."""

from __future__ import annotations

from tests.architecture.tree import ROOT

LIMIT = 800
JUSTIFIED: dict[str, str] = {}
"""Longer files, and why each is one idea."""


def test_a_long_file_has_a_reason() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ("agentkit", "tests", "examples", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if (lines := path.read_text(encoding="utf-8").count("\n")) > LIMIT
    }
    assert long.keys() == JUSTIFIED.keys(), long
