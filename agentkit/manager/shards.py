"""Shards: a large input in parts, each of which is answered on its own, by any process.

The folder of the outputs has ``manifest.json``, which says where each part of the input begins, and
a file a shard: ``00042.jsonl.part`` while it is being answered, ``00042.jsonl`` when all its items
are finished. The names depend on the input only, so that a shard which is done again replaces
itself. A lock on the file keeps two processes, or two runs, off one shard.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from agentkit.errors import ConfigurationError
from agentkit.manager.batch_file import complete_part
from agentkit.manager.batch_input import Span, file_error, parse_line, read_raw_lines
from agentkit.manager.batch_output import Results, read_results, sync_folder
from agentkit.manager.batch_run import Progress
from agentkit.policy.budget import Budget
from agentkit.types.json_values import UNREADABLE

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager

_MANIFEST: Final = "manifest.json"
_VERSION: Final = 1
DEFAULT_SIZE: Final = 1 << 20
"""Bytes of input in a shard if their number is not given."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of the input: `size` bytes from `offset`, with `items` items from line `line` on."""

    number: int
    offset: int
    size: int
    line: int
    items: int
    digest: str
    duplicates: tuple[int, ...] = ()
    """The lines with an id that a line before has."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The shards of an input, in order, and the folder of their outputs."""

    source: Path
    folder: Path
    shards: tuple[Shard, ...]

    @classmethod
    def open(cls, source: Path, folder: Path, shards: int | None) -> Self:
        """The plan in `folder`, or a new one with about `shards` parts of equal size.

        Raises:
            ConfigurationError: `source` cannot be read or has changed, or `folder` has another
                number of shards, or other files.
        """
        if not source.is_file():
            raise ConfigurationError(f"{source} is not a file", hint="check the path")
        if not (folder / _MANIFEST).exists():
            plan = cls(source, folder, _split(source, shards))
            if plan._save(shards):
                return plan
        asked, found = _load(folder)
        if shards is not None and shards != asked:
            raise ConfigurationError(
                f"{folder} was begun with {asked or 'the default number of'} shards, not {shards}",
                hint="leave out shards= (or --shards) to continue it, or name another folder",
            )
        plan = cls(source, folder, found)
        plan._require_same_input()
        return plan

    def _save(self, asked: int | None) -> bool:
        """Write the manifest; False: another run, which began at the same time, was quicker."""
        data = {
            "version": _VERSION,
            "asked": asked,
            "shards": [asdict(shard) for shard in self.shards],
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            manifest = self.folder / _MANIFEST
            if any(self.folder.glob("*.jsonl*")) and not manifest.exists():
                raise ConfigurationError(
                    f"{self.folder} has outputs without a {_MANIFEST}", hint="name another folder"
                )
            draft = self.folder / f"{_MANIFEST}.{uuid.uuid4().hex}"
            try:
                with draft.open("w", encoding="utf-8") as file:
                    json.dump(data, file)
                    file.flush()
                    os.fsync(file.fileno())
                is_first = _name_if_new(draft, manifest)
            finally:
                draft.unlink(missing_ok=True)
            sync_folder(manifest)
        except OSError as error:
            raise file_error(self.folder, error) from error
        return is_first

    def _require_same_input(self) -> None:
        """Check that the input is the one that was split."""
        try:
            with self.source.open("rb") as file:
                for shard in self.shards:
                    if hashlib.sha256(file.read(shard.size)).hexdigest() != shard.digest:
                        raise self._changed(f"from line {shard.line + 1} on")
                if file.read(1):
                    raise self._changed("at its end")
        except OSError as error:
            raise file_error(self.source, error) from error

    def _changed(self, where: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.source} has changed since {self.folder} was begun, {where}",
            hint="restore the file, or name another folder",
        )

    def output(self, shard: Shard) -> Path:
        """The output of a finished shard."""
        return self.folder / f"{shard.number:05d}.jsonl"

    def part(self, shard: Shard) -> Path:
        """The output of a shard that is not finished."""
        return self.folder / f"{shard.number:05d}.jsonl.part"

    def state(self, shard: Shard) -> tuple[Progress, bool]:
        """What earlier runs did for a shard, and whether all its items are answered.

        Raises:
            ConfigurationError: its output has something other than results.
        """
        for path in (self.output(shard), self.part(shard)):
            with suppress(FileNotFoundError):
                results = Results(path)
                kept, spent = len(results.answered), results.spent
                done = path == self.output(shard) and kept == shard.items and not results.failed
                return Progress(shard.items, kept, tokens=spent.tokens, cost=spent.usd), done
        return Progress(shard.items), False


