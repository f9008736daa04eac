"""``agentkit fake-server``: a provider on this machine, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from agentkit.cli.app import app
from tests.cli.terminal import PROGRAM

pytestmark = [pytest.mark.wire, pytest.mark.processes]


def test_it_answers_fails_on_demand_and_ends_with_ctrl_c() -> None:
    command = ["fake-server", "--port", "0", "--json", "--reply", "Paris.", "--fail", "503"]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline() for _ in range(4)]
        url = json.loads("".join(lines))["openai_url"]
        asked = ["ask", "capital?", "-m", "compatible:any", "--base-url", url]
        done = CliRunner().invoke(app, asked)
        assert (done.exit_code, done.stdout) == (0, "Paris.\n")
        assert "retry 1" in done.stderr
        server.send_signal(signal.SIGINT)
        _, shown = server.communicate(timeout=30)
    assert server.returncode == 0
    assert "request 2: openai, model any, stream" in shown
    assert "stopped after 2 requests" in shown


def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(app, ["fake-server", "--port", port])
    assert done.exit_code == 1
    assert "choose another --port" in done.stderr


def test_an_unknown_failure_is_an_error() -> None:
    done = CliRunner().invoke(app, ["fake-server", "--fail", "explode"])
    assert done.exit_code == 1
    assert "use an HTTP status, disconnect, reset, silence" in done.stderr
