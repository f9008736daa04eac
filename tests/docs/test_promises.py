"""A ticked promise names a place that exists and a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    line for line in (ROOT / "docs/promises.md").read_text("utf-8").splitlines() if "| ✓" in line
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_a_ticked_row_names_its_place_and_its_test(row: str) -> None:
    named = re.findall(r"`([^`]+)`", row)
    tests = [name for name in named if "::" in name]
    assert tests
    for name in tests:
        path, _, function = name.partition("::")
        assert f"def {function}(" in (ROOT / path).read_text("utf-8")
    for name in named:
        if name.startswith("agentkit/"):
            assert (ROOT / name).exists()


def test_every_row_of_the_registry_manager_is_ticked() -> None:
    ticked = {row.split("|")[1].split()[-1] for row in ROWS}
    assert {f"S3-{number:02d}" for number in range(1, 42)} <= ticked
    assert {f"A{number}" for number in range(1, 20)} <= ticked
