"""Which modules of the package import each other in a circle.

Every import counts, wherever it is written: in a function and under ``TYPE_CHECKING``, too. An
import reaches the module it names. ``from package import name`` reaches the submodule ``name`` if
there is one, and the package's ``__init__`` otherwise. The ``__init__`` of a parent package that
runs on the way is not counted, because nothing is taken from it.

An ``__init__`` with a module ``__getattr__`` is a list of names that are loaded on first use: it
imports none of their modules itself, and a name taken from it reaches the module that defines it,
according to its stub or to its own imports under ``TYPE_CHECKING``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.architecture.tree import ROOT, Finding, imports, module_of, package_files, parse, read

Graph = Mapping[str, Mapping[str, int]]
"""For each module the modules it imports, each with the line of the first import."""


def import_cycles(root: Path = ROOT) -> list[Finding]:
    """One finding for each group of modules that reach each other: a shortest circle in it."""
    files = {module_of(path, root): path for path in package_files(root)}
    graph = import_graph(files)
    found = []
    for group in _groups(graph):
        first, second, *rest = circle = _shortest_circle(graph, group)
        line = graph[first][second if rest else first]
        found.append(Finding(files[first], line, " -> ".join(circle)))
    return found


def import_graph(files: Mapping[str, Path]) -> Graph:
    """The imports among the modules of `files`."""
    lazy = {name: homes for name, path in files.items() if (homes := _lazy_names(path)) is not None}
    graph: dict[str, dict[str, int]] = {name: {} for name in files}
    for name, path in files.items():
        if name not in lazy:
            for found in imports(parse(path)):
                reached = _reached(found.module, found.name, files, lazy)
                if reached is not None:
                    graph[name].setdefault(reached, found.line)
    return graph


def _reached(
    module: str,
    name: str | None,
    files: Mapping[str, Path],
    lazy: Mapping[str, Mapping[str, str]],
) -> str | None:
    if name is not None and f"{module}.{name}" in files:
        return f"{module}.{name}"
    if name is not None and name in lazy.get(module, {}):
        return lazy[module][name]
    return module if module in files else None


def _lazy_names(path: Path) -> Mapping[str, str] | None:
    """Where each name of a lazy ``__init__`` is defined; None for any other module."""
    if path.name != "__init__.py" or "__getattr__" not in read(path):
        return None
    stub = path.with_suffix(".pyi")
    listed = parse(stub if stub.exists() else path)
    return {found.name: found.module for found in imports(listed) if found.name is not None}


def _groups(graph: Graph) -> Iterator[set[str]]:
    """The groups of modules that all reach each other, and modules that import themselves."""
    reach = {module: _reachable(graph, module) for module in graph}
    seen: set[str] = set()
    for module in graph:
        if module in reach[module] and module not in seen:
            group = {other for other in reach[module] if module in reach[other]}
            seen |= group
            yield group


def _reachable(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(graph[module])
    return found


def _shortest_circle(graph: Graph, group: set[str]) -> list[str]:
    """A shortest way from a module of `group` back to itself, its first module at both ends."""
    circles = (_shortest_way_back(graph, module) for module in sorted(group))
    return min(circles, key=len)


def _shortest_way_back(graph: Graph, start: str) -> list[str]:
    ways, seen = [[start]], set[str]()
    while ways:
        way = ways.pop(0)
        for module in graph[way[-1]]:
            if module == start:
                return [*way, start]
            if module not in seen:
                seen.add(module)
                ways.append([*way, module])
    raise ValueError(f"{start} is in no circle")
