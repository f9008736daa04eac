"""Compares the native transport with the openai SDK, and writes the page of the documentation.

    python -m benchmarks.native                # every part, some fifteen minutes
    python -m benchmarks.native calls paced    # some parts, see `PARTS`; the others are kept
    python -m benchmarks.native page           # the page and its picture from the last results

Each contender runs in a process of its own; the contenders of one work follow each other, several
rounds long, and the best round counts. Client and server have a processor each, which does not go
to sleep. Trust the ratios: the numbers depend on the machine. The results are kept in
``docs/benchmarks/native.json``, and the text between the marks of ``native.md`` is written from
them.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple
from unittest import mock

from benchmarks.environments import ROOT
from benchmarks.native import bedrock, tables
from benchmarks.native.picture import draw
from benchmarks.native.rate import rates
from benchmarks.processors import awake

ROUNDS: Final = 3
STREAMS: Final = 900  # the SDK opens at most 1,000 connections
RESULTS: Final = ROOT / "docs" / "benchmarks" / "native.json"
PICTURE, PAGE = RESULTS.with_suffix(".svg"), RESULTS.with_suffix(".md")
Figures = dict[str, float]


class Row(NamedTuple):
    """One line of the table: a work, how many at once, and how many in all."""

    title: str
    work: str
    concurrency: int
    total: int


ROWS: Final = {
    "calls": (
        Row("calls, one at a time", "calls", 1, 400),
        Row("calls, 16 at once", "calls", 16, 800),
        Row("calls, 64 at once", "calls", 64, 1280),
        Row("calls, 256 at once", "calls", 256, 1536),
    ),
    "streams": (
        Row("streams of 61 chunks, 16 at once", "streams of 61", 16, 160),
        Row("streams of 400 chunks, 16 at once", "streams of 400", 16, 48),
    ),
    "sync": (
        Row("sync calls, one thread", "sync calls", 1, 400),
        Row("sync calls, 16 threads", "sync calls", 16, 480),
        Row("sync streams of 61 chunks", "sync streams of 61", 1, 60),
    ),
    "tls": (
        Row("calls over TLS, 16 at once", "calls", 16, 800),
        Row("sync calls over TLS, one thread", "sync calls", 1, 400),
    ),
}
"""The parts that are rows of the first table."""


def _run(contender: str, work: str, concurrency: int, count: int, url: str) -> Figures:
    arguments = [contender, work, str(concurrency), str(count), url]
    command = [sys.executable, "-m", "benchmarks.native.client", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout)
    return figures


def _best(work: str, concurrency: int, count: int, url: str) -> dict[str, Figures]:
    """The best figures of each contender."""
    best: dict[str, Figures] = {}
    for _ in range(ROUNDS):
        for contender in tables.CONTENDERS:
            new = _run(contender, work, concurrency, count, url)
            old = best.get(contender, new)
            best[contender] = {name: min(value, old[name]) for name, value in new.items()}
    return best


def _measure_rows(part: str, url: str, results: dict[str, Any]) -> None:
    for row in ROWS[part]:
        results[row.title] = _best(row.work, row.concurrency, row.total, url)
    print(tables.calls({row.title: results[row.title] for row in ROWS[part]}))


def _measure_paced(url: str, results: dict[str, Any]) -> None:
    results[tables.PACED] = _best("paced", 256, 1, url)
    print(tables.paced(results))


def _measure_memory(url: str, results: dict[str, Any]) -> None:
    names = ("sdk", "through", "native")
    title = tables.MEMORY[url.startswith("https")]
    results[title] = {name: _run(name, "memory", 1, STREAMS, url) for name in names}
    print(tables.memory(results))


def _measure_server(url: str, results: dict[str, Any]) -> None:
    results["server"] = rates(url)
    print(tables.server(results))


def _measure_bedrock(_: str, results: dict[str, Any]) -> None:
    results["bedrock"] = bedrock.measure()
    print(tables.bedrock(results))


Measure = Callable[[str, dict[str, Any]], None]
PARTS: Final[dict[str, Measure]] = {
    **{part: functools.partial(_measure_rows, part) for part in ROWS},
    "paced": _measure_paced,
    "memory": _measure_memory,
    "memory-tls": _measure_memory,
    "server": _measure_server,
    "bedrock": _measure_bedrock,
}
"""Everything that is measured, by the name of its part."""


@contextmanager
def _server(*, tls: bool) -> Iterator[str]:
    """The URL of a running server."""
    command = [sys.executable, "-m", "benchmarks.native.server"]
    with ExitStack() as stack:
        if tls:
            command.append(_certificate(stack))
        server = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        if server.stdout is None:
            raise RuntimeError("the server has no output")
        scheme = "https" if tls else "http"
        try:
            yield f"{scheme}://127.0.0.1:{server.stdout.readline().strip()}/v1"
        finally:
            server.kill()


def _certificate(stack: ExitStack) -> str:
    """A file with the certificate and the key of a server that the clients trust."""
    import trustme

    authority = trustme.CA()
    folder = stack.enter_context(TemporaryDirectory())
    trusted, own = Path(folder, "ca.pem"), Path(folder, "server.pem")
    authority.cert_pem.write_to_path(str(trusted))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(own))
    stack.enter_context(mock.patch.dict(os.environ, SSL_CERT_FILE=str(trusted)))
    return str(own)


def main(names: list[str]) -> None:
    """Measure the parts with these names, or all."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or PARTS:
        if name == "page":
            continue
        if name not in PARTS:
            sys.exit(f"{name} is not one of {', '.join([*PARTS, 'page'])}")
        began = time.monotonic()
        with awake(), _server(tls="tls" in name) as url:
            PARTS[name](url, results)
        print(f"({name}: {time.monotonic() - began:.0f} s)\n", flush=True)
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    PICTURE.write_text(draw(results), encoding="utf-8")
    PAGE.write_text(tables.filled(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


main(sys.argv[1:])
