"""Runs small programs in interpreters of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import agentkit

_PATH = str(Path(agentkit.__path__[0]).parent)


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """`program` in a new interpreter, its output readable line by line."""
    environment = {**os.environ, "PYTHONPATH": _PATH, "AGENTKIT_CACHE": ""}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(program: str, *arguments: object) -> str:
    """What `program` printed; its errors are the test's."""
    process = start(program, *arguments)
    output, errors = process.communicate(timeout=50)
    assert process.returncode == 0, errors
    assert errors == ""
    return output.strip()
