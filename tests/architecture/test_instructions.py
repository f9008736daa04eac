"""A call stays within its budget of instructions, which is the same on a busy machine."""

from __future__ import annotations

import shutil
import sys

import pytest

from benchmarks.instructions import BUDGET, GATED, count


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the budget is one of CPython 3.11")
def test_calls_stay_within_their_budget_of_instructions() -> None:
    taken = count(*GATED)
    assert taken <= BUDGET, "`python -m benchmarks.instructions` shows which call takes more"
    assert taken > BUDGET * 0.85, "lower the budget, so that it notices what comes next"
