"""The published fault table is the one that the tests act out."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.providers.contract import CASES, OF_BEDROCK, PROVIDERS, Row, rows, rows_of_bedrock

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(name="writer")
def _writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("faults_page", ROOT / "docs/_hooks/faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_current(writer: ModuleType) -> None:
    page = writer.PAGE.read_text("utf-8")
    assert page == writer.page_text(page, rows(), rows_of_bedrock()), (
        "run `python docs/_hooks/faults.py`"
    )


def test_every_fault_and_every_provider_is_on_the_page(writer: ModuleType) -> None:
    page = writer.PAGE.read_text("utf-8")
    assert all(f"| {fault} |" in page for fault in CASES | OF_BEDROCK)
    assert all(f"`{provider}`" in page for provider in PROVIDERS)


def test_a_provider_that_differs_gets_a_line_of_its_own(writer: ModuleType) -> None:
    same = [
        Row("cut", provider, "async", stream, "NetworkError", 2, "failure", "")
        for provider in ("one", "two")
        for stream in (False, True)
    ]
    differs = same[-1]._replace(attempts=1, raises="StreamInterruptedError")
    page = "<!-- providers -->\n<!-- end -->\n<!-- faults -->\n<!-- end -->"
    text = writer.page_text(page, [*same[:-1], differs], ())
    assert "| cut | either: one | `NetworkError` | 2 | failure | the next model |" in text
    assert "| cut | complete: two | `NetworkError` | 2 | failure | the next model |" in text
    assert "| cut | stream: two | `NetworkError` | 1 | failure | `StreamInterruptedError` |" in text
