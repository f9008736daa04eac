"""The rules of the house that a count can hold: ``python -m tests.architecture.figures``."""

from __future__ import annotations

import pytest

from tests.architecture import private_names
from tests.architecture.figures import FINDINGS
from tests.architecture.tree import ROOT, where

AT_MOST = {"root-modules": 6, "package-fmt-skip": 10}
"""Figures of which a few are allowed."""
NO_RULES = {"inherited-names", "moved-modules", "package-words", "fmt-skip"}
"""Figures that only inform."""


@pytest.mark.parametrize("name", [name for name in FINDINGS if name not in NO_RULES])
def test_no_file_breaks_the_rule(name: str) -> None:
    title, find = FINDINGS[name]
    found = [where(each.path, each.line, each.what) for each in find(ROOT)]
    assert len(found) <= AT_MOST.get(name, 0), "\n".join([f"{title}:", *found])


def test_the_private_names_of_a_library_are_used_in_one_file() -> None:
    for library, uses in private_names.edge_uses().items():
        assert len({use.path for use in uses}) == 1, library
