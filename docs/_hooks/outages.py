"""Write the table of outages from the scenarios that the tests act out.

Run this script after a change of `tests/failover/scenarios.py`; a test compares the result.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.failover.scenarios import History, Scenario

PAGE = Path(__file__).resolve().parents[1] / "explanation/outages.md"

_TABLE = re.compile(r"(<!-- scenarios -->\n).*?(<!-- end -->)", re.DOTALL)
_HEAD = "| scenario | what happens | complete | stream | with an option |\n|---|---|---|---|---|\n"


def page_text(page: str) -> str:
    """`page` with its table generated again."""
    from tests.failover.scenarios import SCENARIOS

    rows = "".join(map(_row, SCENARIOS))
    return _TABLE.sub(lambda found: f"{found[1]}\n{_HEAD}{rows}\n{found[2]}", page)


def _row(scenario: Scenario | History) -> str:
    gets = scenario.gets
    option = scenario.option
    changed = "" if option is None else f"{option}: {option.stream}"
    return f"| {scenario.name} | {scenario.happens} | {' | '.join(gets)} | {changed} |\n"


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(page_text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(PAGE.parents[2]))
    main()
