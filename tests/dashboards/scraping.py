"""The example that exports metrics, and a real Prometheus that scrapes it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.dashboards.expressions import ALERTS, ROOT
from tests.state.servers import binaries, server_of

EXAMPLE = ROOT / "examples" / "prometheus_exporter.py"
PATIENCE = 90.0
"""Seconds for Prometheus to start and to scrape what the queries need."""
SCRAPED = (
    "min(count_over_time(agentkit_circuit_breaker_transitions_total"
    '{agentkit_circuit_breaker_previous_state="half_open"}[1m])) >= 3'
)
"""Holds when the series that comes last, after a first failed probe, was scraped three times."""

Series = list[tuple[dict[str, str], float]]


class Prometheus:
    """The query API of a running server."""

    def __init__(self, port: int, process: subprocess.Popen[str], log: Path) -> None:
        self._port = port
        self._process = process
        self._log = log

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer; an error, such as one of syntax, fails the test."""
        with closing(HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
            connection.request("GET", f"/api/v1/{path}?{urlencode(parameters)}")
            answer = json.loads(connection.getresponse().read())
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]

    def query(self, promql: str) -> Series:
        """The labels and the present value of each series."""
        result = self.get("query", query=promql)["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]

    def wait_until(self, promql: str) -> None:
        """Wait until an expression has a value, for at most `PATIENCE`."""
        end = time.monotonic() + PATIENCE
        while not self._has(promql):
            assert time.monotonic() < end, f"{promql}: nothing after {PATIENCE} s"
            try:
                self._process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(self._log.read_text(encoding="utf-8"))

    def _has(self, promql: str) -> bool:
        try:
            return bool(self.query(promql))
        except (OSError, ValueError):
            return False  # it does not listen yet, or answers in words that it is not ready


@contextmanager
def scraping(prometheus: str, directory: Path) -> Iterator[Prometheus]:
    """Run the example and the program `prometheus` on it, until the block ends."""
    with server_of(next(iter(binaries().values()))) as store:
        yield from _scraping(prometheus, directory, store.url)


def _scraping(prometheus: str, directory: Path, store: str) -> Iterator[Prometheus]:
    serve = [sys.executable, str(EXAMPLE), "--serve", "0"]
    with running(serve, directory / "example.log", AGENTKIT_FLEET=store) as example:
        assert example.stdout is not None
        address = urlsplit(example.stdout.readline().strip()).netloc
        assert address, (directory / "example.log").read_text(encoding="utf-8")
        config = directory / "prometheus.yml"
        config.write_text(json.dumps(_configuration(address)), encoding="utf-8")
        port = _free_port()
        scrape = [
            prometheus,
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        log = directory / "prometheus.log"
        with running(scrape, log) as process:
            server = Prometheus(port, process, log)
            server.wait_until(SCRAPED)
            yield server


@contextmanager
def running(command: list[str], log: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process without the developer's settings, which is gone when the block ends."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables}
    with (
        log.open("w", encoding="utf-8") as complaints,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _configuration(address: str) -> dict[str, Any]:
    """Prometheus reads YAML, and JSON is YAML."""
    every_second = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    job = {"job_name": "example", "static_configs": [{"targets": [address]}]}
    return {"global": every_second, "scrape_configs": [job], "rule_files": [str(ALERTS)]}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
