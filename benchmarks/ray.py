"""What batches on Ray cost, and what a killed actor costs.

    make ray ARGS=--collect-only               # creates the environment with Ray
    .matrix/ray/bin/python -m benchmarks.ray [--items 4000] [--lines 1000000]

Answers a file with 1, 2 and 4 actors, and with as many local processes; kills an actor in the
middle of a run; and continues a run of many lines of which one shard is left. The model answers
after 50 ms. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import platform
import resource
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from agentkit import LLMManager, complete_shards, join_shards
from agentkit.integrations.ray import map_prompts
from agentkit.manager.batch_input import Span, read_lines
from agentkit.manager.batch_run import Progress
from agentkit.manager.shards import Plan

CONCURRENCY = 64
SHARDS = 20


def make(log: str) -> LLMManager:
    """A model that notes its process for each call, and answers after 50 ms."""

    async def model(_prompt: str, _options: dict[str, Any]) -> str:
        note(log)
        await asyncio.sleep(0.05)
        return "an answer"

    manager = LLMManager(enable_caching=False)
    manager.register_model("m", model)
    return manager


def note(log: str) -> None:
    with Path(log).open("a") as file:
        file.write(f"{os.getpid()}\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.ray", description=__doc__)
    parser.add_argument("--items", type=int, default=4000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    options = parser.parse_args()
    began = time.perf_counter()
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
    )
    results: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}",
        "versions": {"python": platform.python_version(), "ray": ray.__version__},
        "cluster_started_s": round(time.perf_counter() - began, 1),
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        source = written(place / "in.jsonl", options.items)
        for workers in (1, 2, 4):
            for name, complete in (("actors", map_prompts), ("processes", complete_shards)):
                title = f"{workers} {name}"
                results[title] = run(place / title, source, complete, workers)
        results["an actor is killed"] = run(place / "killed", source, map_prompts, 2, kill=True)
        many = written(place / "many.jsonl", options.lines)
        results["one shard of many left"] = remaining(place / "many", many)
    ray.shutdown()
    print(json.dumps(results, indent=2))


def written(path: Path, items: int) -> Path:
    with path.open("w") as file:
        for number in range(items):
            file.write(json.dumps({"id": f"item {number}", "prompt": f"question {number}"}) + "\n")
    return path


def run(
    place: Path,
    source: Path,
    complete: Callable[..., Progress],
    workers: int,
    *,
    kill: bool = False,
) -> dict[str, Any]:
    """Answer `source`, and count calls and lines."""
    place.mkdir()
    log, out = place / "log", place / "out"
    log.touch()
    first: list[float] = []
    started: list[tuple[float, int]] = []
    began = time.perf_counter()

    def on_progress(progress: Progress) -> None:
        if not started and progress.answered:
            started.append((time.perf_counter(), progress.answered))
        if not first and any(out.glob("*.jsonl")):
            first.append(time.perf_counter() - began)

    killer = threading.Thread(target=kill_one, args=(log,), daemon=True)
    if kill:
        killer.start()
    done = complete(
        functools.partial(make, str(log)),
        source,
        out,
        shards=SHARDS,
        workers=workers,
        max_concurrency=CONCURRENCY,
        on_progress=on_progress,
    )
    seconds = time.perf_counter() - (started[0][0] if started else began)
    answered = done.answered - (started[0][1] if started else 0)
    join_shards(out, place / "joined")
    indexes = Counter(json.loads(line)["index"] for line in (place / "joined").open())
    return {
        "prompts_per_s": round(answered / seconds),
        "first_answer_s": round(started[0][0] - began, 1) if started else None,
        "first_shard_s": round(first[0], 1) if first else None,
        "calls_repeated": len(log.read_text().split()) - done.total,
        "lines_missing": done.total - len(indexes),
        "lines_doubled": sum(indexes.values()) - len(indexes),
    }


def kill_one(log: Path) -> None:
    """Kill a process when it has made some hundred calls."""
    while True:
        for pid, calls in Counter(log.read_text().split()).items():
            if calls >= 500:
                os.kill(int(pid), signal.SIGKILL)
                return
        time.sleep(0.02)


def remaining(place: Path, source: Path) -> dict[str, Any]:
    """Continue a run whose other shards are finished; what it takes of time and of memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    plan = Plan.open(source, place, 1000)
    split = time.perf_counter() - began
    spent = {"tokens": 9, "cost": 0.1, "cost_estimated": False}
    for shard in plan.shards[1:]:
        span = Span(shard.offset, shard.size, shard.line)
        with plan.output(shard).open("w") as file:
            for line in read_lines(source, span):
                result = {"index": line.number, "id": line.id, "digest": line.digest}
                file.write(json.dumps({**result, "text": "an answer", **spent}))
                file.write("\n")
    began = time.perf_counter()
    log = place.with_name("many.log")
    done = map_prompts(
        functools.partial(make, str(log)), source, place, workers=1, max_concurrency=CONCURRENCY
    )
    return {
        "lines": done.total,
        "shards": len(plan.shards),
        "split_s": round(split, 1),
        "run_s": round(time.perf_counter() - began, 1),
        "memory_before_mb": round(before / 1024),
        "memory_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


if __name__ == "__main__":
    main()
