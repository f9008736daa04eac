"""aisuite: one interface over many vendors, measured for its weight only."""

from __future__ import annotations

from benchmarks import measure

if __name__ == "__main__":
    measure.report(
        {"weight": lambda: measure.weight("import aisuite; aisuite.Client", "aisuite")}, "aisuite"
    )
