"""The public names are a decision: this file and `public_api.txt` change together."""

from __future__ import annotations

from pathlib import Path

import pytest

import agentkit
from tests.architecture.stubs import LAZY, stub

SNAPSHOT = Path(__file__).with_name("public_api.txt")


def test_all_is_sorted_and_without_duplicates() -> None:
    assert list(agentkit.__all__) == sorted(set(agentkit.__all__))


def test_every_public_name_can_be_had() -> None:
    assert [name for name in agentkit.__all__ if not hasattr(agentkit, name)] == []


def test_every_public_name_is_listed_for_completion() -> None:
    assert set(agentkit.__all__) <= set(dir(agentkit))


@pytest.mark.promise("N14")
def test_the_public_names_are_the_reviewed_ones() -> None:
    reviewed = SNAPSHOT.read_text(encoding="utf-8").split()
    assert sorted(agentkit.__all__) == reviewed, "a change of the public surface belongs in both"


def test_every_error_is_public() -> None:
    from agentkit import bedrock, errors

    names = {name for name in vars(errors) if name.endswith(("Error", "Exception"))}
    assert names <= {*agentkit.__all__, *bedrock.__all__}


@pytest.mark.parametrize("folder", LAZY, ids=lambda folder: folder.name)
def test_a_type_checker_sees_the_public_names(folder: Path) -> None:
    written = (folder / "__init__.pyi").read_text(encoding="utf-8")
    assert written == stub(folder), "run: python -m tests.architecture.stubs"
