"""No file is longer than a reader's patience."""

from __future__ import annotations

from tests.architecture.tree import ROOT

LIMIT = 400


def test_no_file_is_longer_than_the_limit() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ("agentkit", "tests", "examples", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if (lines := path.read_text(encoding="utf-8").count("\n")) > LIMIT
    }
    assert long == {}
