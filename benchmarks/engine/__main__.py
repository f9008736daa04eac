"""Compares the engine with an earlier commit, and prints the table of the documentation.

    python -m benchmarks.engine                  # beside the engine before it was made faster
    python -m benchmarks.engine --against TAG    # beside another commit
    python -m benchmarks.engine --rounds 3       # shorter

A model that answers at once is called through both trees, each work in processes of its own that
take turns; the best of all rounds counts. Trust the ratios: the numbers depend on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TREE = HERE.parent.parent
BEFORE = "32b15f692727123900ea65ba00e98b624baa9059"

Figures = dict[str, float]


class Row(NamedTuple):
    """One line of the table: what it is called, the work in both trees, and how many calls."""

    title: str
    before: str
    now: str
    calls: int


ROWS = (
    Row("sync call", "sync", "sync", 4000),
    Row("async call", "async", "async", 4000),
    Row("hit of the memory cache, sync", "hit", "hit", 4000),
    Row("hit of the memory cache, async", "ahit", "ahit", 4000),
    Row("hit of the disk cache", "disk", "disk", 500),
    Row("sync call, OpenTelemetry SDK", "otel", "otel", 4000),
    Row("async call, OpenTelemetry SDK", "aotel", "aotel", 4000),
    Row("… with `defer_metrics=True`", "otel", "otel-deferred", 4000),
    Row('… and `spans="attempt"`', "otel", "otel-one-span", 4000),
)
CROWD = 3000

READY = """
from agentkit import LLMManager, provider_for
model = provider_for("openai:gpt-5", transport="native", api_key="k")
model.prepare()
LLMManager().register_model("m", model)
"""
SDK = """
import openai
openai.OpenAI(api_key="k"), openai.AsyncOpenAI(api_key="k")
"""


@contextlib.contextmanager
def _checked_out(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory, "tree")
        git = ["git", "-C", str(TREE)]
        subprocess.run([*git, "worktree", "add", "-q", "--detach", tree, commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", tree], check=True)


def _run(tree: Path, work: str, calls: int) -> Figures:
    command = [sys.executable, "-P", str(HERE / "client.py"), work, str(calls)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{work} failed in {tree}:\n{done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout)
    return figures


def _best(contenders: list[tuple[Path, str]], calls: int, rounds: int) -> list[Figures]:
    """The best figures of each contender, which take turns, each going first in turn."""
    best: list[Figures] = [{} for _ in contenders]
    for turn in range(rounds):
        turns = list(zip(best, contenders, strict=True))
        for figures, (tree, work) in turns if turn % 2 == 0 else reversed(turns):
            for name, value in _run(tree, work, calls).items():
                figures[name] = min(value, figures.get(name, value))
    return best


def _starts(programs: Sequence[str], rounds: int) -> list[float]:
    """The processor time that each program takes from its start, without that of Python itself.

    The first round compiles modules, as an installer does.
    """
    best = [math.inf for _ in ("", *programs)]
    environment = {**os.environ, "PYTHONPATH": str(TREE), "PYTHONDONTWRITEBYTECODE": ""}
    for _ in range(rounds):
        for index, program in enumerate(("", *programs)):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-c", program]
            subprocess.run(command, env=environment, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            best[index] = min(best[index], took)
    return [each - best[0] for each in best[1:]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine")
    parser.add_argument("--against", default=BEFORE, help="the earlier commit")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| | before, µs (CPU · time) | now, µs | × as fast |\n|---|--:|--:|--:|")
    with _checked_out(options.against) as earlier:
        for row in ROWS:
            contenders = [(earlier, row.before), (TREE, row.now)]
            before, now = _best(contenders, row.calls, options.rounds)
            ratios = " · ".join(f"{before[each] / now[each]:.2f}" for each in ("cpu", "wall"))
            cells = " | ".join(f"{of['cpu']:.1f} · {of['wall']:.1f}" for of in (before, now))
            print(f"| {row.title} | {cells} | {ratios} |", flush=True)
        contenders = [(TREE, "crowd-bare"), (earlier, "crowd"), (TREE, "crowd")]
        bare, before, now = _best(contenders, CROWD, options.rounds)
    print(f"\n{CROWD:,} calls, 500 at a time, in multiples of the bare callable's time:")
    print(f"before {before['wall'] / bare['wall']:.3f}, now {now['wall'] / bare['wall']:.3f}")
    ready, sdk = _starts((READY, SDK), options.rounds)
    print(f"\nagentkit and a native provider, ready for use: {ready / sdk:.2f} of the openai SDK's")
    print(f"start ({ready * 1e3:.0f} ms against {sdk * 1e3:.0f} ms of processor time)")


main()
