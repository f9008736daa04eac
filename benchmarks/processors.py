"""Keeps the processors awake while something is measured.

A processor without work goes to sleep. On a virtual machine it takes some 0.1 ms to wake, and may
run slower afterwards. Most of the time of a question to a server on the same machine is then two
sleeping processors, whatever the program does. On a busy machine, processors do not sleep.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SPIN: Final = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = os.getppid()
while os.getppid() == parent:
    sum(range(100_000))
"""


@contextmanager
def awake() -> Iterator[None]:
    """Let each processor of this process compute whenever nothing else does; on Linux only.

    Those computations have the lowest priority that there is (``SCHED_IDLE``): a process that has
    something to do replaces them at once.
    """
    spins: list[subprocess.Popen[bytes]] = []
    if hasattr(os, "SCHED_IDLE"):
        spins = [
            subprocess.Popen([sys.executable, "-c", _SPIN, str(processor)])
            for processor in sorted(os.sched_getaffinity(0))
        ]
    try:
        yield
    finally:
        for each in spins:
            each.kill()
            each.wait()
