"""Runs a command on its own pseudo-terminal, with typed input and visible output."""

from __future__ import annotations

import os
import pty
import selectors
import signal
import subprocess
import sys
import time
from typing import Self

# Takes Ctrl-C whatever the parent does with it.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from agentkit.__main__ import main
main()
"""
PATIENCE = 30.0


class Terminal:
    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | {"TERM": "dumb"},
        )
        os.close(slave)
        self.shown = ""

    def see(self, text: str) -> str:
        """Read until `text` comes; what came up to its end since the last call."""
        assert self._comes(text, PATIENCE), self.shown
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def interrupt(self, text: str) -> None:
        """Press Ctrl-C until `text` comes.

        As at any terminal, one that comes just before a blocking system call is noticed only after
        that call.
        """
        for _ in range(int(PATIENCE)):
            self._process.send_signal(signal.SIGINT)
            if self._comes(text, 1.0):
                break
        self.see(text)

    def _comes(self, text: str, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while text not in self.shown:
            with selectors.DefaultSelector() as selector:
                selector.register(self._master, selectors.EVENT_READ)
                if not selector.select(max(0.0, until - time.monotonic())):
                    return False
            self.shown += os.read(self._master, 65536).decode()
        return True

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def leave(self) -> int:
        """The exit code, once the program has ended by itself."""
        return self._process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)
