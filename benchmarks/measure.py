"""The measurements that every contender makes; only the standard library is used.

Each contender is a module run by its own interpreter with the name of one work. It prints one
JSON line with the figures of that work, or with the reason why it has none.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from importlib import metadata
from statistics import median
from time import perf_counter
from typing import Any

Figures = dict[str, float]
Work = Callable[[], Figures] | str  # a sentence instead of a function: why there is no figure

UPSTREAM = 0.05  # seconds until the simulated provider answers or fails
SILENCE = 30.0  # seconds for which a silent provider sends nothing
ATTEMPT_TIMEOUT = 1.0  # seconds, set against the silent provider


class ServiceUnavailableError(Exception):
    """The exception of a dead provider's client."""

    status_code = 503


def report(works: Mapping[str, Work], distribution: str | None = None) -> None:
    """Run the work named on the command line and print its figures as one JSON line."""
    name = sys.argv[1]
    work = works[name]
    outcome: dict[str, Any] = {"work": name}
    if callable(work):
        try:
            outcome["figures"] = work()
        except Exception as error:  # noqa: BLE001 - a contender that breaks is a result
            outcome["reason"] = f"raises {type(error).__name__}: {error}"[:300]
    else:
        outcome["reason"] = work
    outcome["version"] = metadata.version(distribution) if distribution else ""
    print(json.dumps(outcome), flush=True)


def against_sdk(
    ours: Callable[[], Awaitable[object]],
    bare: Callable[[], Awaitable[object]],
    our_stream: Callable[[], Awaitable[object]],
    bare_stream: Callable[[], Awaitable[object]],
) -> Coroutine[Any, Any, Figures]:
    """Compare a library over the openai SDK with that SDK alone, alternating in one process.

    The figures are the p50 of sequential calls in milliseconds, what it adds to the bare SDK's,
    and the time of 320 calls, 16 at a time, and of 80 streams, 4 at a time, as multiples of the
    bare SDK's. Each is the median of five turns, so that other load on the machine affects both.
    """

    async def timed(call: Callable[[], Awaitable[object]], count: int, width: int) -> float:
        began = perf_counter()
        await crowd(lambda _: call(), count, width)
        return perf_counter() - began

    async def one(call: Callable[[], Awaitable[object]]) -> float:
        times = []
        for _ in range(150):
            began = perf_counter()
            await call()
            times.append(perf_counter() - began)
        return 1000.0 * median(times)

    async def run() -> Figures:
        for call in (ours, bare, our_stream, bare_stream):
            await timed(call, 20, 4)
        singles, adds, calls, streams = [], [], [], []
        for _ in range(5):
            alone, with_it = await one(bare), await one(ours)
            singles.append(with_it)
            adds.append(with_it - alone)
            calls.append(await timed(ours, 320, 16) / await timed(bare, 320, 16))
            streams.append(await timed(our_stream, 80, 4) / await timed(bare_stream, 80, 4))
        return {
            "p50_ms": median(singles),
            "added_ms": median(adds),
            "calls_ratio": median(calls),
            "streams_ratio": median(streams),
        }

    return run()


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1e6) * len(ordered) // 1_000_000) - 1)]


def each(call: Callable[[int], object], count: int = 400, rounds: int = 7) -> Figures:
    """Microseconds of one call after another: p50 and p99 of the quietest round.

    The quietest of several rounds shows what the code costs; the others include other work of
    the machine. `call` receives its number, counted over all rounds.
    """
    samples: list[list[float]] = []
    for around in range(rounds + 1):
        taken = []
        for index in range(count):
            started = perf_counter()
            call(around * count + index)
            taken.append(perf_counter() - started)
        samples.append(taken)
        gc.collect()
    return _quietest(samples[1:])


