"""Write the fault table of the reference from the cases of the tests.

Run this script after a change of `tests/providers/contract.py`; a test compares the result.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.providers.contract import Row

PAGE = Path(__file__).resolve().parents[1] / "reference/faults.md"

_TABLE = "(<!-- {} -->\n).*?(<!-- end -->)"
_HEAD = (
    "| fault | asked for | error | attempts | breaker | caller gets |\n|---|---|---|---|---|---|\n"
)
_BREAKER = {
    "failure": "failure",
    "consecutive": "consecutive failure",
    "neutral": "neutral",
    "in vain": "neutral, then consecutive failure",
}


class _Line(NamedTuple):
    """The outcome of a fault."""

    error: str
    attempts: int
    blame: str
    raises: str


def page_text(page: str, rows: Iterable[Row], of_bedrock: Iterable[Row]) -> str:
    """`page` with its tables generated again."""
    every = list(rows)
    names = list(dict.fromkeys(row.provider for row in every))
    listed = ", ".join(f"`{name}`" for name in names if not name.endswith(", native"))
    page = _filled(page, "providers", f"{listed}.\n")
    lines = "".join(
        _of_fault(fault, list(own), len(names))
        for fault, own in groupby(every, key=lambda row: row.fault)
    )
    page = _filled(page, "faults", f"{_HEAD}{lines}")
    lines = "".join(
        _of_fault(fault, list(own), 2)
        for fault, own in groupby(of_bedrock, key=lambda row: row.fault)
    )
    return _filled(page, "bedrock", f"{_HEAD}{lines}")


def _filled(page: str, name: str, text: str) -> str:
    put: Callable[[re.Match[str]], str] = lambda found: f"{found[1]}\n{text}\n{found[2]}"  # noqa: E731
    return re.sub(_TABLE.format(name), put, page, flags=re.DOTALL)


def _of_fault(fault: str, rows: list[Row], providers: int) -> str:
    """The lines of one fault; providers with the same lines share them."""
    outcomes: dict[str, dict[bool, _Line]] = {}
    for row in rows:
        line = _Line(row.error, row.attempts, row.blame, row.raises)
        outcomes.setdefault(row.provider, {})[row.stream] = line
    shared: dict[tuple[_Line, _Line], list[str]] = {}
    for provider, line_of in outcomes.items():
        shared.setdefault((line_of[False], line_of[True]), []).append(provider)
    return "".join(
        _lines(fault, complete, stream, "" if len(names) == providers else f": {', '.join(names)}")
        for (complete, stream), names in shared.items()
    )


def _lines(fault: str, complete: _Line, stream: _Line, of: str) -> str:
    ways = {"either": complete}
    if complete != stream:
        ways = {"complete": complete, "stream": stream}
    return "".join(
        f"| {fault} | {way}{of} | `{line.error}` | {line.attempts} | {_BREAKER[line.blame]} "
        f"| {f'`{line.raises}`' if line.raises else 'the next model'} |\n"
        for way, line in ways.items()
    )


def main() -> None:
    """Rewrite the page."""
    from tests.providers.contract import rows, rows_of_bedrock

    page = page_text(PAGE.read_text(encoding="utf-8"), rows(), rows_of_bedrock())
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(PAGE.parents[2]))
    main()
