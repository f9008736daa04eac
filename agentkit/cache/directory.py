"""The directory of caches."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_VARIABLE: Final = "AGENTKIT_CACHE_DIR"


def chosen_directory(given: str | os.PathLike[str] | None = None) -> Path | None:
    """`given`, or else the directory that ``AGENTKIT_CACHE_DIR`` names; None if neither does."""
    chosen = given or os.environ.get(_VARIABLE)
    if not chosen:
        return None
    path = Path(chosen)
    with suppress(RuntimeError):  # without a home directory, "~" is an ordinary name
        path = path.expanduser()
    return path


def user_directory(given: str | os.PathLike[str] | None = None) -> Path:
    """The directory that is chosen, or else that of the platform."""
    return chosen_directory(given) or platform_directory()


def platform_directory() -> Path:
    """The cache directory of the user on this platform.

    A user without a home directory, as in a container with a random user id, gets one that cannot
    exist: caches are in memory then.
    """
    from platformdirs import user_cache_path

    try:
        return user_cache_path("agentkit")
    except RuntimeError:
        return Path(os.devnull, "agentkit")
