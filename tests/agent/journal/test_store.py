"""The journal in SQLite: claims, fences, and what is done about files that are not journals."""

from __future__ import annotations

import gc
import os
import resource
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from agentkit.agent.runs.journal import Journal
from agentkit.agent.runs.store import RunStore
from agentkit.errors import ConfigurationError, JournalError, RunConflictError
from tests.agent.journal.helpers import no_lost_update, no_two_claims
from tests.forks import forks, in_child
from tests.programs import run as python
from tests.programs import start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite"


def store_at(path: Path) -> RunStore:
    return RunStore(f"sqlite:///{path}")


def test_steps_are_recorded_once_and_in_order(path: Path) -> None:
    with store_at(path) as store:
        journal = store.claim("r", "helper")
        assert isinstance(journal, Journal)
        assert journal.step("one", lambda: {"a": [1, "\ud800 \0"]}) == {"a": [1, "\ud800 \0"]}
        assert journal.step("two", lambda: 2) == 2
        assert journal.step("one", lambda: pytest.fail("done before")) == {"a": [1, "\ud800 \0"]}
        journal.release("finished")
    with store_at(path) as store:
        assert [(each.name, each.value) for each in store.steps("r")] == [
            ("one", {"a": [1, "\ud800 \0"]}),
            ("two", 2),
        ]
        info = store.run("r")
        assert (info.agent, info.status, info.claims) == ("helper", "finished", 1)


def test_a_step_that_raises_is_not_recorded(path: Path) -> None:
    with store_at(path) as store:
        journal = store.claim("r")
        with pytest.raises(ZeroDivisionError):
            journal.step("one", lambda: 1 / 0)
        with pytest.raises(JournalError, match="cannot be recorded"):
            journal.step("one", object)
        assert journal.step("one", lambda: 1) == 1


def test_a_lost_claim_records_nothing(path: Path) -> None:
    """A process that was stopped for a while, and declared gone, must not write."""
    first = store_at(path)
    slow = first.claim("r")
    slow.step("one", lambda: 1)
    first.close()
    with store_at(path) as store:
        assert store.run("r").status == "abandoned"
        other = store.claim("r")
        with pytest.raises(RunConflictError, match="taken over"):
            slow.step("two", lambda: 2)
        slow.release("finished")
        assert store.run("r").status == "running"
        assert other.step("two", lambda: 3) == 3
        assert other.step("one", lambda: 4) == 1


def test_a_claim_is_refused_while_its_owner_lives(path: Path) -> None:
    with store_at(path) as store, store_at(path) as other:
        claimed = store.claim("r")
        for each in (store, other):
            with pytest.raises(RunConflictError, match="under way"):
                each.claim("r")
        with pytest.raises(RunConflictError):
            other.delete("r")
        claimed.release("failed", "ServerError: down")
        assert other.run("r").note == "ServerError: down"
        other.claim("r").release("waiting", pending=["a"])
        with pytest.raises(ConfigurationError, match="does not wait"):
            store.claim("r", decided=["b"])
        store.claim("r", decided=["a"]).release("finished")
        with pytest.raises(JournalError, match="is finished"):
            store.cancel("r")
        store.delete("r")
        assert store.runs() == []
        assert store.steps("r") == []


@pytest.mark.processes
def test_a_killed_process_loses_its_claims_at_once_and_a_living_one_keeps_them(
    path: Path,
) -> None:
    program = f"""
import sys, threading
from agentkit import RunStore
store = RunStore("sqlite:///{path}")
for name in sys.argv[1:]:
    store.claim(name).step("one", lambda: 1)
print("claimed", flush=True)
threading.Event().wait()
"""
    processes = [start(program, *names) for names in (("a", "b"), ("c",))]
    try:
        for each in processes:
            assert each.stdout is not None
            assert each.stdout.readline() == "claimed\n"
        with store_at(path) as store:
            assert {each.status for each in store.runs()} == {"running"}
            processes[0].kill()
            processes[0].wait()
            assert [each.id for each in store.runs("abandoned")] == ["a", "b"]
            assert store.claim("a").step("one", lambda: 2) == 1
            with pytest.raises(RunConflictError):
                store.claim("c")
    finally:
        for each in processes:
            each.kill()
            each.communicate()
    assert not [each for each in path.parent.iterdir() if "owner" in each.name][2:]


