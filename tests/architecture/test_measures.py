"""The measures behind the rules find what they are about, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture import cycles, private_names, style, vocabulary
from tests.architecture.tree import Finding

LAZY = "def __getattr__(name): ...\nif TYPE_CHECKING:\n  from agentkit.a import A"
"""The ``__init__`` of a package whose names are loaded on first use."""


def nodes_of(source: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(source)))


@pytest.mark.parametrize(
    "files",
    [
        {"a": "from agentkit import b", "b": "import agentkit.a"},
        {"a": "def f():\n    from agentkit.b import x", "b": "from agentkit.a import y"},
        {"a": "if TYPE_CHECKING:\n    import agentkit.b", "b": "from agentkit.a import y"},
        {"__init__": LAZY, "a": "from agentkit.b import B", "b": "from agentkit import A"},
    ],
)
def test_a_circle_is_found(tmp_path: Path, files: dict[str, str]) -> None:
    assert [found.what for found in circles(tmp_path, files)] == [
        "agentkit.a -> agentkit.b -> agentkit.a"
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"a": "import agentkit.b", "b": "import agentkit.c", "c": "import json"},
        {"__init__": LAZY, "a": "from agentkit import b", "b": "from agentkit.c import x"},
    ],
)
def test_a_straight_line_is_not_a_circle(tmp_path: Path, files: dict[str, str]) -> None:
    assert circles(tmp_path, files) == []


def circles(root: Path, files: dict[str, str]) -> list[Finding]:
    (root / "agentkit").mkdir()
    for name, source in {"__init__": "", **files}.items():
        (root / "agentkit" / f"{name}.py").write_text(source, encoding="utf-8")
    return cycles.import_cycles(root)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("other._x", ["other._x"]),
        ("self.pool._x()", ["self.pool._x"]),
        ("from other import _x", ["other._x"]),
        ("getattr(other, '_x')", ["other._x"]),
        ("self._x, cls._x, super()._x", []),
        ("class A:\n  def _x(self): ...\nother._x", []),
        ("class A:\n  def f(self): self._x = 1\nother._x", []),
        ("class A:\n  __slots__ = ('_x',)\nother._x", []),
        ("def _x(): ...\nother._x", ["other._x"]),
        ("other.__x__, other._replace(a=1), os._exit(1)", []),
        ("from agentkit import _fork", []),
    ],
)
def test_a_private_name_of_another_module_is_found(source: str, found: list[str]) -> None:
    names = private_names.foreign_names(nodes_of(source), {"_fork"})
    assert [name for _, name in names] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("an observer is told", ["told"]),
        ("class _Told:", ["Told"]),
        ("class ToldState:", ["Told"]),
        ("self._wished_for", ["wished"]),
        ("the value is\n    # no file", ["is no"]),
        ("must be a text, got", ["a text"]),
        ("a text block", []),
        ("there is no file; it is no longer read", []),
        ("single-flight, in flight, SingleFlight", []),
        ("a landing page in a bold, scolded island", []),
        ("the whole run takes a whole number of seconds", []),
        ("the whole answer", ["whole"]),
        ("a value that is None", []),
        ("a name that is none", ["that is none"]),
    ],
)
def test_a_private_word_is_found(text: str, found: list[str]) -> None:
    assert [word for _, word in vocabulary.words_in(text)] == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("f(1, 2, 3, 4, 5)", 0),
        ("f(1, 2, 3, 4, 5, 6)", 1),
        ("f(1, 2, 3, 4, 5, x=6)", 0),
        ("print(1, 2, 3, 4, 5, 6)", 0),
    ],
)
def test_a_call_with_many_positional_arguments_is_found(source: str, found: int) -> None:
    assert len(list(style.calls_with_many_arguments(nodes_of(source)))) == found


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("endpoint.close()", True),
        ("self._client.aclose()", True),
        ("_close(old)", True),
        ("provider_for(name)", True),
        ("self._circuit.close()", False),
        ("deadline.left()", False),
    ],
)
def test_a_call_that_handles_a_client_is_found(call: str, found: bool) -> None:
    expression = ast.parse(call, mode="eval").body
    assert isinstance(expression, ast.Call)
    assert style.handles_a_client(expression) is found
