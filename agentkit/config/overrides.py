"""``AGENTKIT_…`` variables, which override values of the file.

``AGENTKIT_DEADLINE=60`` sets ``deadline``; ``AGENTKIT_PROVIDERS__OPENAI__TIMEOUT=20`` sets the
``timeout`` of the provider ``openai``. A value is read as in the file, with commas between the
items of a list. An empty variable counts as unset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentkit.config.problems import Path
from agentkit.config.schema import File
from agentkit.config.yaml_text import parse_scalar

PREFIX: Final = "AGENTKIT_"
SEPARATOR: Final = "__"
NOT_OVERRIDES: Final = (
    "AGENTKIT_CONFIG",
    "AGENTKIT_CACHE",
    "AGENTKIT_CACHE_DIR",
    "AGENTKIT_TRACEBACK",
)
"""Variables with the same prefix and a meaning of their own."""

FIELDS: Final = tuple(File.model_fields)
"""The top-level fields of a file, which a variable can set, or set a part of."""

_LISTS_OF_NAMES: Final = ("fallback", "models")
"""Here a number is a name, too."""


def read_overrides(environ: Mapping[str, str]) -> dict[Path, tuple[Any, str]]:
    """The value that each variable sets and the variable's name, by path, outer paths first."""
    found: dict[Path, tuple[Any, str]] = {}
    for name, text in environ.items():
        if is_override(name) and text.strip():
            path = tuple(name.upper().removeprefix(PREFIX).lower().split(SEPARATOR))
            found[path] = (_parse(path, text), name)
    return dict(sorted(found.items(), key=lambda item: len(item[0])))


def is_override(name: str) -> bool:
    """Whether the variable `name` sets a value that a file can contain."""
    upper = name.upper()
    if not upper.startswith(PREFIX) or upper in NOT_OVERRIDES:
        return False
    return upper.removeprefix(PREFIX).partition(SEPARATOR)[0].lower() in FIELDS


def _parse(path: Path, text: str) -> Any:
    if path[-1] == "api_keys":
        return text
    items = [item.strip() for item in text.split(",")]
    if path[-1] in _LISTS_OF_NAMES:
        return items
    return [parse_scalar(item) for item in items] if len(items) > 1 else parse_scalar(text)
