"""Compares Bedrock over the native transport with boto3: ``python -m benchmarks.native bedrock``.

Each contender runs in a process of its own; they take turns, several rounds long, and the best
round counts. Trust the ratios: the numbers depend on the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.processors import busy

ROUNDS = 4
CONTENDERS = ("boto3", "through", "native")
Figures = dict[str, float]


def _run(contender: str, work: str, url: str) -> Figures:
    command = [sys.executable, "-m", "benchmarks.native.bedrock_client", contender, work, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{contender}, {work} failed:\n{done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout)
    return figures


def _best(work: str, url: str) -> dict[str, Figures]:
    best: dict[str, Figures] = {}
    for _ in range(ROUNDS):
        for contender in CONTENDERS:
            new = _run(contender, work, url)
            old = best.get(contender, new)
            best[contender] = {name: min(value, old[name]) for name, value in new.items()}
    return best


def measure() -> dict[str, dict[str, Figures]]:
    """The figures of calls, of streams, and of streams beside other work."""
    command = [sys.executable, "-m", "benchmarks.native.bedrock_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        if server.stdout is None:
            raise RuntimeError("the server has no output")
        try:
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            found = {work: _best(work, url) for work in ("calls", "streams")}
            with busy():  # where the client runs
                found["beside"] = _best("streams", url)
        finally:
            server.kill()
    return found
