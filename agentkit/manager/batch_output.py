"""The output of a batch from file to file: JSON lines, each of which is the result of an item.

A line counts as soon as it is synced to disk, and the last line of an item is the one that counts.
So a run may be killed at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from agentkit.errors import ConfigurationError
from agentkit.manager.batch_input import Key, Line, file_error
from agentkit.types.json_values import UNREADABLE
from agentkit.types.ledger import Ledger

_RESULT_START: Final = b'{"index": '
_fcntl: Any = None
"""The module, whose locks Windows lacks: there, outputs are not locked."""
with suppress(ImportError):
    import fcntl as _fcntl


@dataclass(frozen=True, slots=True)
class Spent:
    """What attempts used: tokens, and US dollars, which are None if a price is unknown."""

    tokens: int = 0
    usd: float | None = 0.0
    estimated: bool = False

    def __add__(self, other: Spent) -> Spent:
        """The sum; unknown if one of them is."""
        known = self.usd is not None and other.usd is not None
        usd = (self.usd or 0.0) + (other.usd or 0.0) if known else None
        return Spent(self.tokens + other.tokens, usd, self.estimated or other.estimated)


def spent_on(ledger: Ledger | None) -> Spent:
    """What the attempts in `ledger` used."""
    total = Spent()
    for entry in ledger.sent if ledger is not None else ():
        tokens = entry.input_tokens + entry.output_tokens
        total += Spent(tokens, entry.cost, entry.cost_estimated)
    return total


class _Result(NamedTuple):
    """A line of the output."""

    key: Key
    digest: str
    failed: bool
    spent: Spent


class Results:
    """The results in a file, and what was spent on them.

    Attributes:
        answered: the digest of the input line of each answered item.
        failed: what was spent on each item that failed.
        spent: what was spent on all of them.
    """

    def __init__(self, target: Path) -> None:
        """Read `target`. An incomplete last line does not count.

        Raises:
            ConfigurationError: a line is not a result, so that the file belongs to something else.
        """
        self.target = target
        self.answered: dict[Key, str] = {}
        self.failed: dict[Key, Spent] = {}
        self.spent = Spent()
        self.size = 0
        """Of the complete lines, in bytes."""
        self.has_last_end = True
        """Whether the last complete line has its line end."""
        for result, text in _read(target):
            self._count(result)
            self.size += len(text)
            self.has_last_end = text.endswith(b"\n")

    def _count(self, result: _Result) -> None:
        earlier = self.failed.pop(result.key, None)
        if result.failed:
            self.failed[result.key] = result.spent
        else:
            self.answered[result.key] = result.digest
        # A later line includes what was spent on the lines before it.
        self.spent += result.spent if earlier is None else _difference(result.spent, earlier)


def _difference(now: Spent, before: Spent) -> Spent:
    usd = None if now.usd is None or before.usd is None else now.usd - before.usd
    return Spent(now.tokens - before.tokens, usd, now.estimated)


class Output(Results):
    """Results that are locked for this run, which appends to them."""

    def __init__(self, target: Path, file: FileIO) -> None:
        super().__init__(target)
        self._file = file
        file.truncate(self.size)
        if not self.has_last_end:
            _write(file, b"\n")
            self.size += 1
        self._start = self.size
        self._had_failed = bool(self.failed)

    def append(self, line: Line, result: Mapping[str, Any], spent: Spent) -> None:
        """Write the result of an item and sync it to disk, or leave the file unchanged.

        What earlier runs spent on the item is added to `spent`.
        """
        spent = self.failed.get(line.key, Spent()) + spent
        fields = {"index": line.number, "id": line.id, "digest": line.digest, **result}
        fields |= {
            "tokens": spent.tokens,
            "cost": spent.usd,
            "cost_estimated": spent.estimated,
        }
        text = json.dumps(fields, ensure_ascii=False, default=str) + "\n"
        data = text.encode("utf-8", "backslashreplace")  # a lone surrogate, escaped as in JSON
        size = os.fstat(self._file.fileno()).st_size
        try:
            _write(self._file, data)
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            raise
        self._count(_Result(line.key, line.digest, "error" in result, spent))

    def finish(self, name: Path | None = None) -> None:
        """Remove the errors of earlier runs, now that each item has a newer result, and close.

        `name`: rename the file to this, in one step.
        """
        if self._had_failed:
            self._rewrite()
        if _fcntl is None:  # Windows renames no open file
            self._file.close()
        if name is not None:
            self.target.replace(name)
            sync_folder(name)
        self._file.close()

    def _rewrite(self) -> None:
        draft = self.target.with_name(self.target.name + ".new")
        size = 0
        with draft.open("wb") as file:
            for result, text in _read(self.target):
                size += len(text)
                if not result.failed or size > self._start:
                    file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if _fcntl is None:
            self._file.close()
        draft.replace(self.target)


@contextmanager
def open_output(target: Path, finished: Path | None = None) -> Iterator[Output]:
    """The output, locked and ready to append to; `finished` becomes `target`, if it exists.

    Raises:
        BlockingIOError: another run writes it.
        ConfigurationError: it cannot be written, is not a file that can be read again, or has
            something other than results.
    """
    try:
        file = _open_locked(target, finished)
    except BlockingIOError:
        raise
    except OSError as error:
        raise file_error(target, error) from error
    try:
        if not target.is_file():
            raise ConfigurationError(f"{target} is not a file", hint="name another output")
        yield Output(target, file)
    finally:
        file.close()


def sync_folder(path: Path) -> None:
    """Make the name of a file durable, where the system has a call for it."""
    if _fcntl is None:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_results(target: Path) -> Iterator[tuple[int, bytes]]:
    """Line number in the input, and text with its line end, of each result in `target`.

    Raises:
        ConfigurationError: a line is not a result.
    """
    for _, text in _read(target):
        yield json.loads(text)["index"], text if text.endswith(b"\n") else text + b"\n"


def _read(target: Path) -> Iterator[tuple[_Result, bytes]]:
    """The results with their text; an incomplete last line is left out."""
    torn = 0
    with target.open("rb") as file:
        for number, text in enumerate(file, 1):
            result = _parse(text)
            is_torn = not text.endswith(b"\n") and text.startswith(_RESULT_START[: len(text)])
            if torn or (result is None and not is_torn):
                raise ConfigurationError(
                    f"{target} is not an output of a batch: line {torn or number} is not a result",
                    hint="name another output",
                )
            if result is None:
                torn = number
            else:
                yield result, text


def _parse(text: bytes) -> _Result | None:
    """The result in a line of the output; None if it is not one."""
    try:
        fields = json.loads(text)
        index = int(fields["index"])
        key = ("index", index) if fields["id"] is None else ("id", fields["id"])
        hash(key)
        return _Result(key, str(fields["digest"]), "error" in fields, _spent_of(fields))
    except (*UNREADABLE, RecursionError):
        return None


def _spent_of(fields: Mapping[str, Any]) -> Spent:
    """What a result says about spending; one of an older version has its usage only."""
    if "tokens" in fields:
        cost = fields["cost"]
        usd = None if cost is None else float(cost)
        return Spent(int(fields["tokens"]), usd, bool(fields["cost_estimated"]))
    usage = fields.get("usage", {})
    tokens = int(usage.get("input_tokens", 0) + usage.get("output_tokens", 0))
    return Spent(tokens, None if tokens else 0.0)


def _write(file: FileIO, data: bytes) -> None:
    """Append all of `data`: a file without a buffer may write only a part at a time."""
    file.seek(0, os.SEEK_END)
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _open_locked(target: Path, finished: Path | None) -> FileIO:
    """Open and lock `target`, again if another run replaced the file before it was locked.

    `finished` is locked before it becomes `target`: the run that finished it may still hold it.
    """
    while True:
        was_finished = finished is not None and not _size(target) and finished.exists()
        path = finished if finished is not None and was_finished else target
        try:
            file = path.open("r+b" if was_finished else "a+b", buffering=0)
        except FileNotFoundError:
            if was_finished:  # another run took it just before
                continue
            raise
        _lock(file)
        is_finished_now = finished is not None and not was_finished and finished.exists()
        if not (is_finished_now and not _size(target)) and _has_name(file, path):
            return _renamed(file, path, target) if was_finished else file
        file.close()


def _has_name(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _renamed(file: FileIO, path: Path, target: Path) -> FileIO:
    """`file` after `path` became `target`."""
    if _fcntl is not None:
        path.replace(target)
        return file
    file.close()  # Windows renames no open file
    path.replace(target)
    return target.open("a+b", buffering=0)


def _size(path: Path) -> int:
    """In bytes; 0 if there is no such file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _lock(file: FileIO) -> None:
    """Lock `file` for this process, if the system has such locks."""
    if _fcntl is None:
        return
    try:
        _fcntl.flock(file.fileno(), _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
