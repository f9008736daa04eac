"""Run every work with its contenders, one after another, and write the report.

    python -m benchmarks [--only NAME ...] [--out docs/benchmarks]

With --only, the results of the other works are kept from the last run.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.environments import CONTENDERS, ROOT, Contender
from benchmarks.page import page
from benchmarks.plot import draw
from benchmarks.processors import awake
from benchmarks.server import served
from benchmarks.works import WORKS, Work

PATIENCE = 580  # seconds for one work of one contender


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    names = [work.name for work in WORKS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for contender in CONTENDERS:
        contender.prepare()
    kept = options.out / "results.json"
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"works": {}}
    for work in WORKS:
        if options.only is None or work.name in options.only:
            results["machine"] = machine()
            with awake():
                found = outcomes(work)
            date = dt.datetime.now(tz=dt.UTC).date().isoformat()
            results["works"][work.name] = {"date": date, "outcomes": found}
            kept.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    draw(results, options.out)
    (options.out / "index.md").write_text(page(results))


def outcomes(work: Work) -> dict[str, Any]:
    """The outcome of `work` for each contender."""
    found = {}
    with served(CONTENDERS[0].python) if work.served else nullcontext("") as url:
        for contender in CONTENDERS[:1] if work.alone else CONTENDERS:
            if contender.only and work.name not in contender.only:
                continue
            found[contender.name] = result = outcome(contender, work.name, url)
            print(f"{work.name:16} {contender.title:28} {_short(result)}", flush=True)
    return found


def outcome(contender: Contender, work: str, url: str = "") -> dict[str, Any]:
    """The result that a contender prints for one work, or the reason why it has none."""
    command = [str(contender.python), "-m", f"benchmarks.contenders.{contender.name}", work]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BENCH_SERVER": url}
    try:
        ran = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return {"reason": f"did not finish in {PATIENCE} s"}
    lines = [line for line in ran.stdout.splitlines() if line.startswith('{"work"')]
    if not lines:
        last = (ran.stderr.strip().splitlines() or ["no output"])[-1]
        return {"reason": f"ended with status {ran.returncode}: {last}"[:300]}
    result: dict[str, Any] = json.loads(lines[-1])
    del result["work"]
    return result


def _short(found: dict[str, Any]) -> str:
    figures = found.get("figures")
    if figures is None:
        return f"– {found['reason']}"
    return ", ".join(f"{key} {value:.4g}" for key, value in figures.items())


def machine() -> dict[str, Any]:
    """The machine and the date of a measurement."""
    return {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
