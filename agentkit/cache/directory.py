"""The directory of caches."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def user_directory(given: str | os.PathLike[str] | None = None) -> Path:
    """`given`, or else the cache directory of the user on this platform.

    A user without a home directory, as in a container with a random user id, gets one that cannot
    exist: caches are in memory then.
    """
    if given:
        path = Path(given)
        with suppress(RuntimeError):  # without a home directory, "~" is an ordinary name
            path = path.expanduser()
        return path
    from platformdirs import user_cache_path

    try:
        return user_cache_path("agentkit")
    except RuntimeError:
        return Path(os.devnull, "agentkit")