async def complete_shard(
    manager: LLMManager,
    plan: Plan,
    shard: Shard,
    *,
    max_concurrency: int,
    patience: float,
    budget: Budget | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress | None:
    """Answer what is left of `shard`. None: another run is working on it.

    The arguments and the errors are those of `complete_file`.
    """
    try:
        return await complete_part(
            manager,
            plan.source,
            plan.part(shard),
            span=Span(shard.offset, shard.size, shard.line, frozenset(shard.duplicates)),
            finished=plan.output(shard),
            max_concurrency=max_concurrency,
            patience=patience,
            budget=budget,
            on_progress=on_progress,
        )
    except BlockingIOError:
        return None


def join_shards(folder: str | os.PathLike[str], target: str | os.PathLike[str]) -> int:
    """Write the results of all shards in `folder` to `target`, in the order of the input.

    Returns their number. Failed items have their errors.

    Raises:
        ConfigurationError: `target` exists, a shard is not finished, or a file is damaged.
    """
    folder, target = Path(folder), Path(target)
    if target.exists():
        raise ConfigurationError(f"{target} exists", hint="remove it, or name another output")
    plan = Plan(Path(), folder, _load(folder)[1])
    missing = [shard for shard in plan.shards if not plan.output(shard).exists()]
    if missing:
        raise ConfigurationError(
            f"{len(missing)} of {len(plan.shards)} shards are not finished, the first is "
            f"{plan.output(missing[0]).name}",
            hint="run the batch again to finish them",
        )
    draft = target.with_name(target.name + ".part")
    try:
        with draft.open("wb") as file:
            for shard in plan.shards:
                results = dict(read_results(plan.output(shard)))
                if len(results) != shard.items:
                    raise ConfigurationError(
                        f"{plan.output(shard)} has {len(results)} results for {shard.items} items",
                        hint="run the batch again to complete it",
                    )
                file.writelines(text for _, text in sorted(results.items()))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        raise file_error(Path(error.filename or target), error) from error
    return sum(shard.items for shard in plan.shards)


def _split(source: Path, shards: int | None) -> tuple[Shard, ...]:
    """The shards of a new plan: each ends with the first line that reaches its share of bytes."""
    total = source.stat().st_size
    count = max(1, total // DEFAULT_SIZE) if shards is None else shards
    found: list[Shard] = []
    seen: set[Any] = set()
    start = first = items = offset = 0
    duplicates: list[int] = []
    digest = hashlib.sha256()

    def close(next_line: int) -> None:
        nonlocal start, first, items, digest
        found.append(
            Shard(
                number=len(found),
                offset=start,
                size=offset - start,
                line=first,
                items=items,
                digest=digest.hexdigest(),
                duplicates=tuple(duplicates),
            )
        )
        start, first, items, digest = offset, next_line, 0, hashlib.sha256()
        duplicates.clear()

    number = -1
    for number, raw in read_raw_lines(source, Span()):
        digest.update(raw)
        offset += len(raw)
        line = parse_line(number, raw)
        if line is not None:
            items += 1
            if line.id is not None:
                if line.key in seen:
                    duplicates.append(number)
                seen.add(line.key)
        if offset * count >= total * (len(found) + 1) and items:
            close(number + 1)
    if offset > start or not found:
        close(number + 1)
    return tuple(found)


def _name_if_new(draft: Path, name: Path) -> bool:
    """Rename `draft`, unless there is a file of this name."""
    try:
        os.link(draft, name)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        draft.replace(name)
    return True


def _load(folder: Path) -> tuple[int | None, tuple[Shard, ...]]:
    """The number of shards that was asked for, and the shards."""
    path = folder / _MANIFEST
    try:
        data = json.loads(path.read_bytes())
        if data["version"] == _VERSION:
            return data["asked"], tuple(map(_shard_of, data["shards"]))
    except OSError as error:
        raise file_error(path, error) from error
    except (*UNREADABLE, RecursionError):
        pass
    raise ConfigurationError(
        f"{path} is not a manifest of this version", hint="name another folder"
    )


def _shard_of(data: dict[str, Any]) -> Shard:
    return Shard(
        number=int(data["number"]),
        offset=int(data["offset"]),
        size=int(data["size"]),
        line=int(data["line"]),
        items=int(data["items"]),
        digest=data["digest"],
        duplicates=tuple(map(int, data["duplicates"])),
    )
