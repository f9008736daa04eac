"""Compares the native transport with the openai SDK, and prints the table of the documentation.

Each contender runs in a process of its own; the contenders of one work follow each other, several
rounds long, and the best round counts. Trust the ratios: the numbers depend on the machine.
With the argument ``memory``, only the memory of open streams is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROUNDS = 3
STREAMS = 900  # the SDK opens at most 1,000 connections
CONTENDERS = ("sdk", "through", "native", "observed")


class Row(NamedTuple):
    """One line of the table: a work, how many at once, and how many in all."""

    title: str
    work: str
    concurrency: int
    total: int


ROWS = (
    Row("calls, one at a time", "calls", 1, 400),
    Row("calls, 16 at once", "calls", 16, 800),
    Row("calls, 64 at once", "calls", 64, 1280),
    Row("calls, 256 at once", "calls", 256, 1536),
    Row("streams of 61 chunks, 16 at once", "streams of 61", 16, 160),
    Row("streams of 400 chunks, 16 at once", "streams of 400", 16, 48),
    Row("sync calls, one thread", "sync calls", 1, 400),
    Row("sync calls, 16 threads", "sync calls", 16, 480),
    Row("sync streams of 61 chunks", "sync streams of 61", 1, 60),
)


def _run(contender: str, work: str, concurrency: int, count: int, url: str) -> dict[str, float]:
    arguments = [contender, work, str(concurrency), str(count), url]
    command = [sys.executable, "-m", "benchmarks.native.client", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _row(row: Row, url: str) -> str:
    best: dict[str, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for contender in CONTENDERS:
            new = _run(contender, row.work, row.concurrency, row.total, url)
            old = best.get(contender, new)
            best[contender] = {name: min(value, old[name]) for name, value in new.items()}
    sdk = best["sdk"]
    cells = [f"{sdk['cpu']:,.0f} · {sdk['wall']:,.0f}"]
    for contender in CONTENDERS[1:]:
        figures = best[contender]
        cells.append(f"{sdk['cpu'] / figures['cpu']:.1f} · {sdk['wall'] / figures['wall']:.1f}")
    return f"| {row.title} | {' | '.join(cells)} |"


@contextmanager
def _server(certificate: str | None = None) -> Iterator[str]:
    """The URL of a running server; with a certificate, it speaks TLS."""
    command = [sys.executable, "-m", "benchmarks.native.server"]
    command += [] if certificate is None else [certificate]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        if server.stdout is None:
            raise RuntimeError("the server has no output")
        scheme = "http" if certificate is None else "https"
        try:
            yield f"{scheme}://127.0.0.1:{server.stdout.readline().strip()}/v1"
        finally:
            server.kill()


def _print_memory(url: str, what: str) -> None:
    for contender in CONTENDERS[:3]:
        taken = _run(contender, "memory", 1, STREAMS, url)["mebibytes"]
        print(f"{STREAMS} open streams {what}, {contender}: {taken:.0f} MiB", flush=True)


def _print_memory_over_tls() -> None:
    import trustme

    authority = trustme.CA()
    with TemporaryDirectory() as folder:
        trusted, own = Path(folder, "ca.pem"), Path(folder, "server.pem")
        authority.cert_pem.write_to_path(str(trusted))
        issued = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
        issued.write_to_path(str(own))
        os.environ["SSL_CERT_FILE"] = str(trusted)
        with _server(str(own)) as url:
            _print_memory(url, "over TLS")


def main() -> None:
    """Print the tables."""
    with _server() as url:
        if sys.argv[1:] != ["memory"]:
            print("| | openai SDK, µs (CPU · time) | agentkit over it | native | native, OTel |")
            print("|---|--:|--:|--:|--:|")
            for row in ROWS:
                print(_row(row, url), flush=True)
        _print_memory(url, "")
    _print_memory_over_tls()


main()
