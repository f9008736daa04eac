"""The runs of a journal: claimed by one process at a time, recorded step by step, listed."""

from __future__ import annotations

import atexit
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar

from agentkit._fork import fork_safe_lock
from agentkit.agent.callables import acall
from agentkit.agent.runs.sqlite import Execute, SQLiteDatabase
from agentkit.errors import ConfigurationError, JournalError, RunConflictError
from agentkit.policy.validation import number
from agentkit.types import Now
from agentkit.types.context import Closing
from agentkit.types.json_values import UNREADABLE
from agentkit.types.ledger import Ledger

V = TypeVar("V")
RunStatus: TypeAlias = Literal["running", "abandoned", "waiting", "failed", "finished", "cancelled"]

_RUN: Final = "id, agent, status, owner, claims, created, updated, note, pending"
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Database(Protocol):
    """Where a journal is kept: transactions, and owners whose death releases their runs."""

    label: str

    def transaction(self, work: Callable[[Execute], V]) -> V:
        """The result of `work`, after all of its statements are durable."""
        ...

    def owner(self) -> str:
        """The name under which this process owns runs."""
        ...

    def is_alive(self, owner: str, execute: Execute, /) -> bool:
        """Whether the process behind `owner` is still there."""
        ...

    def close(self) -> None:
        """Release everything. Closing twice does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a journal knows about one run.

    Attributes:
        id: the run's id.
        agent: the name of the agent that started it.
        status: ``running``; ``abandoned`` (its process has ended); ``waiting`` (for approval);
            ``failed`` (`Agent.resume` tries again); ``finished``; ``cancelled``.
        claims: how many times a process has begun to work on it.
        created, updated: when it was first claimed, and when it last changed, in UTC.
        pending: the ids of the calls that wait for approval.
        note: the error of a failed run.
    """

    id: str
    agent: str
    status: RunStatus
    claims: int
    created: datetime
    updated: datetime
    pending: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One step in a journal.

    Attributes:
        name: ``start``, or the number of the step and its kind: ``3.model``, ``3.0.result``.
        value: the recorded value, as JSON data.
        seconds: the time that processes had worked on the run, in seconds.
        recorded: the time of the record, in UTC.
    """

    name: str
    value: Any
    seconds: float
    recorded: datetime


class RunStore(Closing):
    """A journal of runs in a database, shared by all processes that open it.

    Args:
        url: ``"sqlite:///runs.sqlite"`` (relative; four slashes for an absolute path),
            ``"postgresql://…"``, or ``"memory"``.
        patience: seconds to wait for a busy file, or for a lost connection to come back, before a
            step fails (default 30).
        clock: a monotonic clock in seconds, which measures the time that is spent on a run.
        wall_clock: a function that returns seconds since 1970, for display only.

    Raises:
        ConfigurationError: the URL is not one of these.
        MissingDependencyError: Postgres needs the package psycopg.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: float = 30.0,
        clock: Now = time.monotonic,
        wall_clock: Now = time.time,
    ) -> None:
        self._database = _database(url, number("patience", patience))
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = fork_safe_lock()
        self._claimed: set[tuple[str, str]] = set()
        """Owner and id of the runs that this object works on; a forked child is another owner."""
        self._unreleased: list[tuple[str, str, int]] = []
        self.label = self._database.label

    def claim(self, run_id: str, agent: str = "", decided: Iterable[str] = ()) -> RunJournal:
        """Claim a run, new or recorded, so that no other process works on it.

        `decided` contains the ids of calls that an approver has decided about.

        Raises:
            RunConflictError: another process, which has not ended, works on it.
            ConfigurationError: a call in `decided` is not waiting for approval.
            JournalError: the run was cancelled, or the journal cannot be used.
        """
        claim = (self._database.owner(), run_id)
        with self._lock:
            if claim in self._claimed:
                raise _under_way(run_id, "in this process")
            self._claimed.add(claim)
        try:
            return self._claim(claim, agent, decided)
        except BaseException:
            self._claimed.discard(claim)
            raise

    def _claim(self, claim: tuple[str, str], agent: str, decided: Iterable[str]) -> RunJournal:
        database, now = self._database, self._wall_clock()
        owner, run_id = claim

        def work(execute: Execute) -> tuple[int, RunStatus | None, list[RecordedStep]]:
            self._release_late(execute)
            rows = execute(f"SELECT {_RUN} FROM agentkit_runs WHERE id = ?", (run_id,))  # noqa: S608 - constant names
            _require_pending(decided, _info(rows[0]).pending if rows else ())
            before: RunStatus | None = None
            if not rows:
                claims = 1
                won = execute(
                    f"INSERT INTO agentkit_runs ({_RUN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608 - constant names
                    "ON CONFLICT (id) DO NOTHING RETURNING id",
                    (run_id, agent, "running", owner, claims, now, now, "", "[]"),
                )
            else:
                status, holder, claims = rows[0][2], rows[0][3], rows[0][4] + 1
                if status == "cancelled":
                    raise _cancelled(run_id)
                # One of this owner that nothing here works on is left of a claim whose reply was
                # lost, or could not be released.
                if status == "running" and holder != owner and database.is_alive(holder, execute):
                    raise _under_way(run_id, "elsewhere")
                before = "abandoned" if status == "running" else status
                won = execute(
                    "UPDATE agentkit_runs SET status = 'running', owner = ?, claims = ?, "
                    "updated = ? WHERE id = ? AND claims = ? AND status = ? RETURNING id",
                    (owner, claims, now, run_id, claims - 1, status),
                )
            if not won:  # by another process, between the two statements
                raise _under_way(run_id, "elsewhere")
            return claims, before, _steps(run_id, execute)

        claims, before, steps = database.transaction(work)
        return RunJournal(
            database,
            run_id,
            owner=owner,
            claims=claims,
            before=before,
            steps=steps,
            clock=self._clock,
            wall_clock=self._wall_clock,
            released=lambda: self._claimed.discard(claim),
            unreleased=self._unreleased,
        )

    def runs(self, status: RunStatus | None = None) -> list[RunInfo]:
        """The runs, newest last; only those with this `status`, if given.

        Raises:
            JournalError: the journal cannot be used.
        """
        database = self._database

        def work(execute: Execute) -> list[RunInfo]:
            self._release_late(execute)
            rows = execute(f"SELECT {_RUN} FROM agentkit_runs ORDER BY created, id", ())  # noqa: S608 - constant names
            alive = {
                owner: database.is_alive(owner, execute)
                for owner in {row[3] for row in rows if row[2] == "running"}
            }
            return [_info(row, alive.get(row[3], True)) for row in rows]

        found = database.transaction(work)
        return [each for each in found if status is None or each.status == status]

    def run(self, run_id: str) -> RunInfo:
        """The run with this id. Raises `JournalError` if there is none."""
        for each in self.runs():
            if each.id == run_id:
                return each
        raise JournalError(
            f"{self.label} has no run {run_id!r}", hint="`agentkit runs list` shows its runs"
        )

    def steps(self, run_id: str) -> list[RecordedStep]:
        """The recorded steps of a run, in order; none for an unknown run.

        Raises:
            JournalError: a step is damaged, or the journal cannot be used.
        """
        return self._database.transaction(lambda execute: _steps(run_id, execute))

    def cancel(self, run_id: str) -> None:
        """End a run for good. If a process works on it, its next step raises `JournalError`.

        Raises:
            JournalError: there is no such run, or it is finished.
        """
        info = self.run(run_id)
        if info.status == "finished":
            raise JournalError(f"run {run_id!r} is finished", hint="there is nothing to cancel")
        now = self._wall_clock()
        self._database.transaction(
            lambda execute: execute(
                "UPDATE agentkit_runs SET status = 'cancelled', updated = ? "
                "WHERE id = ? AND status <> 'finished'",
                (now, run_id),
            )
        )

    def delete(self, run_id: str) -> None:
        """Forget a run and its steps. Raises `JournalError` if it is unknown or under way."""
        if self.run(run_id).status == "running":
            raise RunConflictError(f"run {run_id!r} is under way", hint="cancel it first")

        def work(execute: Execute) -> None:
            execute("DELETE FROM agentkit_steps WHERE run = ?", (run_id,))
            execute("DELETE FROM agentkit_runs WHERE id = ?", (run_id,))

        self._database.transaction(work)

    def load(self, name: str) -> Any:
        """The JSON data that `update` kept under `name`, or None. Raises `JournalError`."""
        rows = self._database.transaction(
            lambda execute: execute("SELECT value FROM agentkit_memories WHERE name = ?", (name,))
        )
        return json.loads(rows[0][0]) if rows else None

    def update(self, name: str, change: Callable[[Any], Any]) -> None:
        """Keep ``change(data)`` under `name`, where data is what was kept before, or None.

        No other process changes it meanwhile. `change` may be called again after a lost
        connection.

        Raises:
            JournalError: the journal cannot be used, or JSON cannot hold the new data.
        """
        now = self._wall_clock()

        def work(execute: Execute) -> None:
            before = execute(  # an update even if nothing changes: it locks the row
                "INSERT INTO agentkit_memories (name, value, updated) VALUES (?, 'null', ?) "
                "ON CONFLICT (name) DO UPDATE SET updated = excluded.updated RETURNING value",
                (name, now),
            )
            text = _encode(change(json.loads(before[0][0])))
            execute("UPDATE agentkit_memories SET value = ? WHERE name = ?", (text, name))

        try:
            self._database.transaction(work)
        except (TypeError, ValueError, RecursionError) as error:
            raise JournalError(f"{name!r} cannot be recorded: {error}") from error

    def _release_late(self, execute: Execute) -> None:
        """Release the runs that ended here while the database could not be written."""
        for run in list(self._unreleased):
            execute(
                "UPDATE agentkit_runs SET status = 'abandoned' "
                "WHERE id = ? AND owner = ? AND claims = ? AND status = 'running'",
                run,
            )

    def close(self) -> None:
        """Close the database. Runs that this object works on count as abandoned."""
        self._database.close()

    def __repr__(self) -> str:
        return f"<RunStore {self.label}>"


