"""The rules of the house that a count can hold: ``python -m tests.architecture.figures``."""

from __future__ import annotations

import pytest

from tests.architecture import private_names
from tests.architecture.figures import FINDINGS
from tests.architecture.ratchet import RATCHET, assert_none_above
from tests.architecture.tree import ROOT

ONLY_FIGURES = {
    "inherited-names",
    "root-modules",
    "moved-modules",
    "package-words",
    "fmt-skip",
    "package-fmt-skip",
}
RULES = [name for name in FINDINGS if name not in ONLY_FIGURES]


@pytest.mark.parametrize("name", RULES)
def test_no_file_breaks_the_rule(name: str) -> None:
    assert_none_above(name, FINDINGS[name][1](ROOT))


def test_the_package_root_holds_no_more_than_six_modules() -> None:
    names = [found.what for found in FINDINGS["root-modules"][1](ROOT)]
    assert len(names) <= 6, names


def test_the_formatter_is_switched_off_in_ten_places_of_the_package_at_most() -> None:
    assert len(FINDINGS["package-fmt-skip"][1](ROOT)) <= 10


def test_the_private_names_of_a_library_are_used_in_one_file() -> None:
    for library, uses in private_names.edge_uses().items():
        assert len({use.path for use in uses}) == 1, library


def test_the_ratchet_names_rules_that_exist() -> None:
    assert RATCHET.keys() <= set(RULES)
