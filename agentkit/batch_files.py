"""A file of requests becomes a file of answers, and an interrupted run goes on where it was.

Both are JSON lines. Each item is written, whole and synced to disk, the moment it is finished; a
run that begins again keeps what was answered and asks only the rest. At most the calls that were
under way when a run was killed are made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from agentkit.errors import ConfigurationError, LLMError, RequestValidationError
from agentkit.policy.checks import whole
from agentkit.types import Response

if TYPE_CHECKING:
    from agentkit.manager import LLMManager

_NOT_IN_A_FILE: Final = {"response_model", "retry", "budget", "use_cache", "priority", "self"}
_SHOWN_IN_MESSAGES: Final = {"role", "content", "tool_call_id"}
_BEGINNING: Final = b'{"index": '


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in items.

    `total` counts the input, `kept` what an earlier run had answered, `answered` and `failed`
    what this one did.
    """

    total: int = 0
    kept: int = 0
    answered: int = 0
    failed: int = 0

    @property
    def finished(self) -> int:
        """How many items need nothing more in this run."""
        return self.kept + self.answered + self.failed


Key: TypeAlias = tuple[str, Any]


class _Line(NamedTuple):
    """One line of the input."""

    number: int
    id: Any
    digest: str
    item: Mapping[str, Any] | None
    problem: str | None

    @property
    def key(self) -> Key:
        return ("index", self.number) if self.id is None else ("id", self.id)


