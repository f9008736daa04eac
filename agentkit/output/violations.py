"""Violations of a type, one readable line each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

MAX_VIOLATIONS: Final = 20
"""How many violations an error lists; the rest is counted."""
_MAX_LENGTH: Final = 300
"""Characters of one violation."""
_MISSING: Final = frozenset({"missing", "union_tag_not_found"})
_UNKNOWN: Final = object()


def violations(error: ValidationError, document: Any = _UNKNOWN) -> list[str]:
    """One line per violation: its path (`$.items[0].price`) and what is wrong.

    At most `MAX_VIOLATIONS` lines, and one that counts the rest. With the `document` that was
    validated, a path contains only keys of the document; the members of unions that were tried
    follow the message.
    """
    found = error.errors(include_input=False, include_url=False)
    lines = [truncated(_line(each, document), _MAX_LENGTH) for each in found[:MAX_VIOLATIONS]]
    if len(found) > MAX_VIOLATIONS:
        lines.append(f"and {len(found) - MAX_VIOLATIONS} more")
    return lines


def _line(violation: ErrorDetails, document: Any) -> str:
    path, tried, here = "$", [], document
    location = list(violation["loc"])
    tag = violation.get("ctx", {}).get("discriminator", "").strip("'")
    if tag.isidentifier():  # reported for the object, caused by its tag
        location.append(tag)
    for index, part in enumerate(location):
        missing = violation["type"] in _MISSING and index == len(location) - 1
        if isinstance(here, dict) and str(part) in here:
            here = here[str(part)]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
            path += f"[{part}]"
            continue
        elif not missing and document is not _UNKNOWN:
            tried.append(str(part))
            continue
        path += _step(part, document is _UNKNOWN)
    return f"{path}: {violation['msg']}" + (f" (as {' '.join(tried)})" if tried else "")


def _step(part: int | str, index: bool) -> str:
    if isinstance(part, int) and index:
        return f"[{part}]"
    name = str(part)
    return f".{name}" if name.replace("-", "_").isidentifier() else f"[{json.dumps(name)}]"


def truncated(text: str, length: int) -> str:
    """`text`, cut to `length` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
