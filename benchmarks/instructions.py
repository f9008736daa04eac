"""Instructions of one call, counted by valgrind: the same on a busy machine and on a quiet one.

    python -m benchmarks.instructions            # every row, as a table
    python -m benchmarks.instructions sync hit   # some rows

A row is run with two numbers of calls; the difference, divided by the calls between them, leaves
out the start of the interpreter. Needs `valgrind` on the path, and a platform that forks.
"""

# ruff: noqa: ARG001 - a model function takes two parameters, used or not

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from agentkit import LLMManager

FEW, MANY = 100, 500


def _answer(prompt: str, kwargs: dict[str, Any]) -> str:
    return "ok"


async def _aanswer(prompt: str, kwargs: dict[str, Any]) -> str:
    return "ok"


def _manager(function: Any, **options: Any) -> LLMManager:
    manager = LLMManager(**options)
    manager.register_model("primary", function)
    manager.register_model("backup", function)
    manager.set_active_model("primary")
    manager.set_fallback_chain(["backup"])
    return manager


def _set_aside() -> None:
    """Keep all that is there out of garbage collections: one pass over it takes millions.

    It would be counted in one run and not in the other, by chance.
    """
    gc.collect()
    gc.freeze()


def _sync(calls: int, **options: Any) -> None:
    options.setdefault("enable_caching", False)
    with _manager(_answer, **options) as manager:
        _set_aside()
        for _ in range(calls):
            manager.generate("hi")


def _async(calls: int, **options: Any) -> None:
    options.setdefault("enable_caching", False)

    async def run() -> None:
        async with _manager(_aanswer, **options) as manager:
            _set_aside()
            for _ in range(calls):
                await manager.agenerate("hi")

    asyncio.run(run())


def _recorded() -> dict[str, Any]:
    from agentkit import Telemetry
    from benchmarks.recording import providers

    tracing, metering = providers()
    return {"telemetry": Telemetry(tracer_provider=tracing, meter_provider=metering)}


def _replayed(calls: int) -> None:
    """What one sync call writes, written with the SDK alone: what agentkit could take at least."""
    from opentelemetry.trace import set_span_in_context

    from benchmarks.recording import one_of, providers

    spans, measurements = one_of(lambda telemetry: _sync(1, telemetry=telemetry))
    tracing, metering = providers()
    tracer, meter = tracing.get_tracer("replay"), metering.get_meter("replay")
    records = [
        (meter.create_histogram(each.name).record, each.value, each.attributes)
        for each in measurements
    ]
    _set_aside()
    for _ in range(calls):
        context, started = None, []
        for each in spans:
            span = tracer.start_span(each.name, context, each.kind, each.at_start)
            context = set_span_in_context(span, context)
            started.append((span, each.at_end))
        for span, attributes in reversed(started):
            if len(attributes) > 2:
                span.set_attributes(attributes)
            else:  # cheaper one by one, and lists are cheaper than tuples
                for name, value in attributes.items():
                    span.set_attribute(name, value)
            span.end()
        for record, value, labels in records:
            record(value, labels)


ROWS: dict[str, Callable[[int], None]] = {
    "sync": _sync,
    "async": _async,
    "hit": lambda calls: _sync(calls, cache="memory", enable_caching=True),
    "ahit": lambda calls: _async(calls, cache="memory", enable_caching=True),
    "otel": lambda calls: _sync(calls, **_recorded()),
    "aotel": lambda calls: _async(calls, **_recorded()),
    "replay": _replayed,
}
"""What is counted, by name: each takes the number of calls."""

GATED = ("sync", "async", "hit")
BUDGET = 338_000
"""Instructions that one call of each gated row may take together, under CPython 3.11.

It is 5 % above what they took when it was set; two counts of the same code differ by less than
0.1 %. Lower it after a reduction. Raise it only for what is worth more than the time of every call.
"""


def count(*rows: str) -> int:
    """The user instructions of one call of each of `rows`, together."""
    few, many = _totals(rows)
    return round((many - few) / (MANY - FEW))


def _totals(rows: Sequence[str]) -> tuple[int, int]:
    """The instructions of a process that makes few calls, and of one that makes many.

    The first is a fork of the second, so that the interpreter starts once.
    """
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    child = [sys.executable, "-m", "benchmarks.instructions", "--run", ",".join(rows)]
    settings = ("AGENTKIT_", "COV_", "COVERAGE_", "OTEL_")
    environment = {name: each for name, each in os.environ.items() if not name.startswith(settings)}
    environment["PYTHONHASHSEED"] = "0"
    done = subprocess.run(
        [*command, *child], env=environment, capture_output=True, text=True, check=True
    )
    found = re.findall(r"I +refs: +([\d,]+)", done.stderr)
    if len(found) != 2:
        raise RuntimeError(f"valgrind did not report two counts: {done.stderr[-500:]}")
    few, many = (int(each.replace(",", "")) for each in found)
    return few, many


def _run(rows: Sequence[str]) -> None:
    """Make few calls of each row in a child, then many here."""
    for row in rows:
        ROWS[row](1)  # imports what it needs
    few = os.fork()
    if few:
        os.waitpid(few, 0)
    for row in rows:
        ROWS[row](MANY if few else FEW)


def main(arguments: list[str]) -> None:
    """Print one line for each row."""
    if arguments[:1] == ["--run"]:
        _run(arguments[1].split(","))
        return
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed")
    for row in arguments or list(ROWS):
        print(f"{row:8} {count(row):>9,}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
