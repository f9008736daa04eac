"""The input of a batch: one request per line, read one at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from agentkit.errors import ConfigurationError, RequestValidationError

_NOT_IN_A_FILE: Final = {"response_model", "retry", "budget", "use_cache", "priority", "self"}
_SHOWN_IN_MESSAGES: Final = {"role", "content", "tool_call_id"}

Key: TypeAlias = tuple[str, Any]
"""The identity of a request: its id, or the number of its line."""


class Line(NamedTuple):
    """One line of the input."""

    number: int
    id: Any
    digest: str
    item: Mapping[str, Any] | None
    problem: str | None

    @property
    def key(self) -> Key:
        """Its identity."""
        return ("index", self.number) if self.id is None else ("id", self.id)


def lines(source: Path) -> Iterator[Line]:
    """The lines of the input, one at a time; a duplicate id is a problem of the later line."""
    seen: set[Key] = set()
    try:
        with source.open("rb") as file:
            for index, raw in enumerate(file):
                text = raw.removeprefix(b"\xef\xbb\xbf") if index == 0 else raw
                if not text.strip():
                    continue
                line = _line(index, text.strip())
                if line.id is not None and line.key in seen:
                    line = line._replace(problem=f"duplicate id {line.id!r}")
                seen.add(line.key)
                yield line
    except OSError as error:
        raise unusable(source, error) from error


def _line(index: int, text: bytes) -> Line:
    digest = hashlib.sha256(text).hexdigest()[:16]
    try:
        item = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Line(index, None, digest, None, f"the line is not JSON: {error}")
    if not isinstance(item, dict):
        return Line(index, None, digest, None, f"the line is {type(item).__name__}, not an object")
    own = item.get("id")
    if own is not None and type(own) not in (str, int):
        return Line(index, None, digest, None, "the id must be a string or an integer")
    return Line(index, own, digest, item, None)


def arguments(line: Line) -> tuple[Any, dict[str, Any]]:
    """The prompt and the options of a line.

    Raises:
        RequestValidationError: the line is not a valid request.
    """
    if line.item is None or line.problem is not None:
        raise RequestValidationError(line.problem or "")
    options = {name: value for name, value in line.item.items() if name != "id"}
    forbidden = sorted(_NOT_IN_A_FILE & options.keys())
    if forbidden:
        raise RequestValidationError(f"{', '.join(forbidden)} cannot be set in a file")
    if len({"prompt", "messages"} & options.keys()) != 1:
        raise RequestValidationError("an item needs either a prompt or messages")
    if "messages" in options:
        return _messages(options.pop("messages")), options
    prompt = options.pop("prompt")
    if not isinstance(prompt, str):
        raise RequestValidationError(f"the prompt is {type(prompt).__name__}, not text")
    return prompt, options


def _messages(given: Any) -> list[Any]:
    """Messages as `complete` takes them; only fields that JSON can express are allowed."""
    if not isinstance(given, list):
        raise RequestValidationError(f"messages is {type(given).__name__}, not a list")
    for index, each in enumerate(given):
        if not isinstance(each, dict) or not isinstance(each.get("content"), str):
            raise RequestValidationError(
                f"message {index} must be an object with a role and a string content"
            )
        unknown = sorted(each.keys() - _SHOWN_IN_MESSAGES)
        if unknown:
            raise RequestValidationError(f"message {index} has unknown fields: {unknown}")
    return given


def unusable(path: Path, error: OSError) -> ConfigurationError:
    """The error of a file that cannot be read or written."""
    return ConfigurationError(f"{path}: {error.strerror or error}", hint="check the path")
