"""What is wrong with a configuration, said with its place and never with a key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from agentkit.errors import ConfigurationError, MissingDependencyError

Path: TypeAlias = tuple[str | int, ...]
"""The way to a value: ``("providers", "openai", "rate_limits", 0)``."""

_LONGEST = 60
_MOST = 20
"""Problems that one message lists."""
_KEY = re.compile(r"[\w./+-]{20,}")
_KEY_START = re.compile(r"^(sk|gsk|pk|xox[abp]|AKIA|AIza)[-_\w]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what to do about it."""

    path: Path
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Places:
    """Where each value was read from: ``config/llm.yaml:7``, or a variable."""

    source: str
    lines: Mapping[Path, str]

    def of(self, path: Path) -> str:
        """The place of a value, or of the nearest one around it.

        An index may be missing in the file, where one value stands for a list of one.
        """
        for length in range(len(path), 0, -1):
            way = path[:length]
            plain = tuple(part for part in way if isinstance(part, str))
            place = self.lines.get(way) or self.lines.get(plain)
            if place is not None:
                return place
        return self.source


def refuse(problems: Iterable[Problem], places: Places) -> NoReturn:
    """Raise one `ConfigurationError` for all `problems`."""
    found = list(problems)
    if len(found) == 1:
        (only,) = found
        raise ConfigurationError(_line(only, places), hint=only.remedy)
    lines = [f"{_line(each, places)} ({each.remedy})" for each in found[:_MOST]]
    if len(found) > _MOST:
        lines.append(f"… and {len(found) - _MOST:,} more")
    raise ConfigurationError(
        f"{len(found):,} problems in the configuration\n" + "\n".join(lines),
        hint="`agentkit config schema` shows what may stand where",
    )


def missing(package: str, need: str) -> MissingDependencyError:
    """The error of an extra that is needed and not installed."""
    return MissingDependencyError(
        f"{need} needs {package}, which is not installed",
        hint="pip install 'agentkit-llms[config]'",
    )


def spelled(path: Path) -> str:
    """`path` as a reader finds it: ``providers.openai.rate_limits[0]``."""
    text = ""
    for part in path:
        shown = f"[{part}]" if isinstance(part, int) else f".{discreet(part)}"
        text += shown
    return text.lstrip(".")


def discreet(value: Any) -> str:
    """`value` for a message: cut when long, hidden when it could be a key or hold one."""
    text = value if isinstance(value, str) else repr(value)
    if not isinstance(value, str | int | float | bool | None):
        return f"a {'list' if isinstance(value, list) else 'mapping'}"
    if looks_like_a_key(text) or "@" in text or _could_be_a_key(text):
        return "(hidden)"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def looks_like_a_key(text: str) -> bool:
    """Whether `text` begins as the keys of well-known providers do."""
    return _KEY_START.match(text) is not None


def _could_be_a_key(text: str) -> bool:
    return any(
        sum(character.isdigit() for character in run) >= 4 and not run.startswith(("http", "/"))
        for run in _KEY.findall(text)
    )


def _line(problem: Problem, places: Places) -> str:
    where = spelled(problem.path)
    return f"{places.of(problem.path)}: {where + ': ' if where else ''}{problem.text}"
