"""Errors in a configuration: each names its file and line, and none shows a key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from agentkit.errors import ConfigurationError

Path: TypeAlias = tuple[str | int, ...]
"""The way to a value: ``("providers", "openai", "rate_limits", 0)``."""

_MAX_LENGTH = 60
"""Characters of a value that a message quotes."""
_MAX_LISTED = 20
"""Problems that one message lists."""
_KEY = re.compile(r"[\w./+-]{20,}")
_KEY_PREFIX = re.compile(r"^(sk|gsk|pk|xox[abp]|AKIA|AIza)[-_\w]")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, at which value, and how to fix it."""

    path: Path
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Locations:
    """Where each value comes from: ``config/llm.yaml:7``, or a variable."""

    source: str
    lines: Mapping[Path, str]

    def of(self, path: Path) -> str:
        """The location of a value, or of the nearest value around it.

        The file may not contain an index of `path`: a single value can be written for a list.
        """
        for length in range(len(path), 0, -1):
            nearest = path[:length]
            without_indexes = tuple(part for part in nearest if isinstance(part, str))
            location = self.lines.get(nearest) or self.lines.get(without_indexes)
            if location is not None:
                return location
        return self.source


def raise_problems(problems: Iterable[Problem], locations: Locations) -> NoReturn:
    """Raise one `ConfigurationError` that lists all `problems`."""
    found = list(problems)
    if len(found) == 1:
        (only,) = found
        raise ConfigurationError(_line(only, locations), hint=only.remedy)
    lines = [f"{_line(each, locations)} ({each.remedy})" for each in found[:_MAX_LISTED]]
    if len(found) > _MAX_LISTED:
        lines.append(f"… and {len(found) - _MAX_LISTED:,} more")
    raise ConfigurationError(
        f"{len(found):,} problems in the configuration\n" + "\n".join(lines),
        hint="`agentkit config schema` prints every field and its type",
    )


def format_path(path: Path) -> str:
    """`path` as in ``providers.openai.rate_limits[0]``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{redact(part)}" for part in path)
    return "".join(parts).lstrip(".")


def redact(value: Any) -> str:
    """`value` for a message: shortened if long, hidden if it could be or contain a key."""
    if not isinstance(value, str | int | float | bool | None):
        return f"a {'list' if isinstance(value, list) else 'mapping'}"
    text = value if isinstance(value, str) else repr(value)
    if looks_like_key(text) or "@" in text or _may_contain_key(text):
        return "(hidden)"
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"


def looks_like_key(text: str) -> bool:
    """Whether `text` starts like a key of a well-known provider."""
    return _KEY_PREFIX.match(text) is not None


def _may_contain_key(text: str) -> bool:
    return any(
        sum(character.isdigit() for character in run) >= 4 and not run.startswith(("http", "/"))
        for run in _KEY.findall(text)
    )


def _line(problem: Problem, locations: Locations) -> str:
    path = format_path(problem.path)
    return f"{locations.of(problem.path)}: {path + ': ' if path else ''}{problem.text}"
