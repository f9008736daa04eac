"""What can be counted about the style of a file: names of modules, calls, formatter switches."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import (
    ROOT,
    Finding,
    nodes,
    package_files,
    parse,
    python_files,
    read,
)

NOUNS_IN_ING = {"encoding", "pricing", "testing"}
MOST_POSITIONAL = 5
TAKES_ANY_NUMBER = {
    "print",
    "max",
    "min",
    "zip",
    "chain",
    "gather",
    "add_row",
    "debug",
    "info",
    "warning",
    "error",
}

_FORMATTER_SWITCH = re.compile(r"#\s*fmt:\s*(skip|off)")
_HEADLESS = {"What", "How", "Which", "Who", "Where", "Whether", "When", "Why", "From", "Between"}
_TEST_HOOK = re.compile(
    r"(?i)fake|mock|(?<![a-z])(tests?|scripted)(?![a-z])|(get|has)attr\(.*[\"']a?sleep[\"']"
)
_FOLDERS = ("agentkit", "tests", "examples", "benchmarks", "docs")


def every_python_file(root: Path = ROOT) -> list[Path]:
    """The package, its tests, examples and tools."""
    return [path for folder in _FOLDERS for path in python_files(root / folder)]


def gerund_modules(root: Path = ROOT) -> list[Finding]:
    """Modules and packages named after an activity instead of a thing, old paths left out."""
    package = root / "agentkit"
    files = [path for path in package_files(root) if not _is_moved(path)]
    names = {path.relative_to(package).with_suffix("") for path in files}
    names |= {parent for name in names for parent in name.parents if parent.name}
    return [
        Finding(package / name, 1, name.name)
        for name in sorted(names)
        if name.name.endswith("ing") and name.name not in NOUNS_IN_ING
    ]


def root_modules(root: Path = ROOT) -> list[Finding]:
    """Modules directly in the package, without its ``__init__`` and the `moved_modules`."""
    return [f for f in _in_the_root(root) if not _is_moved(f.path)]


def moved_modules(root: Path = ROOT) -> list[Finding]:
    """Modules that only re-export, for one release, what has moved elsewhere."""
    return [Finding(p, 1, p.stem) for p in package_files(root) if _is_moved(p)]


def _in_the_root(root: Path) -> list[Finding]:
    modules = sorted((root / "agentkit").glob("*.py"))
    return [Finding(path, 1, path.stem) for path in modules if path.stem != "__init__"]


def _is_moved(path: Path) -> bool:
    return read(path).startswith('"""Moved')


def formatter_switches(root: Path = ROOT) -> list[Finding]:
    """Places where the formatter is switched off."""
    return [
        Finding(path, number, line.strip())
        for path in every_python_file(root)
        for number, line in enumerate(read(path).splitlines(), 1)
        if _FORMATTER_SWITCH.search(line) and path.name != "style.py"
    ]


def positional_calls(root: Path = ROOT) -> list[Finding]:
    """Calls with more positional arguments than a reader can tell apart.

    A call with a comment that begins with ``positional:`` and gives a reason does not count.
    """
    return [
        Finding(path, call.lineno, f"{ast.unparse(call.func)} with {len(call.args)}")
        for path in package_files(root)
        for call in calls_with_many_arguments(nodes(path))
        if not _gives_a_reason(read(path), call)
    ]


def calls_with_many_arguments(tree: tuple[ast.AST, ...]) -> Iterator[ast.Call]:
    """Calls in `tree` with more than `MOST_POSITIONAL` positional arguments."""
    for node in tree:
        if isinstance(node, ast.Call) and len(node.args) > MOST_POSITIONAL:
            name = ast.unparse(node.func).rpartition(".")[2]
            if name not in TAKES_ANY_NUMBER:
                yield node


def _gives_a_reason(text: str, call: ast.Call) -> bool:
    lines = text.splitlines()[call.lineno - 1 : call.end_lineno]
    return any("# positional: " in line for line in lines)


def lines(root: Path, folder: str, pattern: str = "*.py") -> int:
    """The lines of every file under `folder`."""
    return sum(read(path).count("\n") for path in (root / folder).rglob(pattern))


def unclear_docstrings(root: Path = ROOT) -> list[Finding]:
    """Modules whose docstring is missing, or whose first line is not a plain statement.

    It names what is in the module or says what the module does. It does not begin with a question
    word or a preposition ("What comes back", "From A to B"), which leaves the reader to guess.
    """
    return [
        Finding(path, 1, first_line or "no docstring")
        for path in package_files(root)
        if not is_statement(first_line := (ast.get_docstring(parse(path)) or "").split("\n")[0])
        and path.stem != "_version"
    ]


def is_statement(line: str) -> bool:
    """Whether `line` can be the first line of a module's docstring."""
    return line.endswith((".", ":")) and line.split(" ", maxsplit=1)[0].rstrip(",") not in _HEADLESS


def driver_hooks(root: Path = ROOT) -> list[Finding]:
    """Names in the production drivers that are there for a test."""
    return [
        Finding(path, number, line.strip())
        for path in python_files(root / "agentkit" / "engine" / "drivers")
        for number, line in enumerate(read(path).splitlines(), 1)
        if _TEST_HOOK.search(line)
    ]


def closed_clients(root: Path = ROOT) -> list[Finding]:
    """Places where a policy builds or closes a client."""
    return [
        Finding(path, node.lineno, ast.unparse(node.func))
        for path in python_files(root / "agentkit" / "policy")
        for node in nodes(path)
        if isinstance(node, ast.Call) and handles_a_client(node)
    ]


def handles_a_client(call: ast.Call) -> bool:
    """Whether `call` builds or closes a client; a circuit or a coroutine is not one."""
    *owner, name = ast.unparse(call.func).lstrip("_").split(".")
    if name in {"close", "aclose"}:
        return not (owner and owner[-1].lstrip("_") in {"circuit", "coroutine"})
    return name in {"provider_for", "shutdown"}
