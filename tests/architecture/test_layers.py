"""The direction of the house: nothing imports upward."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.tree import (
    LAYERS,
    PACKAGE,
    Import,
    imports,
    layer_of,
    module_of,
    package_files,
    parse,
    where,
)


def target(found: Import) -> str:
    """The module an import reaches: `from agentkit import errors` reaches ``agentkit.errors``."""
    is_module = found.module == "agentkit" and found.name in LAYERS
    return f"agentkit.{found.name}" if is_module else found.module


def test_every_module_has_a_layer() -> None:
    homeless = [module_of(path) for path in package_files() if layer_of(module_of(path)) is None]
    assert homeless == [], "give it a layer in tests/architecture/tree.py"


def test_no_module_imports_a_higher_layer() -> None:
    upward = []
    for path in package_files():
        own = layer_of(module_of(path))
        for found in imports(parse(path)):
            module = target(found)
            if module.split(".")[0] != "agentkit":
                continue
            theirs = layer_of(module)
            if own is None or theirs is None or theirs > own:
                upward.append(where(path, found.line, f"layer {own} imports {module} ({theirs})"))
    assert upward == []


def test_imports_name_their_module_in_full() -> None:
    relative = [
        where(path, node.lineno, "relative import")
        for path in package_files()
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    from agentkit.manager import LLMManager",
        "if TYPE_CHECKING:\n    import agentkit.manager",
        "from agentkit import manager",
    ],
)
def test_an_import_is_seen_wherever_it_hides(source: str) -> None:
    (found,) = imports(ast.parse(source))
    assert layer_of(target(found)) == LAYERS["manager"]


def test_the_package_is_where_the_tests_look() -> None:
    assert PACKAGE / "__init__.py" in package_files()
