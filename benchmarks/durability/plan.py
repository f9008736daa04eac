"""The plan that every run follows: which tools the model calls in which step."""

from __future__ import annotations

import json
import socket

STEPS = 20
"""Answers of the model in one run; the last one calls no tool."""
ONCE = ("charge", "mail")
TOOLS = ("look", "put", *ONCE)


def tools_of(step: int) -> tuple[str, ...]:
    """The tools that the model calls in `step`, from 1; none in the last step."""
    if step >= STEPS:
        return ()
    return (("look",), ("charge",), ("put", "mail"), ("look", "charge", "mail"))[step % 4]


class Counter:
    """The process that counts effects, seen from a tool."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)

    def did(self, run: str, tool: str, step: int) -> None:
        """Carry out the effect: from now on it has happened."""
        self._send(f"did {run} {tool} {step}")

    def has(self, run: str, tool: str, step: int) -> bool:
        """Whether the effect has happened."""
        return self._send(f"has {run} {tool} {step}") == "1"

    def report(self) -> dict[str, dict[str, int]]:
        """All counts: ``effects``, ``asked`` (of each answer), ``last`` ask, ``refused``."""
        found: dict[str, dict[str, int]] = json.loads(self._send("report"))
        return found

    def _send(self, line: str) -> str:
        with socket.create_connection(self._address, timeout=60) as connection:
            connection.sendall(f"{line}\n".encode())
            with connection.makefile() as answer:
                return answer.readline().strip()
