"""Write what `agentkit demo --fleet` prints into the page on fleets.

    python docs/_hooks/demo_fleet.py [--play]

The processes of this demo are real, so that no two runs are equal. With ``--play``, a run is
recorded in ``docs/assets/demo-fleet.json``. The text of the page is what the demo prints today for
the recorded run; a test compares them.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from rich.console import Console

from agentkit.cli.demo_fleet import CALM, Event, play_rounds, server, show_rounds

DOCS = Path(__file__).resolve().parents[1]
PAGE, RECORD = DOCS / "how-to/fleet.md", DOCS / "assets/demo-fleet.json"
BEGIN, END = "<!-- demo -->\n", "<!-- end of the demo -->\n"


def text() -> str:
    """What the demo prints for the recorded run, in a block of the page."""
    recorded = json.loads(RECORD.read_text("utf-8"))
    rounds = [
        [[Event(*each) for each in process] for process in kept] for kept in recorded["rounds"]
    ]
    out = Console(file=io.StringIO(), width=78, record=True, highlight=False)
    show_rounds(out, CALM, recorded["server"], rounds)
    lines = "\n".join(line.rstrip() for line in out.export_text().splitlines())
    return f"```text\n$ agentkit demo --fleet\n{lines.rstrip()}\n```\n"


def page() -> str:
    """The page with this text."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{text()}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    if "--play" in sys.argv:
        with server() as found:
            rounds = list(play_rounds(Console(file=io.StringIO()), CALM, found.url))
        RECORD.write_text(json.dumps({"server": found.name, "rounds": rounds}) + "\n", "utf-8")
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