class RunJournal:
    """The journal of one claimed run.

    Every record is fenced: it is refused once another process has claimed the run, or the run was
    cancelled. Safe to use from many threads at once.

    Attributes:
        run_id: the run's id.
        seconds: how long the run had been worked on before this claim, in seconds.
        concurrent: see `Journal`.
    """

    concurrent: Final = True

    def __init__(
        self,
        database: Database,
        run_id: str,
        *,
        owner: str,
        claims: int,
        before: RunStatus | None,
        steps: list[RecordedStep],
        clock: Now,
        wall_clock: Now,
        released: Callable[[], None],
        unreleased: list[tuple[str, str, int]],
    ) -> None:
        self.run_id = run_id
        self.seconds = max((step.seconds for step in steps), default=0.0)
        self._database = database
        self._owner = owner
        self._claims = claims
        self._wall_clock = wall_clock
        self._clock = clock
        self._claimed_at = clock()
        self._before = before
        self._released = released
        self._unreleased = unreleased
        self._recorded = {step.name: step.value for step in steps}

    def step(self, name: str, do: Callable[[], Any]) -> Any:
        """See `Journal.step`.

        Raises:
            RunConflictError: another process has claimed the run.
            JournalError: the run was cancelled, or the value cannot be recorded.
        """
        if name not in self._recorded:
            self._record(name, do())
        return self._recorded[name]

    async def astep(self, name: str, do: Callable[[], Awaitable[Any]]) -> Any:
        """Like `step`, for asyncio: the database is written by a thread."""
        if name not in self._recorded:
            await acall(self._record, (name, await do()), {})
        return self._recorded[name]

    def spend(self, step: int, ledger: Ledger) -> None:
        """Record the attempts of a request that failed in `step`, which no other record has."""
        if ledger.sent:
            self.step(f"{step}.failed-{self._claims}", ledger.to_dict)

    def spent(self) -> list[Ledger]:
        """The ledgers of requests that failed. Raises `JournalError` if one cannot be read."""
        try:
            return [
                Ledger.from_dict(value)
                for name, value in self._recorded.items()
                if ".failed-" in name
            ]
        except ValueError as error:
            raise JournalError(f"a ledger of run {self.run_id!r} cannot be read") from error

    def has(self, name: str) -> bool:
        """Whether the step `name` is recorded."""
        return name in self._recorded

    def release(self, status: RunStatus, note: str = "", pending: Iterable[str] = ()) -> None:
        """Stop working on the run, which is `status` now. Does nothing if the claim is lost.

        `pending` has the ids of the calls that wait for approval. A failed run keeps those that it
        had.

        Raises:
            JournalError: the journal cannot be written; the run becomes ``abandoned`` as soon as
                its store can write again, or when the process ends.
        """
        waiting = None if status == "failed" else _encode(list(pending))
        self._release(status, storable(note), waiting)

    def withdraw(self) -> None:
        """Stop working on the run, and leave it as it was before the claim; a new one has failed.

        Raises:
            JournalError: as `release`.
        """
        self._release(self._before or "failed", None, None)

    def _release(self, status: RunStatus, note: str | None, pending: str | None) -> None:
        now, run = self._wall_clock(), (self.run_id, self._owner, self._claims)
        try:
            self._database.transaction(
                lambda execute: execute(
                    "UPDATE agentkit_runs SET status = ?, note = COALESCE(?, note), "
                    "pending = COALESCE(?, pending), updated = ? "
                    "WHERE id = ? AND owner = ? AND claims = ? AND status = 'running'",
                    (status, note, pending, now, *run),
                )
            )
        except JournalError:
            self._unreleased.append(run)
            raise
        finally:
            self._released()

    def _record(self, name: str, value: Any) -> None:
        try:
            text = _encode(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise JournalError(
                f"step {name} of run {self.run_id!r} cannot be recorded: {error}",
                hint="use arguments and results that JSON can hold",
            ) from error
        now, seconds = self._wall_clock(), self.seconds + self._clock() - self._claimed_at
        digest = _digest(self.run_id, name, text)
        run = (self.run_id, self._owner, self._claims)

        def work(execute: Execute) -> str | None:
            rows = execute(
                "UPDATE agentkit_runs SET updated = ? WHERE id = ? AND owner = ? AND claims = ? "
                "AND status = 'running' RETURNING id",
                (now, *run),
            )
            if not rows:
                found = execute("SELECT status FROM agentkit_runs WHERE id = ?", (self.run_id,))
                return str(found[0][0]) if found else "deleted"
            execute(
                "INSERT INTO agentkit_steps (run, position, name, value, digest, seconds, recorded)"
                " VALUES (?, (SELECT COUNT(*) FROM agentkit_steps WHERE run = ?), ?, ?, ?, ?, ?) "
                "ON CONFLICT (run, name) DO NOTHING",
                (self.run_id, self.run_id, name, text, digest, seconds, now),
            )
            return None

        status = self._database.transaction(work)
        if status == "cancelled":
            raise _cancelled(self.run_id)
        if status is not None:
            raise RunConflictError(
                f"another process has taken over run {self.run_id!r}",
                hint="this one stops here; the other continues from the last recorded step",
            )
        self._recorded[name] = json.loads(text)


_stores: Final[dict[str, RunStore]] = {}
_stores_lock: Final = fork_safe_lock()


def run_store(url: str) -> RunStore:
    """The store of `url`, which all agents of this process share; closed when the process exits.

    Raises:
        ConfigurationError: the URL is not one that `RunStore` knows.
    """
    with _stores_lock:
        store = _stores.get(url)
        if store is None:
            store = _stores[url] = RunStore(url)
            atexit.register(store.close)
        return store


def _database(url: Any, patience: float) -> Database:
    if url == "memory":
        return SQLiteDatabase("", patience)
    if isinstance(url, str) and url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        return SQLiteDatabase(url.removeprefix("sqlite:///"), patience)
    if isinstance(url, str) and url.startswith(("postgresql://", "postgres://")):
        from agentkit.agent.runs.postgres import PostgresDatabase

        return PostgresDatabase(url, patience)
    shown = repr(url) if isinstance(url, str) and "@" not in url else f"a {type(url).__name__}"
    raise ConfigurationError(
        f"journal is {shown}",
        hint='give "sqlite:///runs.sqlite", "postgresql://…", "memory" or a Journal',
    )


def storable(text: str) -> str:
    """`text` as each database can hold it: without null characters and lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _info(row: tuple[Any, ...], alive: bool = True) -> RunInfo:
    run_id, agent, status, _, claims, created, updated, note, pending = row
    if status == "running" and not alive:
        status = "abandoned"
    try:
        return RunInfo(
            id=run_id,
            agent=agent,
            status=status,
            claims=int(claims),
            created=_utc(created),
            updated=_utc(updated),
            pending=tuple(json.loads(pending)),
            note=note,
        )
    except (*UNREADABLE, OverflowError) as error:
        raise _damaged(f"run {run_id!r}") from error


def _steps(run_id: str, execute: Execute) -> list[RecordedStep]:
    rows = execute(
        "SELECT name, value, digest, seconds, recorded FROM agentkit_steps WHERE run = ? "
        "ORDER BY position",
        (run_id,),
    )
    return [_step(run_id, row) for row in rows]


def _step(run_id: str, row: tuple[Any, ...]) -> RecordedStep:
    name, text, digest, seconds, recorded = row
    try:
        if _digest(run_id, name, text) == digest:
            return RecordedStep(name, json.loads(text), float(seconds), _utc(recorded))
    except (*UNREADABLE, OverflowError) as error:
        raise _damaged(f"step {name} of run {run_id!r}") from error
    raise _damaged(f"step {name} of run {run_id!r}")


def _damaged(what: str) -> JournalError:
    return JournalError(
        f"{what} is damaged",
        hint="restore the journal from a backup, or start the run under another id",
    )


def _require_pending(decided: Iterable[str], pending: Sequence[str]) -> None:
    for call_id in decided:
        if call_id not in pending:
            raise ConfigurationError(
                f"call {call_id!r} does not wait for approval",
                hint=f"waiting: {', '.join(pending) or 'none'}",
            )


def _digest(*parts: str) -> str:
    return blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=16).hexdigest()


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _under_way(run_id: str, where: str) -> RunConflictError:
    return RunConflictError(
        f"run {run_id!r} is under way {where}", hint="wait for it, or use another run_id"
    )


def _cancelled(run_id: str) -> JournalError:
    return JournalError(f"run {run_id!r} was cancelled", hint="start it under another run_id")
