"""The output of a batch: one result per line, each synced to disk before the next."""

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
    """The output, locked and ready to append to, and the digests of its answers."""
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
        if (
            size != target.stat().st_size
        ):  # there are failed requests, or the last line is incomplete
            try:
                file = _cleaned(target, file)
            except OSError as error:
                raise unusable(target, error) from error
        yield file, answered
    finally:
        file.close()


def _answers(target: Path) -> Iterator[tuple[Key, str, bytes]]:
    """Key, digest and text of each answer; failed requests and an incomplete end are left out.

    Raises:
        ConfigurationError: a line is not a result; the file is not an output of a batch.
    """
    torn = 0
    with target.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removesuffix(b"\n")
            result = _result_in(text)
            if torn or (result is None and not text.startswith(_BEGINNING[: len(text)])):
                raise ConfigurationError(
                    f"{target} is not an output of a batch: line {torn or number} is not a result",
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
    """The result in a line of the output; None if it is not a result."""
    try:
        fields = json.loads(text)
        key = ("index", fields["index"]) if fields["id"] is None else ("id", fields["id"])
        return _Result(key, str(fields["digest"]), "error" in fields)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def append(file: FileIO, line: Line, result: Mapping[str, Any]) -> None:
    """Write one line and sync it to disk; a line that cannot be written is removed again."""
    fields = {"index": line.number, "id": line.id, "digest": line.digest, **result}
    text = json.dumps(fields, ensure_ascii=False, default=str) + "\n"
    data = text.encode("utf-8", "backslashreplace")  # a lone surrogate, escaped as in JSON
    size = os.fstat(file.fileno()).st_size
    try:
        _write(file, data)
        os.fsync(file.fileno())
    except OSError:
        file.truncate(size)
        raise


def _write(file: FileIO, data: bytes) -> None:
    """Write all of `data`: an unbuffered file may accept less at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _cleaned(target: Path, old: FileIO) -> FileIO:
    """`target` with only its answers, replaced in one step by a file that is already locked."""
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
    """`target`, open and locked; never a file that was replaced before it was locked."""
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
    """Lock the file for this process, if the system supports such locks."""
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
    """The fields of a response in the output."""
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
    """The fields of an error in the output."""
    message = error.message if isinstance(error, LLMError) else str(error)
    hint = error.hint if isinstance(error, LLMError) else None
    return {"error": {"type": type(error).__name__, "message": message, "hint": hint}}
