"""Interrupts a thread at any line, as the garbage collector, a signal handler and Ctrl-C do."""

from __future__ import annotations

import dis
import linecache
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import agentkit

PACKAGE = str(Path(agentkit.__file__).parent)
PATIENCE = 30.0
"""Seconds after which a thread is taken to be waiting for itself."""


class Interruption:
    """Does something in a thread right before the `at`-th line that it runs of files below `of`.

    `after_calls`: instead, after the `at`-th call of a function, where Python looks for signals in
    the middle of a line.
    """

    def __init__(
        self, at: int, act: Callable[[], object], of: str = PACKAGE, *, after_calls: bool = False
    ) -> None:
        self.lines = 0
        self._at = at
        self._act = act
        self._of = of
        self._after_calls = after_calls
        self._called: set[FrameType] = set()

    @property
    def happened(self) -> bool:
        return self.lines >= self._at

    def during(self, work: Callable[[], object]) -> None:
        before = sys.gettrace()  # coverage.py's
        sys.settrace(self._trace)
        try:
            work()
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(self._of) or frame.f_code.co_name == "__del__":
            return None  # Python ignores what is raised in a finalizer
        frame.f_trace_opcodes = self._after_calls
        if self._is_possible(event, frame):
            self.lines += 1
            if self.lines == self._at:
                sys.settrace(None)
                self._act()
                return None
        return self._trace

    def _is_possible(self, event: str, frame: FrameType) -> bool:
        if not self._after_calls:
            return event == "line" and not _is_uninterrupted(frame)
        if event != "opcode":
            return False
        called = frame in self._called
        self._called.discard(frame)
        if dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith("CALL"):
            self._called.add(frame)
        return called


_known: dict[tuple[int, int], tuple[bool, CodeType]] = {}
"""What `_is_uninterrupted` found out, by code and place."""


def _is_uninterrupted(frame: FrameType) -> bool:
    """Whether Python looks for no signal before this line.

    The line of a `with` is traced again at its end. What follows `finally:` begins as soon as the
    call before it has returned, and a signal that came until then is an error of that call. A `try`
    alone does nothing: an error that a tracer raises there misses the `with` around it.
    """
    code, at = frame.f_code, frame.f_lasti
    known = _known.get((id(code), at))
    if known is None:
        line = linecache.getline(code.co_filename, frame.f_lineno).lstrip()
        before = linecache.getline(code.co_filename, frame.f_lineno - 1).strip()
        found = line.startswith(("with ", "try:")) or before == "finally:" or _jumps_back(code, at)
        known = _known[id(code), at] = found, code
    return known[0]


def _jumps_back(code: CodeType, at: int) -> bool:
    """Whether another round of a loop is about to begin.

    From Python 3.12, an error that a tracer raises there misses the handlers around a
    comprehension. A signal does not: its handler runs during the jump.
    """
    return dis.opname[code.co_code[at]].startswith("JUMP_BACKWARD")


def in_time(work: Callable[[], object]) -> None:
    """Do `work` in a thread of its own, and fail if that waits for ever."""
    faults: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        stack = sys._current_frames()[thread.ident or 0]
        pytest.fail(f"waits for itself at {stack.f_code.co_filename}:{stack.f_lineno}")
    for fault in faults:
        raise fault
