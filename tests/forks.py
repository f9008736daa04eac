"""Runs a function in a forked child."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])


def forks(test: Test) -> Test:
    """Marks a test that forks: skipped where the platform cannot."""
    for mark in (
        pytest.mark.processes,
        pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork"),
        pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
    ):
        test = mark(test)
    return test


def in_child(work: Callable[[], object]) -> str:
    """What `work` returned in a forked child, as a string; the test fails if it raised or hung."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        failed = 1
        try:
            text = str(work())
            failed = 0
        except BaseException:
            text = traceback.format_exc()
        os.write(write, text.encode())
        os._exit(failed)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, text
    return text
