"""Kill runs of agents at random instants, resume them in other processes, and count.

    python -m benchmarks.durability [--contender agentkit] [--runs 1000] [--kills 3]

Processes are forked, killed with ``kill -9`` and forked again; the providers and the counter of
effects live in another process. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter as Counts
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.durability.plan import ONCE, STEPS, Counter, tools_of

PATIENCE = 180.0
"""Seconds for the last process of a batch, which is not killed."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.durability", description=__doc__)
    parser.add_argument("--contender", default="agentkit")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=10, help="runs of one process")
    parser.add_argument("--kills", type=int, default=3, help="most kills of one batch")
    parser.add_argument("--within", type=float, default=3.0, help="seconds before a kill, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--journal", default="", help="URL; default: SQLite in the folder")
    parser.add_argument("--world", default=sys.executable, help="an interpreter that has agentkit")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    random.seed(options.seed)
    contender = import_module(f"benchmarks.durability.{options.contender}")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        print(json.dumps(measure(contender, options, Path(name)), indent=2))


def measure(contender: Any, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    command = [options.world, "-m", "benchmarks.durability.world"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as world:
        assert world.stdout is not None
        url, port = world.stdout.readline().split()
        names = [f"r{number}" for number in range(options.runs)]
        batches = [names[at : at + options.batch] for at in range(0, len(names), options.batch)]
        started, kills = time.monotonic(), 0
        for number, batch in enumerate(batches):
            arguments = (batch, url, int(port), folder, options.journal)
            kills += len(batch) * until_finished(contender, arguments, options)
            print(f"{number + 1}/{len(batches)} batches, {kills} kills", file=sys.stderr)
        report = Counter(int(port)).report()
        assert world.stdin is not None
        world.stdin.close()
    seconds = time.monotonic() - started
    recorded = getattr(contender, "recorded", None)
    found = summary(names, report, folder)
    if recorded is not None:
        numbers = recorded(folder, options.journal)
        found["recorded_answers_asked_again"] = sum(
            number != report["last"][key] for key, number in numbers.items()
        )
    return {"contender": options.contender, "kills": kills, "seconds": round(seconds), **found}


def until_finished(contender: Any, arguments: tuple[Any, ...], options: Any) -> int:
    """Fork processes for one batch until one finishes; how many were killed."""
    for kill in range(options.kills + 1):
        pid = fork(contender, arguments)
        last = kill == options.kills
        limit = time.monotonic() + (PATIENCE if last else random.uniform(0.0, options.within))
        while time.monotonic() < limit:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                if os.waitstatus_to_exitcode(status) == 0:
                    return kill
                break
            time.sleep(0.001)
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return int(options.kills)


def fork(contender: Any, arguments: tuple[Any, ...]) -> int:
    pid = os.fork()
    if pid:
        return pid
    failed = 1
    try:
        random.seed()
        contender.work(*arguments)
        failed = 0
    except BaseException as error:  # noqa: BLE001 - the last line of a process
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(failed)


def summary(names: list[str], report: dict[str, Any], folder: Path) -> dict[str, Any]:
    lines = (folder / "ended.jsonl").read_text().splitlines()
    ended = {each["run"]: each for each in map(json.loads, lines)}
    finished = [each for each in ended.values() if each["text"].startswith("done")]
    effects, twice, missing, doubtful, silent = report["effects"], Counts[str](), 0, 0, 0
    for key, count in effects.items():
        if count > 1:
            twice[key.split()[1]] += count - 1
    for run in names:
        doubts = {tuple(each) for each in ended.get(run, {}).get("in_doubt", ())}
        doubtful += len(doubts)
        for step in range(1, STEPS):
            for tool in set(tools_of(step)) & set(ONCE):
                if f"{run} {tool} {step}" not in effects:
                    missing += 1
                    silent += (tool, step) not in doubts
    return {
        "runs": len(names),
        "finished": len(finished),
        "once_effects": sum(key.split()[1] in ONCE for key in effects),
        "once_effects_repeated": sum(twice[tool] for tool in ONCE),
        "idempotent_effects_repeated": twice["put"],
        "in_doubt_reported": doubtful,
        "once_effects_missing": missing,
        "missing_and_not_reported": silent,
        "answers": len(report["asked"]),
        "answers_paid_again": sum(count - 1 for count in report["asked"].values()),
        "history_refused": sum(report["refused"].values()),
    }


if __name__ == "__main__":
    main()
