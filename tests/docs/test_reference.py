"""Every public name, and every public member of a public class, is in the API reference."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import blocks

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(180)  # the first to need the site builds it
PAGES = {"agentkit": "api", "agentkit.bedrock": "bedrock", "agentkit.testing": "testing"}
CLASS = re.compile(r'<div class="doc doc-object doc-class">\s*<h\d id="([^"]+)"')
ANCHOR = re.compile(r' id="(agentkit[\w.]*)"')
ROW = re.compile(r"<tr[^>]*>\s*<td>\s*<code>(.*?)</code>\s*</td>", re.DOTALL)
TAG = re.compile(r"<[^>]+>")


class Reference:
    """What the pages of the reference describe: by a heading, or by a row in a class's table."""

    def __init__(self, site: Path) -> None:
        self._pages = [
            page.read_text(encoding="utf-8") for page in sorted((site / "reference").glob("*.html"))
        ]

    @cached_property
    def names(self) -> set[str]:
        return {name for page in self._pages for name in self._names(page)}

    def _names(self, page: str) -> Iterator[str]:
        yield from ANCHOR.findall(page)
        _, *classes = CLASS.split(page)
        for name, text in zip(classes[::2], classes[1::2], strict=True):
            own = text.partition('<div class="doc doc-children">')[0]
            for row in ROW.findall(own):
                yield f"{name}.{TAG.sub('', row)}"


@pytest.fixture(scope="module")
def reference(site: Path) -> Reference:
    return Reference(site)


def members(cls: type) -> Iterator[tuple[type, str]]:
    """The public members of a class, each with the class of ours that defines it."""
    for base in cls.__mro__:
        if base.__module__.startswith("agentkit"):
            for name in {*vars(base), *inspect.get_annotations(base)}:
                if not name.startswith("_"):
                    yield base, name


@pytest.mark.parametrize("module", PAGES)
def test_every_public_name_and_member_is_described(module: str, reference: Reference) -> None:
    home = import_module(module)
    missing = [name for name in home.__all__ if f"{module}.{name}" not in reference.names]
    for name in home.__all__:
        value = getattr(home, name)
        if inspect.isclass(value):
            missing += [
                f"{name}.{member}"
                for base, member in members(value)
                if not any(
                    f"{place}.{member}" in reference.names
                    for place in (f"{module}.{name}", *public_places(base))
                )
            ]
    assert missing == [], ", ".join(missing)


def public_places(value: Any) -> list[str]:
    """Under which names something is public: what a public base describes is found there."""
    return [
        f"{module}.{name}"
        for module in PAGES
        for name in import_module(module).__all__
        if getattr(import_module(module), name) is value
    ]


def imported(code: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agentkit"):
            for alias in node.names:
                yield str(node.module), alias.name


def shown() -> Iterator[tuple[str, str]]:
    """What the pages, the README and the examples import from agentkit."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for block in blocks(page):
            if block.language == "python" and not block.is_include:
                yield from imported(block.code)
    for example in sorted((ROOT / "examples").glob("*.py")):
        yield from imported(example.read_text(encoding="utf-8"))


def test_every_name_that_a_page_imports_is_described(reference: Reference) -> None:
    missing = sorted(
        f"{module}.{name}"
        for module, name in set(shown())
        if not {f"{module}.{name}", *public_places(getattr(import_module(module), name))}
        & reference.names
    )
    assert missing == [], ", ".join(missing)
