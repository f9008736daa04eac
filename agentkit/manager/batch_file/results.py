"""The output of a batch: a result a line, each on the disk before the next counts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from agentkit.errors import ConfigurationError, LLMError
from agentkit.manager.batch_file.lines import Key, Line, unusable
from agentkit.types import Response

_BEGINNING: Final = b'{"index": '


@contextmanager
def opened(target: Path) -> Iterator[tuple[FileIO, dict[Key, str]]]:
    """The output, locked and ready to append to, and the digests of the answers it holds."""
    try:
        file = _locked(target)
    except OSError as error:
        raise unusable(target, error) from error
    try:
        answered: dict[Key, str] = {}
        size = 0
        for key, digest, text in _answers(target):
            answered[key] = digest
            size += len(text) + 1
        if size != target.stat().st_size:  # something is not to be kept, or lacks its line end
            try:
                file = _cleaned(target, file)
            except OSError as error:
                raise unusable(target, error) from error
        yield file, answered
    finally:
        file.close()


def _answers(target: Path) -> Iterator[tuple[Key, str, bytes]]:
    """Key, digest and text of each answer in an output; failed items and a torn end are left out.

    Raises:
        ConfigurationError: a line is no such result; the file is somebody else's.
    """
    torn = 0
    with target.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removesuffix(b"\n")
            result = _result_in(text)
            if torn or (result is None and not text.startswith(_BEGINNING[: len(text)])):
                raise ConfigurationError(
                    f"{target} is no output of a batch: line {torn or number} is something else",
                    hint="name another output",
                )
            if result is None:
                torn = number
            elif not result.failed:
                yield result.key, result.digest, text


class _Result(NamedTuple):
    key: Key
    digest: str
    failed: bool


def _result_in(text: bytes) -> _Result | None:
    """What an output line is about; None where it is none."""
    try:
        told = json.loads(text)
        key = ("index", told["index"]) if told["id"] is None else ("id", told["id"])
        return _Result(key, str(told["digest"]), "error" in told)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def append(file: FileIO, line: Line, result: Mapping[str, Any]) -> None:
    """Write one line and see it on the disk; what cannot be written whole leaves nothing."""
    told = {"index": line.number, "id": line.id, "digest": line.digest, **result}
    text = json.dumps(told, ensure_ascii=False, default=str) + "\n"
    data = text.encode("utf-8", "backslashreplace")  # half a character, as JSON escapes it
    size = os.fstat(file.fileno()).st_size
    try:
        _write(file, data)
        os.fsync(file.fileno())
    except OSError:
        file.truncate(size)
        raise


def _write(file: FileIO, data: bytes) -> None:
    """All of it: a file without a buffer may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _cleaned(target: Path, old: FileIO) -> FileIO:
    """`target` with its answers alone, changed in one step; the new file is locked before that."""
    draft = target.with_name(target.name + ".new")
    file = _open(draft)
    _lock(file, target)
    file.truncate(0)
    for _, _, text in _answers(target):
        _write(file, text + b"\n")
    os.fsync(file.fileno())
    draft.replace(target)
    old.close()
    return file


def _locked(target: Path) -> FileIO:
    """`target`, open and locked; never a file that was replaced before its lock came."""
    while True:
        file = _open(target)
        _lock(file, target)
        if os.path.samestat(os.fstat(file.fileno()), target.stat()):
            file.seek(0)
            return file
        file.close()


def _open(path: Path) -> FileIO:
    return path.open("a+b", buffering=0)


def _lock(file: FileIO, target: Path) -> None:
    """Lock it for this process; where the system has no such locks nothing happens."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigurationError(
            f"{target} is being written by another run", hint="wait for it, or name another output"
        ) from None


def answer_of(response: Response[Any]) -> dict[str, Any]:
    """What the output keeps of a response."""
    return {
        "text": response.text,
        "model": response.model,
        "provider": response.provider,
        "finish_reason": response.finish_reason,
        "usage": asdict(response.usage),
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": dict(call.arguments)}
            for call in response.tool_calls
        ],
    }


def error_of(error: Exception) -> dict[str, Any]:
    """What the output says in place of an answer."""
    message = error.message if isinstance(error, LLMError) else str(error)
    hint = error.hint if isinstance(error, LLMError) else None
    told = {"type": type(error).__name__, "message": message, "hint": hint}
    return {"error": told}
