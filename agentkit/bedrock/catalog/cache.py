"""The bundled catalogue, and the cache of the catalogue that AWS returned last.

The bundle ships with the package. The cache is a file that processes share, or in memory.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any, Final

from agentkit._fork import fork_safe_lock
from agentkit._version import __version__
from agentkit.bedrock.catalog.json_file import JsonFile
from agentkit.bedrock.catalog.models import UnifiedModelInfo
from agentkit.cache.directory import user_directory
from agentkit.errors import BundledDataError

_FORMAT: Final = 1


class CacheMode(StrEnum):
    """The location of the catalogue cache: a file, the memory of this process, or none."""

    FILE = "file"
    MEMORY = "memory"
    NONE = "none"


class CatalogSource(StrEnum):
    """The source of the catalogue's data."""

    API = "API"
    CACHE = "CACHE"
    BUNDLED = "BUNDLED"

    @classmethod
    def _missing_(cls, value: object) -> CatalogSource | None:
        upper = str(value).upper()
        return next((one for one in cls if one.value == upper), None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The models at one moment.

    Attributes:
        models: every model.
        source: where they came from.
        time: when (UTC).
        regions: the Regions that answered, when AWS was asked.
        version: the bundle's version, when it is the bundle.
    """

    models: tuple[UnifiedModelInfo, ...]
    source: CatalogSource
    time: dt.datetime
    regions: tuple[str, ...] = ()
    version: str | None = None


def bundled() -> Snapshot:
    """The catalogue that ships with the package.

    Raises:
        BundledDataError: it is missing or damaged.
    """
    try:
        text = files("agentkit.bedrock.catalog").joinpath("data.json").read_text(encoding="utf-8")
        data = json.loads(text)
        models = tuple(UnifiedModelInfo.from_dict(row) for row in data["models"])
        time = dt.datetime.fromisoformat(data["generated"])
        return Snapshot(models, CatalogSource.BUNDLED, time, version=data["version"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BundledDataError(
            f"the bundled model catalogue is damaged: {error}",
            hint="install agentkit-llms again",
        ) from error


class FileCache:
    """The catalogue cache in a file.

    A file is not used if it is damaged or expired, or if another format or minor version of the
    package wrote it.

    Args:
        directory: its folder (default: ``AGENTKIT_CACHE_DIR``, or else the user's cache directory).
        max_age: seconds after which it is expired.
    """

    def __init__(self, directory: str | os.PathLike[str] | None, max_age: float) -> None:
        self.path = user_directory(directory) / "bedrock-catalog-v1.json"
        self._max_age = max_age
        self._file = JsonFile(self.path)

    def load(self, now: dt.datetime, *, any_age: bool = False) -> Snapshot | None:
        """The stored models, or None."""
        data = self._file.read()
        try:
            if data is None or (data["format"], data["package"]) != (_FORMAT, _minor()):
                return None
            time = dt.datetime.fromisoformat(data["time"])
            age = (now - time).total_seconds()
            if not any_age and not 0 <= age < self._max_age:
                return None
            models = tuple(UnifiedModelInfo.from_dict(row) for row in data["models"])
            return Snapshot(models, CatalogSource.CACHE, time, tuple(data["regions"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def save(self, snapshot: Snapshot) -> None:
        """Store `snapshot` for this and other processes; an error is logged, not raised."""
        self._file.write(
            {
                "format": _FORMAT,
                "package": _minor(),
                "time": snapshot.time.isoformat(),
                "regions": list(snapshot.regions),
                "models": [model.to_dict() for model in snapshot.models],
            }
        )

    def clear(self) -> None:
        """Delete the file."""
        self._file.delete()

    def locked(self) -> Any:
        """A context in which no other process fetches the same file from AWS."""
        return self._file.locked()


class MemoryCache:
    """The catalogue cache in this process, shared by every catalogue with the same `key`."""

    _lock = fork_safe_lock()
    _kept: dict[Hashable, Snapshot] = {}  # noqa: RUF012 - shared on purpose

    def __init__(self, key: Hashable, max_age: float) -> None:
        self._key = key
        self._max_age = max_age

    def load(self, now: dt.datetime, *, any_age: bool = False) -> Snapshot | None:
        """The stored models, or None."""
        with self._lock:
            kept = self._kept.get(self._key)
        if kept is None:
            return None
        fresh = any_age or 0 <= (now - kept.time).total_seconds() < self._max_age
        return (
            Snapshot(kept.models, CatalogSource.CACHE, kept.time, kept.regions) if fresh else None
        )

    def save(self, snapshot: Snapshot) -> None:
        """Store `snapshot` for this process."""
        with self._lock:
            self._kept[self._key] = snapshot

    def clear(self) -> None:
        """Remove the stored models."""
        with self._lock:
            self._kept.pop(self._key, None)

    def locked(self) -> Any:
        """A context without a lock, as no other process shares the cache."""
        return contextlib.nullcontext()


def _minor() -> str:
    return ".".join(__version__.split(".")[:2])