async def complete_file(
    manager: LLMManager,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    max_concurrency: int = 8,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Complete every line of `source` and append each result to `target`; failures do not stop it.

    A line of `source` is an object with ``prompt`` (text) or ``messages`` (objects of role and
    content), an ``id`` (text or whole number, its own; optional), ``model``, ``tools`` and
    ``deadline`` of `LLMManager.complete`, and the model's own parameters. Blank lines are passed
    over. A line of `target` holds ``index`` (from 0, by line), ``id``, ``digest`` (of the input
    line) and either the answer (``text``, ``model``, ``provider``, ``finish_reason``, ``usage``,
    ``tool_calls``) or ``error`` (``type``, ``message``, ``hint``). What cannot be sent is such an
    error, too.

    A `target` that exists is continued: answered items are skipped, failed ones are asked again
    (their lines go), a torn last line is cut off. It is locked while the run lasts.

    Args:
        manager: asks.
        source: the requests.
        target: the results; made if it is not there.
        max_concurrency: most requests under way at once (default 8).
        on_progress: called at the start and after each item.

    Raises:
        ConfigurationError: `source` cannot be read, `target` is no file of such results, belongs
            to other requests or is in use. Nothing is sent then.
    """
    import asyncio

    whole("max_concurrency", max_concurrency)
    source, target = Path(source), Path(target)
    if not source.is_file():
        raise ConfigurationError(f"{source} is no file", hint="check the path")
    if target.exists() and source.samefile(target):
        raise ConfigurationError("input and output are one file", hint="name another output")
    with _results(target) as (results, answered):
        kept, total = _compare(source, answered, target)
        progress = Progress(total, kept)
        tell = on_progress or _say_nothing
        tell(progress)
        todo = (line for line in _lines(source) if line.key not in answered or line.problem)

        async def work() -> None:
            nonlocal progress
            for line in todo:
                result = await _result(manager, line)
                _append(results, line, result)
                if "error" in result:
                    progress = replace(progress, failed=progress.failed + 1)
                else:
                    progress = replace(progress, answered=progress.answered + 1)
                tell(progress)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(max_concurrency, total - kept)):
                    group.create_task(work())
        except* OSError as errors:
            first = errors.exceptions[0]
            raise ConfigurationError(f"{target}: {first}", hint="make room, then go on") from None
    return progress


def _say_nothing(progress: Progress) -> None:
    """Nobody wants to know."""


async def _result(manager: LLMManager, line: _Line) -> dict[str, Any]:
    try:
        prompt, options = _arguments(line)
        return _answer(await manager.acomplete(prompt, **options))
    except Exception as error:  # noqa: BLE001 - whatever a line brings about is its own error
        return {"error": _told(error)}


def _arguments(line: _Line) -> tuple[Any, dict[str, Any]]:
    """The prompt and the options of a line. Raises `RequestValidationError`."""
    if line.item is None or line.problem is not None:
        raise RequestValidationError(line.problem or "")
    options = {name: value for name, value in line.item.items() if name != "id"}
    forbidden = sorted(_NOT_IN_A_FILE & options.keys())
    if forbidden:
        raise RequestValidationError(f"{', '.join(forbidden)} cannot be given in a file")
    if len({"prompt", "messages"} & options.keys()) != 1:
        raise RequestValidationError("an item needs either a prompt or messages")
    if "messages" in options:
        return _messages(options.pop("messages")), options
    prompt = options.pop("prompt")
    if not isinstance(prompt, str):
        raise RequestValidationError(f"the prompt is {type(prompt).__name__}, not text")
    return prompt, options


def _messages(given: Any) -> list[Any]:
    """Messages as `complete` takes them; what JSON cannot say of a message is refused."""
    if not isinstance(given, list):
        raise RequestValidationError(f"messages is {type(given).__name__}, not a list")
    for index, each in enumerate(given):
        if not isinstance(each, dict) or not isinstance(each.get("content"), str):
            raise RequestValidationError(f"message {index} is no object of role and text content")
        unknown = sorted(each.keys() - _SHOWN_IN_MESSAGES)
        if unknown:
            raise RequestValidationError(f"message {index} has unknown fields: {unknown}")
    return given


def _answer(response: Response[Any]) -> dict[str, Any]:
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


def _told(error: Exception) -> dict[str, Any]:
    message = error.message if isinstance(error, LLMError) else str(error)
    hint = error.hint if isinstance(error, LLMError) else None
    return {"type": type(error).__name__, "message": message, "hint": hint}


def _lines(source: Path) -> Iterator[_Line]:
    """The lines of the input, one by one; an id that came before is a problem of the later."""
    seen: set[Key] = set()
    try:
        with source.open("rb") as file:
            for index, raw in enumerate(file):
                text = raw.removeprefix(b"\xef\xbb\xbf") if index == 0 else raw
                if not text.strip():
                    continue
                line = _line(index, text.strip())
                if line.id is not None and line.key in seen:
                    line = line._replace(problem=f"the id {line.id!r} stands further up already")
                seen.add(line.key)
                yield line
    except OSError as error:
        raise _unusable(source, error) from error


def _line(index: int, text: bytes) -> _Line:
    digest = hashlib.sha256(text).hexdigest()[:16]
    try:
        item = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _Line(index, None, digest, None, f"the line is no JSON: {error}")
    if not isinstance(item, dict):
        return _Line(index, None, digest, None, f"the line is {type(item).__name__}, no object")
    own = item.get("id")
    if own is not None and type(own) not in (str, int):
        return _Line(index, None, digest, None, "the id is neither text nor a whole number")
    return _Line(index, own, digest, item, None)


def _compare(source: Path, answered: Mapping[Key, str], target: Path) -> tuple[int, int]:
    """How many items are answered already, of how many. Raises `ConfigurationError`."""
    kept = total = 0
    for line in _lines(source):
        total += 1
        known = answered.get(line.key)
        if known is None or line.problem:
            continue
        if known != line.digest:
            raise ConfigurationError(
                f"{target} answers other requests: line {line.number + 1} of {source} has changed",
                hint="name another output, or give the line as it was",
            )
        kept += 1
    return kept, total


@contextmanager
def _results(target: Path) -> Iterator[tuple[FileIO, dict[Key, str]]]:
    """The output, locked and ready to append to, and the digests of the answers it holds."""
    try:
        file = _locked(target)
    except OSError as error:
        raise _unusable(target, error) from error
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
                raise _unusable(target, error) from error
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


def _append(file: FileIO, line: _Line, result: Mapping[str, Any]) -> None:
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


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{path}: {error.strerror or error}", hint="check the path")
