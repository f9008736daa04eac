"""The pages on fleets show what the demo prints, and figures that were measured."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from benchmarks import fleet_table

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_shows_what_the_demo_prints_today() -> None:
    spec = importlib.util.spec_from_file_location("demo_fleet", ROOT / "docs/_hooks/demo_fleet.py")
    assert spec is not None
    assert spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    page = writer.PAGE.read_text("utf-8")
    assert page == writer.page(), "run `python docs/_hooks/demo_fleet.py`"


def test_the_table_has_the_figures_that_were_measured() -> None:
    results = json.loads(fleet_table.RESULTS.read_text("utf-8"))
    page = fleet_table.PAGE.read_text("utf-8")
    for text in (fleet_table.table(results), fleet_table.standstills(results)):
        assert text in page, 'run `python -m benchmarks.fleet_table --only ""`'
