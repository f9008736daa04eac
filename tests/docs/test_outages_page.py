"""The published scenarios are those that the tests act out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tests.failover.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_is_current() -> None:
    spec = importlib.util.spec_from_file_location("outages", ROOT / "docs/_hooks/outages.py")
    assert spec is not None
    assert spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    page = writer.PAGE.read_text("utf-8")
    assert page == writer.page_text(page), "run `python docs/_hooks/outages.py`"


def test_each_option_says_why_it_is_not_the_default() -> None:
    page = (ROOT / "docs/explanation/outages.md").read_text("utf-8")
    reasons = page.partition("## Why three things are options")[2]
    options = {str(each.option) for each in SCENARIOS if each.option is not None}
    assert len(options) == 3
    assert all(f"**{option}**" in reasons for option in options)
