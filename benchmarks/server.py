"""A local server that speaks the providers' wire formats, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.environments import ROOT

_CODE = """
import sys
from agentkit.testing import WireServer
with WireServer(reply=' '.join(['word'] * 60)) as server:
    print(server.openai_url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def served(python: str | Path = sys.executable) -> Iterator[str]:
    """The address of a server that the interpreter `python` runs."""
    with subprocess.Popen(
        [python, "-c", _CODE],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()
