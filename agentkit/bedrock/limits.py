"""What the Converse API accepts at most, and the names it accepts for documents.

Sources: the API reference of ``Message`` and ``DocumentBlock`` (images, documents, names) and the
service's quotas (video, blocks). One megabyte is 1,000,000 bytes throughout.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from typing import Final

from agentkit.errors import RequestValidationError
from agentkit.policy.validation import number

MEGABYTE: Final = 1_000_000
IMAGE_MB: Final = 3.75
DOCUMENT_MB: Final = 4.5
VIDEO_MB: Final = 100.0
MAX_BLOCKS: Final = 100
"""Content blocks of one message."""
MAX_OF_KIND: Final = {"image": 20, "document": 5, "video": 1}
"""Blocks of a kind in one message."""
MAX_CACHE_POINTS: Final = 4
"""Cache points in one request: system, tools and messages together."""
_NAME_LENGTH: Final = 200


def byte_limit(kind: str, max_size_mb: float, service_mb: float) -> int:
    """The limit in bytes that the caller set; above the service's own there is a warning.

    Raises:
        ConfigurationError: not a positive number.
    """
    number("max_size_mb", max_size_mb, above=True)
    if max_size_mb > service_mb:
        warnings.warn(
            f"max_size_mb={max_size_mb:g} is above the {service_mb:g} MB that the service documents"
            f" for a {kind}: it may refuse what is accepted here",
            stacklevel=3,
        )
    return round(max_size_mb * MEGABYTE)


def document_name(name: str, taken: frozenset[str] | set[str] = frozenset()) -> str:
    """`name` as the service accepts it, and different from the `taken` ones.

    The rule: letters, digits, single spaces, hyphens, parentheses and square brackets, at most 200
    characters. Accents are dropped, other characters become a space; what leaves nothing becomes
    ``Document``. A taken name gets a number: ``report (2)``.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    clean = " ".join(re.sub(r"[^A-Za-z0-9\-()\[\]]", " ", plain).split())
    clean = clean[:_NAME_LENGTH].strip() or "Document"
    free, count = clean, 1
    while free in taken:
        count += 1
        suffix = f" ({count})"
        free = clean[: _NAME_LENGTH - len(suffix)].rstrip() + suffix
    return free


def invalid(problem: str, hint: str | None = None) -> RequestValidationError:
    """The error for one violation found before anything is sent."""
    return RequestValidationError(problem, validation_errors=[problem], hint=hint)
