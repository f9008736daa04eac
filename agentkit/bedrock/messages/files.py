"""Files for messages, read safely.

Only regular files are read. The size is checked before and after reading, so that a file that
changes meanwhile is noticed. With an allowed folder, nothing outside of it is read, whatever
symbolic links say.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from agentkit.errors import RequestValidationError


def read_file(
    path: str | os.PathLike[str],
    *,
    limit: int,
    allowed_folder: str | os.PathLike[str] | None = None,
) -> bytes:
    """The bytes of the regular file `path`.

    Args:
        path: the file; a symbolic link to a regular file is followed.
        limit: the most bytes that it may have.
        allowed_folder: if given, the file must be in it or below it, after resolving links.

    Raises:
        FileNotFoundError: there is no such file, or it is a folder.
        RequestValidationError: a device, pipe or socket; empty; too large; outside the allowed
            folder; unreadable; or changed in size while it was read.
    """
    name = os.fspath(path)
    real, folder = _resolved(name, allowed_folder)
    try:
        descriptor = os.open(real, _FILE) if folder is None else _open_below(folder, real)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refused(f"{name!r} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise FileNotFoundError(f"{name!r} is a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise _refused(f"{name!r} is not a regular file but a device, pipe or socket")
        check_size(status.st_size, limit, f"{name!r}")
        data = file.read(limit + 1)
    if len(data) != status.st_size:
        raise _refused(
            f"{name!r} changed while it was read: {status.st_size:,} bytes became {len(data):,}",
            hint="try again once the file is written",
        )
    return data


_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FILE = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # opening a named pipe would wait for its writer
    | getattr(os, "O_BINARY", 0)
    | _NO_FOLLOW
)
_OPENS_BELOW = os.open in os.supports_dir_fd
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_FOLLOW


def _open_below(folder: Path, file: Path) -> int:
    """Open `file` from `folder` down, one folder after the other.

    A folder that was replaced by a link after the path was checked is refused. Systems that cannot
    open a file relative to an open folder rely on the check.
    """
    if not _OPENS_BELOW:
        return os.open(file, _FILE)
    *folders, last = file.relative_to(folder).parts
    at = os.open(folder, _FOLDER)
    try:
        for each in folders:
            above, at = at, os.open(each, _FOLDER, dir_fd=at)
            os.close(above)
        return os.open(last, _FILE, dir_fd=at)
    finally:
        os.close(at)


def check_size(size: int, limit: int, what: str) -> None:
    """Refuse an empty file, and one of more than `limit` bytes.

    Raises:
        RequestValidationError: the size is refused.
    """
    if size == 0:
        raise _refused(f"{what} is empty (0 bytes)")
    if size > limit:
        raise _refused(
            f"{what} has {size:,} bytes; the limit is {limit:,}",
            hint="shrink it, or raise max_size_mb if the model accepts more",
        )


def _resolved(name: str, allowed_folder: str | os.PathLike[str] | None) -> tuple[Path, Path | None]:
    """The file and the allowed folder, with every link followed."""
    try:
        real = Path(name).resolve(strict=True)
        folder = None if allowed_folder is None else Path(allowed_folder).resolve(strict=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {name!r}") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise _refused(f"{name!r} cannot be resolved: {error}") from error
    if folder is not None and not real.is_relative_to(folder):
        raise _refused(
            f"{name!r} is outside the allowed folder {os.fspath(folder)!r}",
            hint="symbolic links are followed before this is checked",
        )
    if real.is_dir():
        raise FileNotFoundError(f"{name!r} is a folder, not a file")
    return real, folder


def _refused(problem: str, hint: str | None = None) -> RequestValidationError:
    return RequestValidationError(problem, validation_errors=[problem], hint=hint)
