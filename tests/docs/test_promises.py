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
        if name.startswith(("agentkit/", "examples/")):
            assert (ROOT / name).exists()


DOCUMENTED = {
    "S0-{:02d}": 69, "S1-{:02d}": 87, "S2-{:02d}": 41, "S3-{:02d}": 41, "S4-{:02d}": 50,
    "A{}": 19, "B{}": 33, "N{}": 15,
}  # fmt: skip
"""How the rows of each document are numbered, and how many it has."""


@pytest.mark.parametrize("numbered", DOCUMENTED)
def test_every_row_of_a_built_door_is_ticked_once(numbered: str) -> None:
    ticked = [row.split("|")[1].split()[-1] for row in ROWS]
    for number in range(1, DOCUMENTED[numbered] + 1):
        assert ticked.count(numbered.format(number)) == 1
