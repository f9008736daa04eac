"""The figures of a fleet in one table, each with its command and what it should reach.

    python -m benchmarks.fleet_table [--only fleet,outages,fleet_limits,starvation]

Runs the benchmarks one after another (about ten minutes), keeps what they print in
``docs/benchmarks/fleet.json``, and writes the table into ``docs/benchmarks/fleet.md``. With
``--only`` the others keep their last results; ``--only ""`` measures nothing and writes the table.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.fleet_costs import ROWS as COSTS
from benchmarks.fleet_costs import TAKES_AHEAD

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "docs" / "benchmarks" / "fleet.json"
PAGE: Final = ROOT / "docs" / "benchmarks" / "fleet.md"
MODULES: Final = ("fleet", "outages", "fleet_limits", "starvation")


class Row(NamedTuple):
    """A line of the table."""

    title: str
    module: str
    path: str
    """Where the figure is in the results."""
    line: str
    """What it should reach: ``≤ 5``, ``= 1``, ``≥ 5000``, or the path of a number."""
    unit: str = ""
    alone: str = ""
    """Where the figure of processes without a fleet is."""


_ASLEEP: Final = "microseconds, processors asleep"
_FIRST: Final = "attempts_in_the_first_second.8 x"
ROWS: Final = (
    Row(
        "attempts at a dead provider in the first second, 8 × 5 calls/s",
        "outages",
        f"{_FIRST} 5/s.fleet",
        f"≤ {_FIRST} 5/s.line",
        alone=f"{_FIRST} 5/s.alone",
    ),
    Row(
        "the same, 8 × 40 calls/s",
        "outages",
        f"{_FIRST} 40/s.fleet",
        f"≤ {_FIRST} 40/s.line",
        alone=f"{_FIRST} 40/s.alone",
    ),
    Row(
        "the same, with standstills of 0.05 s (simulated)",
        "starvation",
        "0.05 s.fleet.median",
        "",
        alone="0.05 s.alone.median",
    ),
    Row(
        "probes in 9.5 s of an outage, recovery time 2 s",
        "outages",
        "outage_of_9.5_s.fleet.probes",
        "≤ 5",
        alone="outage_of_9.5_s.alone.probes",
    ),
    Row(
        "after it, first and last process that serves again, apart",
        "outages",
        "outage_of_9.5_s.fleet.apart_s",
        "≤ 0.5",
        "s",
        alone="outage_of_9.5_s.alone.apart_s",
    ),
    Row(
        "calls that other hosts refuse while one has a broken network",
        "outages",
        "broken_host.calls_refused_elsewhere",
        "= 0",
    ),
    Row(
        "requests in any 60 s, limit 500, 8 × 100 callers",
        "fleet_limits",
        "requests_500.most_requests_in_60_s",
        "≤ 500",
    ),
    Row(
        "tokens really used in any 60 s, limit 60,000",
        "fleet_limits",
        "tokens_60000.most_tokens_in_60_s",
        "≤ 60000",
    ),
    Row(
        "tokens of these used in the first 60 s",
        "fleet_limits",
        "tokens_60000.first_60_s.1",
        "≥ 57000",
    ),
    Row(
        "three keys of 200 requests: requests of all in the first 60 s",
        "fleet_limits",
        "three_keys.first_60_s.0",
        "= 600",
    ),
    Row(
        "requests in any 60 s while the server is flushed three times",
        "fleet_limits",
        "flushed_three_times.most_requests_in_60_s",
        "≤ 500",
    ),
    Row(
        "the same, restarted three times",
        "fleet_limits",
        "restarted_three_times.most_requests_in_60_s",
        "≤ 500",
    ),
    Row(
        "the same, after a failover that lost the writes of a second",
        "fleet_limits",
        "failed_over.most_requests_in_60_s",
        "≤ 500",
    ),
    Row(
        "questions to the server a call, under load",
        "fleet_limits",
        "requests_500.questions_per_call",
        "≤ 0.3",
    ),
    Row(
        "the same for a limit of tokens",
        "fleet_limits",
        "tokens_60000.questions_per_call",
        "≤ 0.3",
    ),
    Row(
        "the first call with a new key, beside seven live managers",
        "fleet_limits",
        "first_call_milliseconds.first",
        "≤ 5",
        "ms",
    ),
    Row(
        "upstream calls for 8 × 100 identical prompts",
        "fleet",
        "burst_fleet.upstream_calls",
        "= 1",
        alone="burst_alone.upstream_calls",
    ),
    Row("upstream calls if the leader is killed", "fleet", "leader_killed.upstream_calls", "≤ 2"),
    Row("– the answer, after its death", "fleet", "leader_killed.answered_after_s", "≤ 3.5", "s"),
    *(
        Row(
            f"added to a call of a sequence: {name}, {kind}",
            "fleet",
            f"microseconds.{name}, {kind}.added",
            f"≤ microseconds.{name}, {kind}.aim",
            "µs",
            alone=f"microseconds.{name}, {kind}.alone",
        )
        for name in COSTS
        for kind in ("sync", "async")
    ),
    *(
        Row(
            f"added to a single call now and then: {name}, {kind}",
            "fleet",
            f"microseconds.{name}, now and then, {kind}.added",
            "",
            "µs",
            alone=f"microseconds.{name}, now and then, {kind}.alone",
        )
        for name in TAKES_AHEAD
        for kind in ("sync", "async")
    ),
    *(
        Row(
            f"a response of another process, from the server, {kind}",
            "fleet",
            f"microseconds.hit of another process.{kind}.median",
            f"≤ microseconds.hit of another process.{kind}.aim",
            "µs",
        )
        for kind in ("sync", "async")
    ),
    Row(
        "distinct calls a second of one process, 50 at once",
        "fleet",
        "microseconds.distinct calls.fleet.calls_per_second",
        "≥ microseconds.distinct calls.aim",
        alone="microseconds.distinct calls.alone.calls_per_second",
    ),
    *(
        Row(
            f"processors asleep: added by a miss with claim, {kind}",
            "fleet",
            f"{_ASLEEP}.miss with claim, {kind}.added",
            "",
            "µs",
            alone=f"{_ASLEEP}.miss with claim, {kind}.alone",
        )
        for kind in ("sync", "async")
    ),
    *(
        Row(
            f"processors asleep: a response of another process, {kind}",
            "fleet",
            f"{_ASLEEP}.hit of another process.{kind}.median",
            "",
            "µs",
        )
        for kind in ("sync", "async")
    ),
    Row(
        "processors asleep: distinct calls a second",
        "fleet",
        f"{_ASLEEP}.distinct calls.fleet.calls_per_second",
        "",
        alone=f"{_ASLEEP}.distinct calls.alone.calls_per_second",
    ),
    Row(
        "the server hangs: the slowest of 50 first calls at once",
        "fleet",
        "store_hangs.first_of_50_at_once_ms",
        "≤ 250",
        "ms",
    ),
    Row("– the next call", "fleet", "store_hangs.then_ms", "≤ 5", "ms"),
    Row("– the event loop stands still", "fleet", "store_hangs.loop_stood_still_ms", "≤ 20", "ms"),
)
_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "≤": operator.le,
    "=": operator.eq,
    "≥": operator.ge,
}


def table(results: dict[str, Any]) -> str:
    """The table of the page, in Markdown."""
    found = [f"{_conditions(results)}\n", "| figure | alone | fleet | aim | command |"]
    found.append("|---|--:|--:|--:|---|")
    for row in ROWS:
        kept = results.get(row.module, {}).get("results", {})
        value = _find(kept, row.path)
        sign, _, aim = row.line.partition(" ")
        limit = None if not aim else _number(aim, kept)
        shown = _shown(value, row.unit)
        if value is not None and limit is not None and not _COMPARE[sign](value, limit):
            shown = f"**{shown}**"
        alone = _shown(_find(kept, row.alone), row.unit) if row.alone else ""
        target = "" if limit is None else f"{sign} {_shown(limit, row.unit)}"
        found.append(f"| {row.title} | {alone} | {shown} | {target} | `{row.module}` |")
    return "\n".join(found) + "\n"


def standstills(results: dict[str, Any]) -> str:
    """The table of the simulated outage, in Markdown."""
    found = ["| a process stands still for | alone: median, most | fleet: median, most |"]
    found.append("|---|--:|--:|")
    for seconds, row in results["starvation"]["results"].items():
        counts = (f"{row[name]['median']}, {row[name]['most']}" for name in ("alone", "fleet"))
        found.append(f"| {seconds} | {' | '.join(counts)} |")
    return "\n".join(found) + "\n"


def _conditions(results: dict[str, Any]) -> str:
    parts = [
        f"`{name}` {each['date']} (load {each['load']})"
        for name in MODULES
        if (each := results.get(name)) is not None
    ]
    return f"Measured: {', '.join(parts)}; on {platform_of(results)}."


def platform_of(results: dict[str, Any]) -> str:
    """Where the results were measured."""
    return ", ".join(sorted({each["machine"] for each in results.values()}))


def _find(kept: Any, path: str) -> Any:
    left = path
    while left:
        if isinstance(kept, list):
            head, _, left = left.partition(".")
            kept = kept[int(head)]
            continue
        name = next((each for each in kept or () if f"{left}.".startswith(f"{each}.")), None)
        if name is None:
            return None
        kept, left = kept[name], left[len(name) + 1 :]
    return kept


def _number(aim: str, kept: Any) -> Any:
    try:
        return json.loads(aim)
    except ValueError:
        return _find(kept, aim)


def _shown(value: Any, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value:,}{f' {unit}' if unit else ''}"


def measure(module: str) -> dict[str, Any]:
    """Run one benchmark."""
    command = [sys.executable, "-m", f"benchmarks.{module}"]
    load = os.getloadavg()[0]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load": round(load),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "results": json.loads(done.stdout),
    }


def write(results: dict[str, Any]) -> None:
    """Write the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, written in (("table", table(results)), ("standstills", standstills(results))):
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->\n")
        text = f"{before}{begin}\n{written}\n{end}{after}"
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.fleet_table", description=__doc__)
    parser.add_argument("--only", default=",".join(MODULES), help="separated by commas")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    if RESULTS.exists():
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
    for module in filter(None, options.only.split(",")):
        results[module] = measure(module)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write(results)


if __name__ == "__main__":
    main()