async def aeach(
    call: Callable[[int], Awaitable[object]], count: int = 400, rounds: int = 7
) -> Figures:
    """Like `each`, awaiting each call."""
    samples: list[list[float]] = []
    for around in range(rounds + 1):
        taken = []
        for index in range(count):
            started = perf_counter()
            await call(around * count + index)
            taken.append(perf_counter() - started)
        samples.append(taken)
        gc.collect()
    return _quietest(samples[1:])


def _quietest(rounds: list[list[float]]) -> Figures:
    best = min(rounds, key=median)
    return {"p50": quantile(best, 0.5) * 1e6, "p99": quantile(best, 0.99) * 1e6}


def sync_and_async(sync: Figures, other: Figures) -> Figures:
    """The figures of sync and async calls side by side, in microseconds."""
    return {
        "sync_p50_us": sync["p50"],
        "sync_p99_us": sync["p99"],
        "async_p50_us": other["p50"],
        "async_p99_us": other["p99"],
    }


async def crowd(
    call: Callable[[int], Awaitable[object]], calls: int, concurrent: int
) -> tuple[float, list[float]]:
    """Seconds for `calls` calls, `concurrent` at a time, and the seconds each of them took."""
    gate = asyncio.Semaphore(concurrent)
    taken: list[float] = []

    async def one(index: int) -> None:
        async with gate:
            started = perf_counter()
            await call(index)
            taken.append(perf_counter() - started)

    gc.collect()
    started = perf_counter()
    await asyncio.gather(*(one(index) for index in range(calls)))
    return perf_counter() - started, taken


async def throughput(call: Callable[[int], Awaitable[object]]) -> Figures:
    """Seconds for 3,000 calls, 500 at a time: the best of three."""
    await crowd(call, 500, 500)
    return {"seconds": min([(await crowd(call, 3000, 500))[0] for _ in range(3)])}


async def dead_primary(
    call: Callable[[int], Awaitable[object]], attempts: Callable[[], int]
) -> Figures:
    """200 calls, 20 at a time, with a primary that is down from the beginning."""
    wall, taken = await crowd(call, 200, 20)
    return {
        "attempts": attempts(),
        "p50_ms": quantile(taken, 0.5) * 1e3,
        "p99_ms": quantile(taken, 0.99) * 1e3,
        "seconds": wall,
    }


async def silent_primary(
    call: Callable[[], Awaitable[object]], attempts: Callable[[], int]
) -> Figures:
    """Seconds until one call is answered whose primary sends nothing."""
    started = perf_counter()
    await call()
    return {"seconds": perf_counter() - started, "attempts": attempts()}


def identical(*coroutines: Coroutine[Any, Any, int]) -> Figures:
    """Upstream calls made for 100 identical concurrent calls, complete and streaming."""
    names = ("upstream_calls", "upstream_calls_streaming")
    return {
        name: asyncio.run(coroutine) for name, coroutine in zip(names, coroutines, strict=False)
    }


def weight(statement: str, distribution: str) -> Figures:
    """Milliseconds to import it and to import pydantic, and the number of installed packages."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    taken: dict[str, list[float]] = {statement: [], "import pydantic": []}
    for _ in range(9):
        for what, seen in taken.items():
            code = (
                f"from time import perf_counter as now; began = now(); {what}; print(now()-began)"
            )
            ran = subprocess.run(
                [sys.executable, "-c", code],
                check=True,
                capture_output=True,
                text=True,
                env=environment,
            )
            seen.append(float(ran.stdout.split()[-1]))
    ours, pydantic = (median(seen[1:]) * 1e3 for seen in taken.values())
    return {
        "import_ms": ours,
        "pydantic_ms": pydantic,
        "ratio": ours / pydantic,
        "distributions": len(_installed_with(distribution)),
    }


def _installed_with(distribution: str) -> set[str]:
    """The distribution and its dependencies on this platform, from their metadata."""
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(distribution), "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in metadata.requires(name) or []:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(wanted.name), each) for each in {"", *wanted.extras}]
    return {name for name, _ in seen}