@pytest.mark.processes
def test_many_processes_create_one_journal_together(path: Path) -> None:
    program = f"""
import sys
from agentkit import RunStore
with RunStore("sqlite:///{path}") as store:
    journal = store.claim(sys.argv[1])
    for number in range(5):
        journal.step(str(number), lambda: number)
    journal.release("finished")
"""
    processes = [start(program, number) for number in range(4)]
    assert [each.communicate()[1] for each in processes] == [""] * 4
    with store_at(path) as store:
        assert [each.status for each in store.runs()] == ["finished"] * 4


def test_the_file_is_private_and_nothing_is_left_beside_it(path: Path) -> None:
    with store_at(path) as store:
        store.claim("r").release("finished")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    assert [each.name for each in path.parent.iterdir()] == ["runs.sqlite"]


def test_the_files_of_killed_processes_are_removed(path: Path) -> None:
    left = [path.with_name(f"{path.name}.owner-{name}") for name in ("old", "new")]
    for each in left:
        each.touch()
    os.utime(left[0], (0, 0))
    with store_at(path) as alive, store_at(path) as store:
        alive.claim("r")
        (held,) = {*path.parent.glob("*.owner-" + 32 * "?")} - {*left}
        os.utime(held, (0, 0))
        store.claim("s")
        with pytest.raises(RunConflictError):
            store.claim("r")
        assert [each.exists() for each in (*left, held)] == [False, True, True]


def test_a_store_that_is_dropped_leaves_nothing_open(path: Path) -> None:
    store = store_at(path)
    store.claim("r").release("finished")
    del store
    gc.collect()
    assert [each.name for each in path.parent.iterdir()] == ["runs.sqlite"]


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE bills (id)")
    other.close()


def newer(path: Path) -> None:
    store_at(path).claim("r").release("finished")
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()


def damaged(path: Path) -> None:
    with store_at(path) as store:
        journal = store.claim("r")
        journal.step("one", lambda: "a" * 100)
        journal.release("finished")
    with sqlite3.connect(path) as other:
        other.execute("UPDATE agentkit_steps SET value = replace(value, 'aa', 'ab')")
    other.close()


@pytest.mark.parametrize(
    ("prepare", "named"),
    [
        (lambda path: path.write_text("not a database " * 100), "not a database"),
        (foreign, "another application"),
        (newer, "newer agentkit"),
        (damaged, "step one of run 'r' is damaged"),
        (lambda path: path.mkdir(), "cannot be used"),
    ],
)
def test_a_file_that_is_not_a_journal_is_refused_and_not_changed(
    path: Path, prepare: Any, named: str
) -> None:
    prepare(path)
    before = path.read_bytes() if path.is_file() else None
    with store_at(path) as store, pytest.raises(JournalError, match=named) as caught:
        store.claim("r")
    assert caught.value.hint
    assert before is None or path.read_bytes() == before


def test_a_folder_that_does_not_exist_is_named_without_a_traceback_of_sqlite(path: Path) -> None:
    with pytest.raises(JournalError, match="the journal deeper cannot be used"):
        store_at(path / "deeper").claim("r")


