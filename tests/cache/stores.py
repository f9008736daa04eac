"""Stores that behave and stores that do not, for the tests of the response cache."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import Connection, connect
from typing import Any

from agentkit.types import Response, ToolCall, Usage

ANSWER: Response[Any] = Response(
    "Paris ☕",
    Usage(11, 7, 5, 3, 2),
    "small",
    "openai",
    "stop",
    (ToolCall("c1", "look_up", {"city": "Paris", "days": [1, 2]}),),
    response_id="r-1",
)


class DictStore:
    """A user's store: two methods and a dict; forgets nothing and ignores the time to live."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.reads: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.reads.append(key)
        return self.entries.get(key)

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self.entries[key] = value


class BrokenStore:
    """Raises `error` whatever it is asked; counts how often it is asked."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.asked = 0

    def get(self, key: str) -> bytes | None:
        self.asked += 1
        raise self.error

    def set(self, key: str, value: bytes, ttl: float) -> None:
        self.asked += 1
        raise self.error


@contextmanager
def rows(directory: Path) -> Iterator[Connection]:
    """The disk tier's database under `directory`, for planting rows."""
    with closing(connect(directory / "responses-v1" / "cache.db")) as connection, connection:
        yield connection


class Warnings(logging.Handler):
    """The messages of the logger ``agentkit.cache``."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
