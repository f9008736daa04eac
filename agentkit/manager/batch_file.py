"""Batches from file to file: a run that was interrupted continues where it stopped.

Input and output are JSON lines. Each result is written and synced to disk as soon as its item is
finished. A later run keeps the responses that are there and sends only the rest, so that at most
the calls that were under way when a run was killed are made again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from agentkit.errors import ConfigurationError, LLMError, RequestValidationError
from agentkit.manager.runner import arun_bounded
from agentkit.policy.validation import number, whole_number
from agentkit.types import Response

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager

PATIENCE: Final = 300.0
"""Seconds for which an item waits for models that say when they will be available again."""

_MIN_WAIT, _MAX_WAIT = 0.1, 5.0
"""Shortest and longest wait before the next try: a model may recover early."""
_NOT_IN_A_FILE: Final = {"response_model", "retry", "budget", "use_cache", "priority", "self"}
_MESSAGE_FIELDS: Final = {"role", "content", "tool_call_id"}
_RESULT_START: Final = b'{"index": '

_Key: TypeAlias = tuple[str, Any]
"""Identifies an item: by its id, or else by its line number."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run, in items.

    `total` is the number of items in the input, `kept` of those that an earlier run answered,
    `answered` and `failed` of those that this run finished, and `held` of those that wait for
    models that are unavailable at the moment.
    """

    total: int = 0
    kept: int = 0
    answered: int = 0
    failed: int = 0
    held: int = 0

    @property
    def finished(self) -> int:
        """The number of items that need nothing more in this run."""
        return self.kept + self.answered + self.failed


async def complete_file(
    manager: LLMManager,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    max_concurrency: int = 8,
    patience: float = PATIENCE,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Complete every line of `source`, and append each result to `target`.

    A line of `source` is an object with ``prompt`` (a string) or ``messages`` (objects with role
    and content), and optionally an ``id`` (a unique string or whole number), ``model``, ``tools``
    and ``deadline`` of `LLMManager.complete`, and the model's own parameters. Blank lines are
    ignored. A line of `target` has ``index`` (the line number, from 0), ``id``, ``digest`` (of the
    input line), and either the response (``text``, ``model``, ``provider``, ``finish_reason``,
    ``usage``, ``tool_calls``) or an ``error`` (``type``, ``message``, ``hint``). A failed or
    invalid item does not stop the run.

    Nor does an outage use up the file. An item that fails with a `retry_after` (an open breaker, a
    rate limit) is held back and sent again. It fails when `patience` seconds have passed since it
    started, or since the last response of the run, whichever is earlier.

    A `target` that exists is continued: answered items are skipped, failed items are sent again
    and their old lines removed, and an incomplete last line is cut off. It is locked during the
    run.

    Args:
        manager: sends the requests.
        source: the requests.
        target: the results; created if it does not exist.
        max_concurrency: the most requests at the same time (default 8).
        patience: seconds to wait for unavailable models (default 300; 0: their errors are final).
        on_progress: called at the start, and whenever the `Progress` has changed.

    Raises:
        ConfigurationError: `source` cannot be read, or `target` has something other than results,
            has results of other requests, or is in use. Nothing was sent.
    """
    whole_number("max_concurrency", max_concurrency)
    number("patience", patience)
    source, target = Path(source), Path(target)
    if not source.is_file():
        raise ConfigurationError(f"{source} is not a file", hint="check the path")
    if target.exists() and source.samefile(target):
        raise ConfigurationError("input and output are the same file", hint="name another output")
    with _open_results(target) as (file, answered):
        kept, total = _count_items(source, answered, target)
        todo = (line for line in _read_lines(source) if line.key not in answered or line.problem)
        run = _Run(manager, patience, Progress(total, kept), on_progress)
        run.report()

        def finish(line: _Line, result: dict[str, Any]) -> None:
            _append_result(file, line, result)
            run.count("failed" if "error" in result else "answered")

        try:
            await arun_bounded(run.complete, todo, finish, max_concurrency=max_concurrency)
        except OSError as error:
            hint = "free space on the disk, then run it again"
            raise ConfigurationError(f"{target}: {error}", hint=hint) from None
    return run.progress