@pytest.mark.processes
def test_a_full_disk_stops_the_run_and_keeps_what_was_recorded(path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    store_at(path).claim("other").release("finished")
    program = f"""
import resource, signal
from agentkit import RunStore, JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
store = RunStore("sqlite:///{path}")
journal = store.claim("r")
recorded = 0
try:
    while True:
        journal.step(str(recorded), lambda: "x" * 20_000)
        recorded += 1
except JournalError as error:
    print(recorded)
"""
    recorded = int(python(program))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000
    with store_at(path) as store:
        assert recorded > 1
        assert len(store.steps("r")) == recorded
        assert store.claim("r").step(str(recorded), lambda: "more") == "more"


def test_a_run_that_could_not_be_released_is_released_later(path: Path) -> None:
    with store_at(path) as store:
        journal = store.claim("r")
        journal.step("one", lambda: 1)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("ALTER TABLE agentkit_runs RENAME TO elsewhere")
        with pytest.raises(JournalError):
            journal.release("finished")
        other.execute("ALTER TABLE elsewhere RENAME TO agentkit_runs")
        other.close()
        assert store.run("r").status == "abandoned"
        assert store.claim("r").step("one", lambda: 2) == 1


def test_an_error_with_any_text_is_kept_with_its_run(path: Path) -> None:
    """Otherwise it would hide the outcome, and the run would stay under way."""
    with store_at(path) as store:
        store.claim("r").release("failed", "bad \ud800 \0 text")
        assert (store.run("r").status, store.run("r").note) == ("failed", "bad ? \ufffd text")


@pytest.mark.parametrize(
    "damage",
    [
        "runs SET pending = 'junk'",
        "runs SET pending = '3'",
        "runs SET claims = 'x'",
        "runs SET created = 1e300",
        "steps SET seconds = 'x'",
        "steps SET recorded = 'x'",
        "steps SET value = x'00ff'",
        "steps SET value = substr(value, 1, 1)",
    ],
)
def test_a_damaged_run_is_a_journal_error(path: Path, damage: str) -> None:
    with store_at(path) as store:
        journal = store.claim("r")
        journal.step("one", lambda: [1])
        journal.release("finished")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(f"UPDATE agentkit_{damage}")
    connection.close()
    with store_at(path) as store:
        with pytest.raises(JournalError, match="is damaged"):
            store.claim("r")
        with pytest.raises(JournalError, match="is damaged"):
            store.runs() if damage.startswith("runs") else store.steps("r")


def test_what_is_recorded_may_be_large(path: Path) -> None:
    with store_at(path) as store:
        store.claim("r").step("one", lambda: "x" * 5_000_000)
        assert len(store.steps("r")[0].value) == 5_000_000


def test_the_wall_clock_may_jump(path: Path) -> None:
    times = iter([2e9, 1e9, 3e9, 0.0, 2e9, 1.0, 5.0, 6.0])
    with RunStore(f"sqlite:///{path}", wall_clock=lambda: next(times)) as store:
        journal = store.claim("r")
        journal.step("one", lambda: 1)
        journal.step("two", lambda: 2)
        assert store.run("r").status == "running"
        journal.release("finished")
        assert [each.name for each in store.steps("r")] == ["one", "two"]


@pytest.mark.parametrize(
    "url", ["", "runs.sqlite", "sqlite:///", "mysql://me:secret@host/db", 7, None]
)
def test_a_url_that_names_no_journal_is_refused_without_its_secrets(url: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RunStore(url)
    assert "secret" not in str(caught.value)
    assert "sqlite:///" in str(caught.value.hint)


@forks
def test_a_forked_child_owns_nothing_of_its_parent(path: Path) -> None:
    with store_at(path) as store:
        journal = store.claim("r")
        journal.step("one", lambda: 1)

        def child() -> None:
            with pytest.raises(RunConflictError):
                store.claim("r")
            store.claim("child").release("finished")

        in_child(child)
        assert journal.step("two", lambda: 2) == 2
        assert [each.status for each in store.runs()] == ["running", "finished"]


@pytest.mark.threads
def test_of_several_claimants_one_gets_the_run(path: Path) -> None:
    no_two_claims(f"sqlite:///{path}")


@pytest.mark.threads
def test_no_update_of_a_memory_is_lost(path: Path) -> None:
    no_lost_update(f"sqlite:///{path}")
