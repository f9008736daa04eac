"""Each promise of the specification has a test that proves it, and the page lists them all."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def _hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("promises", ROOT / "docs/_hooks/promises.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


promises = _hook()

ROWS = {
    "S0-{:02d}": 69,
    "S1-{:02d}": 87,
    "S2-{:02d}": 41,
    "S3-{:02d}": 41,
    "S4-{:02d}": 50,
    "A{}": 19,
    "B{}": 33,
    "N{}": 15,
}
"""How the rows of each document and the known defects are numbered, and how many there are."""


def test_the_list_has_each_row_of_the_specification_once() -> None:
    expected = [form.format(n) for form, count in ROWS.items() for n in range(1, count + 1)]
    assert sorted(promises.promised()) == sorted(expected)


def test_each_promise_has_a_test_and_each_marker_names_a_promise() -> None:
    proven = {proof.promise for proof in promises.proofs()}
    listed = set(promises.promised())
    assert listed - proven == set(), 'mark the tests that prove them: @pytest.mark.promise("...")'
    assert proven - listed == set(), "a marker names no promise of the list"


def test_the_page_is_up_to_date() -> None:
    page = promises.PAGE.read_text(encoding="utf-8")
    assert page == promises.page_text(), "run docs/_hooks/promises.py"
