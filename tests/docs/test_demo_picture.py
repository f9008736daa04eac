"""The picture of the demo shows what the demo prints."""

from __future__ import annotations

import importlib.util
import re
from html import unescape
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = re.compile(r"<text[^>]*>(.*?)</text>", re.DOTALL)


@pytest.fixture(name="writer")
def _writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "docs/_hooks/demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(svg: str) -> str:
    """The text of a picture. Each run of one style is an element of its own."""
    return "".join("".join(map(unescape, TEXT.findall(svg))).split())


def test_the_picture_shows_what_the_demo_prints_today(writer: ModuleType) -> None:
    picture = writer.PICTURE.read_text("utf-8")
    printed = "".join("".join(line.plain for line in writer.shown()).split())
    assert words(picture) == "agentkitdemo" + printed, "run `python docs/_hooks/demo.py`"


def test_the_picture_loads_nothing(writer: ModuleType) -> None:
    assert "url(http" not in writer.picture()
