"""The figures of the house: ``python -m tests.architecture.figures [ROOT]``.

Prints one line a figure. ``--list NAME`` prints what was counted, one ``file:line`` each. ROOT is
another tree to measure, for a comparison.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.architecture import style
from tests.architecture.cycles import import_cycles
from tests.architecture.private_names import foreign_private_names, inherited_private_names
from tests.architecture.request_path import request_path
from tests.architecture.tree import ROOT, Finding
from tests.architecture.vocabulary import private_words

Find = Callable[[Path], Sequence[Finding]]


def in_the_package(find: Find) -> Find:
    """`find`, without what is outside the package."""
    return lambda root: [found for found in find(root) if (root / "agentkit") in found.path.parents]


FINDINGS: Mapping[str, tuple[str, Find]] = {
    "cycles": ("import cycles, TYPE_CHECKING included", import_cycles),
    "private-names": ("uses of another module's private names", foreign_private_names),
    "inherited-names": ("uses of a base class's private names", inherited_private_names),
    "root-modules": ("modules in the package root", style.root_modules),
    "moved-modules": ("module paths kept for one release", style.moved_modules),
    "gerunds": ("modules named by a gerund", style.gerund_modules),
    "words": ("private words in code, docs and tests", private_words),
    "package-words": ("  of these in the package", in_the_package(private_words)),
    "docstrings": ("modules without a plain first line", style.unclear_docstrings),
    "driver-hooks": ("test hooks in the drivers", style.driver_hooks),
    "policy-clients": ("clients built or closed by policies", style.closed_clients),
    "positional": ("calls with six or more positional arguments", style.positional_calls),
    "fmt-skip": ("`# fmt: skip` and `# fmt: off`", style.formatter_switches),
    "package-fmt-skip": ("  of these in the package", in_the_package(style.formatter_switches)),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures, or the findings behind one of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.architecture.figures")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT)
    parser.add_argument(
        "--list", choices=[*FINDINGS, "functions", "stack", "files"], metavar="NAME"
    )
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    for line in listed(root, options.list) if options.list else table(root):
        sys.stdout.write(f"{line}\n")


def listed(root: Path, name: str) -> list[str]:
    """What is counted by the figure `name`."""
    if name in FINDINGS:
        return [
            f"{found.path.relative_to(root)}:{found.line}: {found.what}"
            for found in FINDINGS[name][1](root)
        ]
    return getattr(request_path(root), name)  # type: ignore[no-any-return]


def table(root: Path) -> list[str]:
    """Every figure of the tree under `root`, one line each."""
    path = request_path(root)
    figures = [(len(find(root)), title) for title, find in FINDINGS.values()] + [
        (len(path.functions), "functions entered from complete() to the SDK, cached miss"),
        (len(path.stack), "  of these on the stack when the SDK is entered"),
        (len(path.files), "files touched by one prompt"),
        (style.lines(root, "agentkit"), "lines of the package"),
        (style.lines(root, "tests"), "lines of the tests"),
        (style.lines(root, "docs", "*.md"), "lines of the documentation"),
    ]
    return [f"{figure:>8,}  {title}" for figure, title in figures]


if __name__ == "__main__":
    main()
