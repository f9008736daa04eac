"""JSON inside the text of a response: without a Markdown fence, or anywhere in the prose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

MAX_OPENINGS: Final = 64
"""The number of brackets that are tried as the start of the JSON."""
NOT_JSON: Final = (ValueError, TypeError)
"""What pydantic's parser raises; a TypeError for a lone surrogate, which UTF-8 cannot encode."""
OPENING: Final = re.compile(r"[{\[]")
_FENCE: Final = re.compile(r"```[ \t]*(?:json)?[ \t]*\r?\n", re.IGNORECASE)

_decode = json.JSONDecoder().raw_decode


def unfenced(text: str) -> str:
    """`text` without surrounding white space, byte order mark and Markdown code fence."""
    stripped = text.strip().removeprefix("\ufeff").strip()
    if stripped.startswith("```") and stripped.endswith("```") and "\n" in stripped:
        return stripped[stripped.index("\n") + 1 : -3].strip()
    return stripped


def values_in(text: str) -> Iterator[str]:
    """The complete JSON objects and arrays in `text`, in order; those after a fence first.

    None of them is part of another, and the search ends at a truncated one: a part of an answer is
    not the answer.
    """
    fence = _FENCE.search(text)
    for start in (fence.end(), 0) if fence else (0,):
        yield from _values_from(text, start)


def _values_from(text: str, position: int) -> Iterator[str]:
    from pydantic_core import from_json

    for _ in range(MAX_OPENINGS):
        opening = OPENING.search(text, position)
        if opening is None:
            return
        start = opening.start()
        try:
            _, position = _decode(text, start)
        except (ValueError, RecursionError):
            try:
                from_json(text[start:], allow_partial=True)
            except NOT_JSON:
                position = start + 1
            else:
                return
        else:
            yield text[start:position]
