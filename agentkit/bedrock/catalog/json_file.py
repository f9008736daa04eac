"""Small JSON files that several processes share: replaced atomically, never trusted."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_logger = logging.getLogger(__name__)
_LARGEST: Final = 32_000_000
"""Bytes; a larger file was not written here."""


class JsonFile:
    """One JSON file. Errors are logged and never raised, as a cache file can be made again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Any:
        """The content; None if the file is absent, unreadable, too large or invalid."""
        try:
            with self.path.open("rb") as file:
                text = file.read(_LARGEST + 1)
            return json.loads(text if len(text) <= _LARGEST else "too large")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            _logger.warning("%s is not used: %s", self.path, error)
            return None

    def write(self, value: Any) -> bool:
        """Replace the file atomically, readable by its owner only; False if that failed."""
        temporary = None
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(value, file, ensure_ascii=False)
            Path(temporary).replace(self.path)
        except OSError as error:
            _logger.warning("%s cannot be written: %s", self.path, error)
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            return False
        return True

    def delete(self) -> None:
        """Remove the file, if possible."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the file against other processes, where the system supports it.

        The kernel releases the lock of a process that dies.
        """
        try:
            import fcntl

            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(
                self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except (ImportError, OSError):
            yield
            return
        try:
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
