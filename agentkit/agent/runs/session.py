"""The session of a run: its claim in a journal, what started it, and its release at the end."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from agentkit.agent.callables import acall
from agentkit.agent.runs.effects import Decisions
from agentkit.agent.runs.journal import Journal, Recorder
from agentkit.agent.runs.records import START, RunStart
from agentkit.agent.runs.store import RunJournal, RunStatus, RunStore, run_store, storable
from agentkit.errors import ConfigurationError, JournalError, LLMError
from agentkit.types.ledger import Ledger

log = logging.getLogger("agentkit.agent")


@dataclass(slots=True)
class Session:
    """Where one run is recorded, and under which id.

    Without a journal nothing is recorded, and the id is a random one.

    Attributes:
        run_id: the run's id.
        recorder: performs the steps; a new one after `open`.
        seconds: how long the run had been worked on before `open`.
    """

    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    source: RunStore | Journal | None = None
    decisions: Decisions = field(default_factory=Decisions)
    allow_changes: bool = False
    recorder: Recorder = field(default_factory=lambda: Recorder(None))
    seconds: float = 0.0
    _claimed: RunJournal | None = None

    def open(self, start: RunStart) -> RunStart:
        """Claim the run and record its start; the start as it was first recorded.

        Raises:
            RunConflictError: another process works on it.
            RunChangedError: it was started differently.
            JournalError: the journal cannot be used.
        """
        self._claim(start.agent)
        try:
            return self._checked(start, self.recorder.step("start", lambda: start, START))
        except JournalError:
            self._withdraw()
            raise

    async def aopen(self, start: RunStart) -> RunStart:
        """Like `open`, for asyncio."""

        async def do() -> RunStart:
            return start

        await acall(self._claim, (start.agent,), {})
        try:
            return self._checked(start, await self.recorder.astep("start", do, START))
        except JournalError:
            await acall(self._withdraw, (), {})
            raise

    def spend(self, step: int, error: BaseException) -> None:
        """Record what a request that failed in `step` has used; a later resume counts it."""
        ledger = error.ledger if isinstance(error, LLMError) else None
        if self._claimed is None or ledger is None or isinstance(error, JournalError):
            return
        with suppress(JournalError):  # the request's own error is raised
            self._claimed.spend(step, ledger)

    def spent(self) -> list[Ledger]:
        """The ledgers of requests that failed before `open`."""
        return [] if self._claimed is None else self._claimed.spent()

    def close(self, status: RunStatus, note: str = "", pending: Iterable[str] = ()) -> None:
        """Release the run. A failure is logged: it must not hide the outcome of the run."""
        self._release(lambda claimed: claimed.release(status, note, pending))

    def _withdraw(self) -> None:
        """Leave the run as it was before `open`."""
        self._release(lambda claimed: claimed.withdraw())

    def _release(self, release: Callable[[RunJournal], None]) -> None:
        claimed, self._claimed = self._claimed, None
        if claimed is not None:
            try:
                release(claimed)
            except JournalError as error:
                log.warning("run %s could not be released: %s", self.run_id, error.message)

    def _claim(self, agent: str) -> None:
        if isinstance(self.source, RunStore):
            self._claimed = self.source.claim(self.run_id, agent, self.decisions.by_call)
            self.seconds = self._claimed.seconds
            self.recorder = Recorder(self._claimed)
        else:
            self.recorder = Recorder(self.source)

    def _checked(self, now: RunStart, recorded: RunStart) -> RunStart:
        if recorded is not now:
            recorded.require_same(self.run_id, now, allow_changes=self.allow_changes)
        return recorded


def session_of(
    run_id: Any,
    journal: Any,
    *,
    allow_changes: bool = False,
) -> Session:
    """The session of a run with these arguments of `Agent.run`.

    Raises:
        ConfigurationError: the arguments cannot work together.
    """
    if run_id is not None and (not isinstance(run_id, str) or not run_id.strip()):
        raise ConfigurationError(f"run_id is {run_id!r}", hint="give a non-empty str")
    if run_id is not None and run_id != storable(run_id):
        raise ConfigurationError(
            f"run_id is {run_id!r}, which a journal cannot hold",
            hint="leave out null characters and lone surrogates",
        )
    if journal is None:
        if run_id is None:
            return Session()
        raise ConfigurationError(
            f"run {run_id!r} has an id and no journal",
            hint='pass journal="sqlite:///runs.sqlite", or create the agent with it',
        )
    if run_id is None:
        run_id = uuid.uuid4().hex
    return Session(run_id, journal_of(journal), allow_changes=allow_changes)


def recorded_start(store: RunStore, run_id: str) -> RunStart:
    """How the run was started. Raises `JournalError` if the journal does not have it."""
    for step in store.steps(run_id):
        if step.name == "start":
            return START.value(step.name, step.value)
    raise JournalError(
        f"{store.label} has no run {run_id!r}", hint="`agentkit runs list` shows its runs"
    )


def journal_of(journal: Any) -> RunStore | Journal:
    """The journal that an argument names.

    Raises:
        ConfigurationError: it is neither a URL, nor a `RunStore`, nor a `Journal`.
    """
    return journal if isinstance(journal, RunStore | Journal) else run_store(journal)


def store_of(journal: Any) -> RunStore:
    """The store of a journal that keeps many runs. Raises `ConfigurationError` for another."""
    found = journal_of(journal)
    if isinstance(found, RunStore):
        return found
    raise ConfigurationError(
        f"{type(found).__name__} keeps the steps of one run, and no list of runs",
        hint="start the run again with Agent.run, as your workflow engine does",
    )
