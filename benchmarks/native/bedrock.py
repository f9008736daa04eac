"""Compares Bedrock over the native transport with boto3: ``python -m benchmarks.native.bedrock``.

Each contender runs in a process of its own; they take turns, several rounds long, and the best
round counts. Trust the ratios: the numbers depend on the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

ROUNDS = 3
CONTENDERS = ("boto3", "through", "native")
Figures = dict[str, float]

_SPIN = "while True: sum(range(10000))"


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


@contextmanager
def _other_work() -> Iterator[None]:
    """A process that computes without a pause."""
    with subprocess.Popen([sys.executable, "-c", _SPIN]) as spinning:
        try:
            yield
        finally:
            spinning.kill()


def _print_row(title: str, cells: list[str]) -> None:
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def _print_figures(url: str) -> None:
    calls = _best("calls", url)
    base = calls["boto3"]
    cells = [f"{base['cpu']:,.0f} · {base['wall']:,.0f} µs"]
    for contender in CONTENDERS[1:]:
        own = calls[contender]
        cells.append(f"{base['cpu'] / own['cpu']:.1f} · {base['wall'] / own['wall']:.1f} ×")
    _print_row("calls, 16 at once: CPU · time", cells)
    streams = _best("streams", url)
    base = streams["boto3"]
    cells = [f"{base['cpu']:,.0f} µs"]
    cells += [f"{base['cpu'] / streams[each]['cpu']:.1f} ×" for each in CONTENDERS[1:]]
    _print_row("CPU for an event of 200 streams", cells)
    for title, name, form in (
        ("200 streams of 2.05 s", "seconds", "{:.2f} s"),
        ("threads", "threads", "{:.0f}"),
        ("memory", "mebibytes", "{:.0f} MiB"),
        ("lag of the event loop, p99", "lag", "{:.1f} ms"),
    ):
        _print_row(title, [form.format(streams[each][name]) for each in CONTENDERS])
    with _other_work():
        beside = _best("streams", url)
    cells = [f"{beside[each]['lag']:.1f} ms" for each in CONTENDERS]
    _print_row("the same beside other work", cells)


def main() -> None:
    """Print the table."""
    command = [sys.executable, "-m", "benchmarks.native.bedrock_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        if server.stdout is None:
            raise RuntimeError("the server has no output")
        try:
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            print("| | boto3 | agentkit over it | native |")
            print("|---|--:|--:|--:|")
            _print_figures(url)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