class _Run:
    """Completes items, counts them, and waits for unavailable models."""

    def __init__(
        self,
        manager: LLMManager,
        patience: float,
        progress: Progress,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._manager = manager
        self._patience = patience
        self.progress = progress
        self._on_progress = on_progress
        self._last_response = time.monotonic()

    def report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress)

    def count(self, what: str, by: int = 1) -> None:
        """Add `by` to one of the counts, and report it."""
        self.progress = replace(self.progress, **{what: getattr(self.progress, what) + by})
        self.report()

    async def complete(self, line: _Line) -> dict[str, Any]:
        """Complete the item of `line`. Returns what the output says about it."""
        began = time.monotonic()
        while True:
            try:
                prompt, options = _arguments_of(line)
                response = await self._manager.acomplete(prompt, **options)
                result = _result_of(response)
            except Exception as error:  # noqa: BLE001 - no error of an item stops the run
                until = min(began, self._last_response) + self._patience
                if not await self._wait_after(error, until):
                    return _result_of_error(error)
            else:
                self._last_response = time.monotonic()
                return result

    async def _wait_after(self, error: Exception, until: float) -> bool:
        """Wait for the `retry_after` of `error`. False: it has none, or `until` is too soon."""
        if not isinstance(error, LLMError) or not error.retryable or error.retry_after is None:
            return False
        seconds = min(max(error.retry_after, _MIN_WAIT), _MAX_WAIT)
        if time.monotonic() + seconds > until:
            return False
        self.count("held")
        try:
            await asyncio.sleep(seconds)
        finally:
            self.count("held", -1)
        return True


class _Line(NamedTuple):
    """A line of the input."""

    number: int
    digest: str
    id: Any = None
    item: Mapping[str, Any] | None = None
    problem: str | None = None

    @property
    def key(self) -> _Key:
        return ("index", self.number) if self.id is None else ("id", self.id)


def _read_lines(source: Path) -> Iterator[_Line]:
    """The lines of the input, one by one. An id that was used before is a problem of its line."""
    seen: set[_Key] = set()
    try:
        with source.open("rb") as file:
            for index, raw in enumerate(file):
                text = raw.removeprefix(b"\xef\xbb\xbf") if index == 0 else raw
                if not text.strip():
                    continue
                line = _parse_line(index, text.strip())
                if line.id is not None and line.key in seen:
                    line = line._replace(problem=f"duplicate id {line.id!r}")
                seen.add(line.key)
                yield line
    except OSError as error:
        raise _file_error(source, error) from error


def _parse_line(index: int, text: bytes) -> _Line:
    digest = hashlib.sha256(text).hexdigest()[:16]
    try:
        item = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _Line(index, digest, problem=f"the line is not valid JSON: {error}")
    if not isinstance(item, dict):
        kind = type(item).__name__
        return _Line(index, digest, problem=f"the line must be an object, got {kind}")
    own = item.get("id")
    if own is not None and type(own) not in (str, int):
        return _Line(index, digest, problem="the id must be a string or a whole number")
    return _Line(index, digest, own, item)


def _arguments_of(line: _Line) -> tuple[Any, dict[str, Any]]:
    """The prompt and the options of a line. Raises `RequestValidationError`."""
    if line.item is None or line.problem is not None:
        raise RequestValidationError(line.problem or "")
    options = {name: value for name, value in line.item.items() if name != "id"}
    forbidden = sorted(_NOT_IN_A_FILE & options.keys())
    if forbidden:
        raise RequestValidationError(f"{', '.join(forbidden)} cannot be set in a file")
    if len({"prompt", "messages"} & options.keys()) != 1:
        raise RequestValidationError("an item needs either a prompt or messages")
    if "messages" in options:
        return _checked_messages(options.pop("messages")), options
    prompt = options.pop("prompt")
    if not isinstance(prompt, str):
        raise RequestValidationError(f"the prompt must be a string, got {type(prompt).__name__}")
    return prompt, options


def _checked_messages(messages: Any) -> list[Any]:
    """The messages as `complete` takes them; only those that JSON can represent are accepted."""
    if not isinstance(messages, list):
        raise RequestValidationError(f"messages must be a list, got {type(messages).__name__}")
    for index, each in enumerate(messages):
        if not isinstance(each, dict) or not isinstance(each.get("content"), str):
            raise RequestValidationError(
                f"message {index} must be an object with a role and a string as content"
            )
        unknown = sorted(each.keys() - _MESSAGE_FIELDS)
        if unknown:
            raise RequestValidationError(f"message {index} has unknown fields: {unknown}")
    return messages


