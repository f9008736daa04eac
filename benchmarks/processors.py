"""Keeps the processors awake, or one of them busy, while something is measured.

A processor without work goes to sleep. On a virtual machine it takes some 0.1 ms to wake, and may
run slower afterwards. Most of the time of a question to a server on the same machine is then two
sleeping processors, whatever the program does. On a busy machine, processors do not sleep.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, Literal

_COMPUTE: Final = """
import os, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {int(sys.argv[1])})
if sys.argv[2] == "idle":
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
    with ExitStack() as stack:
        if hasattr(os, "SCHED_IDLE"):
            for processor in sorted(os.sched_getaffinity(0)):
                stack.enter_context(_computing(processor, "idle"))
        yield


@contextmanager
def busy() -> Iterator[None]:
    """Let a process of ordinary priority compute without a pause on the last processor."""
    last = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    with _computing(last, "ordinary"):
        yield


@contextmanager
def _computing(processor: int, priority: Literal["idle", "ordinary"]) -> Iterator[None]:
    command = [sys.executable, "-c", _COMPUTE, str(processor), priority]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()
