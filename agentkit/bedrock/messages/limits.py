"""The limits of the Converse API.

Sources: the API reference of ``Message`` and ``DocumentBlock`` (images, documents) and the
service's quotas (video, blocks). One megabyte is 1,000,000 bytes throughout.
"""

from __future__ import annotations

import warnings
from typing import Final

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


def byte_limit(kind: str, max_size_mb: float, service_mb: float) -> int:
    """The limit that the caller set, in bytes; one above the service's own gives a warning.

    Raises:
        ConfigurationError: it is not a positive number.
    """
    number("max_size_mb", max_size_mb, above=True)
    if max_size_mb > service_mb:
        warnings.warn(
            f"max_size_mb={max_size_mb:g} is above the {service_mb:g} MB that the service documents"
            f" for a {kind}: it may refuse the file",
            stacklevel=4,
        )
    return round(max_size_mb * MEGABYTE)
