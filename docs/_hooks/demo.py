"""Write the picture of `agentkit demo` from what it prints.

Run this script after a change of the demo; a test compares the text of the picture with it. The
middle of the outage is shown, from the first failure to the skipped primary, and the scoreboard.
"""

from __future__ import annotations

import io
import random
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).resolve().parents[1] / "assets/demo.svg"

_FIRST, _AFTER = "The primary goes down", "Two earlier questions"
_TABLE = " model "
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_FONTS = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def lines() -> list[Text]:
    """What the demo prints, with colors; times are those of a simulated clock."""
    from agentkit.cli.demo import CALM, Outage, show
    from agentkit.testing import FakeClock

    clock = FakeClock()
    dice = random.Random(2)
    out = Console(file=io.StringIO(), width=78, record=True, highlight=False)
    outage = Outage(CALM, clock=clock, sleep=clock.sleep, rng=dice.random)
    with outage.manager:
        show(out, outage)
    return list(Text.from_ansi(out.export_text(styles=True)).split("\n"))


def shown() -> list[Text]:
    """The lines of the picture."""
    everything = lines()
    first, after, table = (
        next(at for at, line in enumerate(everything) if line.plain.startswith(start))
        for start in (_FIRST, _AFTER, _TABLE)
    )
    gap = Text("⋮", "dim")
    return [Text("$ agentkit demo"), gap, *everything[first:after], gap, *everything[table - 1 :]]


def picture() -> str:
    """The picture as SVG. It loads no font, so that it shows the same on every page."""
    out = Console(file=io.StringIO(), width=78, record=True, highlight=False)
    for line in shown():
        out.print(line)
    drawn = out.export_svg(title="agentkit demo", unique_id="demo")
    return _FONT_FACE.sub("", drawn).replace("Fira Code, monospace", _FONTS)


def main() -> None:
    """Rewrite the picture."""
    PICTURE.write_text(picture() + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(PICTURE.parents[2]))
    main()
