"""The input of a batch from file to file: JSON lines, each of which is a request."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from agentkit.errors import ConfigurationError, RequestValidationError

_NOT_IN_A_FILE: Final = {"response_model", "retry", "budget", "use_cache", "priority", "self"}
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
"""How a file in UTF-16 begins, as PowerShell writes it."""
_CORRECT: Final = "correct the line, then run it again"
_MESSAGE_FIELDS: Final = {"role", "content", "tool_call_id"}

Key: TypeAlias = tuple[str, Any]
"""Identifies an item: by its id, or else by its line number."""


class Span(NamedTuple):
    """A part of the input: complete lines between two bytes."""

    offset: int = 0
    size: int | None = None
    """In bytes; None: to the end of the file."""
    line: int = 0
    """The number of its first line."""
    duplicates: frozenset[int] = frozenset()
    """The lines with an id that a line before this part has."""


class Line(NamedTuple):
    """A line of the input."""

    number: int
    digest: str
    id: Any = None
    item: Mapping[str, Any] | None = None
    problem: str | None = None

    @property
    def key(self) -> Key:
        """Identifies the item of the line."""
        return ("index", self.number) if self.id is None else ("id", self.id)

    def arguments(self) -> tuple[Any, dict[str, Any]]:
        """The prompt and the options of the line.

        Raises:
            RequestValidationError: the line cannot be sent.
        """
        if self.item is None or self.problem is not None:
            raise RequestValidationError(self.problem or "the line is blank", hint=_CORRECT)
        options = {name: value for name, value in self.item.items() if name != "id"}
        forbidden = sorted(_NOT_IN_A_FILE & options.keys())
        if forbidden:
            raise RequestValidationError(
                f"{', '.join(forbidden)} cannot be set in a file", hint="remove it from the line"
            )
        given = len({"prompt", "messages"} & options.keys())
        if given != 1:
            what = "both" if given else "neither"
            raise RequestValidationError(
                f"an item needs either a prompt or messages, and has {what}", hint=_CORRECT
            )
        if "messages" in options:
            return _checked_messages(options.pop("messages")), options
        prompt = options.pop("prompt")
        if not isinstance(prompt, str):
            kind = type(prompt).__name__
            raise RequestValidationError(
                f"the prompt must be a string, got {kind}",
                hint='set a conversation as "messages"',
            )
        return prompt, options


def read_lines(source: Path, span: Span | None = None) -> Iterator[Line]:
    """The lines of the input, one by one. An id that was used before is a problem of its line.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    span = span or Span()
    seen: set[Key] = set()
    for number, raw in read_raw_lines(source, span):
        line = parse_line(number, raw)
        if line is None:
            continue
        if line.id is not None:
            if line.number in span.duplicates or line.key in seen:
                line = line._replace(problem=f"duplicate id {line.id!r}")
            seen.add(line.key)
        yield line


def read_raw_lines(source: Path, span: Span) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line of the file, blank ones included.

    Raises:
        ConfigurationError: the file cannot be read, or is in UTF-16.
    """
    try:
        with source.open("rb") as file:
            file.seek(span.offset)
            left = span.size
            for number, raw in enumerate(file, span.line):
                if number == 0 and raw.startswith(_UTF_16):
                    raise ConfigurationError(f"{source} is in UTF-16", hint="save it as UTF-8")
                if left is not None:
                    if left <= 0:
                        return
                    left -= len(raw)
                yield number, raw
    except OSError as error:
        raise file_error(source, error) from error


def parse_line(number: int, raw: bytes) -> Line | None:
    """Line `number` of the file; None if it is blank."""
    text = (raw.removeprefix(b"\xef\xbb\xbf") if number == 0 else raw).strip()
    if not text:
        return None
    digest = hashlib.sha256(text).hexdigest()[:16]
    try:
        item = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        return Line(number, digest, problem=f"the line is not valid JSON: {error}")
    if not isinstance(item, dict):
        kind = type(item).__name__
        return Line(number, digest, problem=f"the line must be an object, got {kind}")
    own = item.get("id")
    if own is not None and type(own) not in (str, int):
        return Line(number, digest, problem="the id must be a string or a whole number")
    return Line(number, digest, own, item)


def _checked_messages(messages: Any) -> list[Any]:
    """The messages as `complete` takes them; only those that JSON can represent are accepted."""
    if not isinstance(messages, list):
        raise RequestValidationError(
            f"messages must be a list, got {type(messages).__name__}",
            hint='write [{"role": "user", "content": "..."}]',
        )
    for index, each in enumerate(messages):
        if not isinstance(each, dict) or not isinstance(each.get("content"), str):
            raise RequestValidationError(
                f"message {index} must be an object with a role and a string as content",
                hint='write {"role": "user", "content": "..."}',
            )
        unknown = sorted(each.keys() - _MESSAGE_FIELDS)
        if unknown:
            raise RequestValidationError(
                f"message {index} has unknown fields: {', '.join(map(repr, unknown))}",
                hint=f"use {', '.join(sorted(_MESSAGE_FIELDS))}",
            )
    return messages


def file_error(path: Path, error: OSError) -> ConfigurationError:
    """The error of a file that cannot be read or written."""
    hint = "check the path"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free space on the disk, then run it again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "check the permissions of the file and its folder"
    return ConfigurationError(f"{path}: {error.strerror or error}", hint=hint)