def _count_items(source: Path, answered: Mapping[_Key, str], target: Path) -> tuple[int, int]:
    """How many items are answered already, and how many there are.

    Raises:
        ConfigurationError: an answered line has changed.
    """
    kept = total = 0
    for line in _read_lines(source):
        total += 1
        digest = answered.get(line.key)
        if digest is None or line.problem:
            continue
        if digest != line.digest:
            raise ConfigurationError(
                f"{target} has results of other requests: line {line.number + 1} of {source} has "
                "changed since",
                hint="name another output, or restore the line",
            )
        kept += 1
    return kept, total


class _Result(NamedTuple):
    """What identifies a line of the output."""

    key: _Key
    digest: str
    failed: bool


@contextmanager
def _open_results(target: Path) -> Iterator[tuple[FileIO, dict[_Key, str]]]:
    """The output, locked and ready to append to, and the digests of the items it answers."""
    try:
        file = _open_locked(target)
    except OSError as error:
        raise _file_error(target, error) from error
    try:
        answered: dict[_Key, str] = {}
        size = 0
        for key, digest, text in _read_answered(target):
            answered[key] = digest
            size += len(text) + 1
        if size != target.stat().st_size:  # a line is to be removed, or its end is missing
            try:
                file = _rewrite_answered(target, file)
            except OSError as error:
                raise _file_error(target, error) from error
        yield file, answered
    finally:
        file.close()


def _read_answered(target: Path) -> Iterator[tuple[_Key, str, bytes]]:
    """Key, digest and text of each answered item; failed items and a torn last line are left out.

    Raises:
        ConfigurationError: a line is not a result, so that the file belongs to something else.
    """
    torn = 0
    with target.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removesuffix(b"\n")
            result = _parse_result(text)
            if torn or (result is None and not text.startswith(_RESULT_START[: len(text)])):
                raise ConfigurationError(
                    f"{target} is not an output of a batch: line {torn or number} is not a result",
                    hint="name another output",
                )
            if result is None:
                torn = number
            elif not result.failed:
                yield result.key, result.digest, text


def _parse_result(text: bytes) -> _Result | None:
    """The result in a line of the output; None if it is not one."""
    try:
        fields = json.loads(text)
        key = ("index", fields["index"]) if fields["id"] is None else ("id", fields["id"])
        return _Result(key, str(fields["digest"]), "error" in fields)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _append_result(file: FileIO, line: _Line, result: Mapping[str, Any]) -> None:
    """Write one line and sync it to disk, or leave the file unchanged."""
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
    """Write all of `data`: a file without a buffer may write only a part at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _rewrite_answered(target: Path, old: FileIO) -> FileIO:
    """Replace `target`, in one step, with a locked file that has the answered items only."""
    draft = target.with_name(target.name + ".new")
    file = draft.open("a+b", buffering=0)
    _lock(file, target)
    file.truncate(0)
    for _, _, text in _read_answered(target):
        _write(file, text + b"\n")
    os.fsync(file.fileno())
    draft.replace(target)
    old.close()
    return file


def _open_locked(target: Path) -> FileIO:
    """Open and lock `target`, again if another run replaced the file before it was locked."""
    while True:
        file = target.open("a+b", buffering=0)
        _lock(file, target)
        if os.path.samestat(os.fstat(file.fileno()), target.stat()):
            file.seek(0)
            return file
        file.close()


def _lock(file: FileIO, target: Path) -> None:
    """Lock `file` for this process, if the system has such locks."""
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


def _result_of(response: Response[Any]) -> dict[str, Any]:
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


def _result_of_error(error: Exception) -> dict[str, Any]:
    message = error.message if isinstance(error, LLMError) else str(error)
    hint = error.hint if isinstance(error, LLMError) else None
    return {"error": {"type": type(error).__name__, "message": message, "hint": hint}}


def _file_error(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{path}: {error.strerror or error}", hint="check the path")
