"""The journal in Postgres, with a server of its own: claims, lost connections, no server."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from agentkit.agent.runs.postgres import PostgresDatabase
from agentkit.agent.runs.store import RunStore
from agentkit.errors import JournalError, RunConflictError
from agentkit.output.tools import tool
from agentkit.types import Response
from tests.agent.journal.helpers import (
    Plan,
    World,
    agent_for,
    calls,
    no_lost_update,
    no_two_claims,
    tools_of,
)
from tests.programs import start

BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(BINARIES is None, reason="there is no Postgres on this machine"),
]
psycopg: Any = pytest.importorskip("psycopg")


class Server:
    """A Postgres of this test run; as root, it runs as another user."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"postgresql://me@127.0.0.1:{self.port}/postgres"
        self.user = 65534 if os.getuid() == 0 else None
        if self.user is not None:
            os.chown(folder, self.user, self.user)
        self.command("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "me", "--no-sync")

    def command(self, name: str, *arguments: str) -> None:
        assert BINARIES is not None
        subprocess.run(
            [str(BINARIES / name), *arguments],
            user=self.user,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
        )

    def start(self) -> None:
        settings = f"-p {self.port} -k {self.folder} -c fsync=off -c listen_addresses=127.0.0.1"
        data, log = f"{self.folder}/data", f"{self.folder}/log"
        self.command("pg_ctl", "-D", data, "-l", log, "-o", settings, "-w", "start")

    def stop(self) -> None:
        self.command("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "stop")

    def disconnect_all(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND usename = 'me'"
            )


class LosesOneConfirmation:
    """A network between a journal and its server that breaks once, after a claim is committed."""

    def __init__(self, server: Server) -> None:
        self._server = server.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = server.url.replace(str(server.port), str(self._listener.getsockname()[1]))
        self.lost = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        claims = committing = False
        with (
            suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self._server)) as server,
        ):
            while True:
                ready, _, _ = select.select((client, server), (), ())
                for source, other in ((client, server), (server, client)):
                    if source not in ready:
                        continue
                    data = source.recv(1 << 16)
                    if not data or (source is server and committing):
                        return
                    claims = claims or b"INSERT INTO agentkit_runs" in data
                    if claims and not self.lost and b"COMMIT" in data:
                        self.lost = committing = True
                    other.sendall(data)


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = Server(folder)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    yield running
    with psycopg.connect(running.url, autocommit=True) as connection:
        for table in ("runs", "steps", "journal", "memories"):
            connection.execute(f"DROP TABLE IF EXISTS agentkit_{table}")


def test_a_run_is_recorded_listed_and_resumed(server: Server) -> None:
    world = World()
    plan = Plan(world, (calls("send", "look", step=1), Response("done \0 \ud800")))
    for _ in range(2):
        with RunStore(server.url) as store:
            agent = agent_for(world, plan, journal=store, tools=tools_of(world)[:2])
            assert agent.run("Go.", run_id="r").text == "done \0 \ud800"
    assert world.requests.total() == 2
    with RunStore(server.url) as store:
        assert [(each.id, each.status, each.claims) for each in store.runs()] == [
            ("r", "finished", 2)
        ]
        assert [each.name for each in store.steps("r")][:2] == ["start", "1.model"]
        store.delete("r")
        assert store.runs() == []


def test_a_killed_process_loses_its_claims_and_a_living_one_keeps_them(server: Server) -> None:
    program = f"""
import sys, threading
from agentkit import RunStore
store = RunStore("{server.url}")
store.claim(sys.argv[1]).step("one", lambda: 1)
print("claimed", flush=True)
threading.Event().wait()
"""
    processes = [start(program, name) for name in ("a", "b")]
    try:
        for each in processes:
            assert each.stdout is not None
            assert each.stdout.readline() == "claimed\n"
        with RunStore(server.url) as store:
            assert {each.status for each in store.runs()} == {"running"}
            processes[0].kill()
            processes[0].wait()
            while not store.runs("abandoned"):
                pass  # the server closes the session a moment later
            assert store.claim("a").step("one", lambda: 2) == 1
            with pytest.raises(RunConflictError, match="under way"):
                store.claim("b")
    finally:
        for each in processes:
            each.kill()
            each.communicate()


def test_processes_that_look_at_the_same_time_see_the_same(server: Server) -> None:
    with RunStore(server.url) as gone:
        gone.claim("r")
    with psycopg.connect(server.url) as connection:
        (owner,) = connection.execute("SELECT owner FROM agentkit_runs").fetchone()
    database = PostgresDatabase(server.url, patience=1.0)
    with RunStore(server.url) as store:

        def look(execute: Any) -> None:
            assert not database.is_alive(owner, execute)
            assert store.run("r").status == "abandoned"
            store.claim("r").release("finished")

        database.transaction(look)
    database.close()


def test_a_claim_whose_confirmation_was_lost_is_a_claim(server: Server) -> None:
    with closing(LosesOneConfirmation(server)) as network, RunStore(network.url) as store:
        journal = store.claim("r")
        assert network.lost
        assert journal.step("one", lambda: 1) == 1
        with pytest.raises(RunConflictError, match="in this process"):
            store.claim("r")
        journal.release("finished")
        assert (store.run("r").status, store.run("r").claims) == ("finished", 2)


def test_a_run_continues_over_a_lost_connection(server: Server) -> None:
    world = World()

    @tool(effect="once")
    def look(x: int) -> str:
        """Look, while the server drops every connection."""
        server.disconnect_all()
        return "seen"

    plan = Plan(world, (calls("look", step=1), calls("look", step=2), Response("done")))
    with RunStore(server.url) as store:
        agent = agent_for(world, plan, tools=[look], journal=store)
        assert agent.run("Go.", run_id="r").text == "done"
        assert len(store.steps("r")) == 8


def test_a_process_that_lost_its_connection_and_its_run_records_nothing(server: Server) -> None:
    with RunStore(server.url) as slow, RunStore(server.url) as quick:
        lost = slow.claim("r")
        lost.step("one", lambda: 1)
        with pytest.raises(RunConflictError, match="under way"):
            quick.claim("r")
        server.disconnect_all()
        claimed = quick.claim("r")
        with pytest.raises(RunConflictError, match="taken over"):
            lost.step("two", lambda: 2)
        assert claimed.step("two", lambda: 3) == 3


def test_a_server_that_stays_away_fails_the_run_and_keeps_its_journal(server: Server) -> None:
    world = World()
    away = [True]

    @tool(effect="none")
    def look(x: int) -> str:
        """Look, while the server stops."""
        if away:
            away.clear()
            server.stop()
        return "seen"

    plan = Plan(world, (calls("look", step=1), Response("done")))
    with RunStore(server.url, patience=0.3) as store:
        agent = agent_for(world, plan, tools=[look], journal=store)
        with pytest.raises(JournalError, match="cannot be used"):
            agent.run("Go.", run_id="r")
        server.start()
        assert [each.status for each in store.runs()] == ["abandoned"]
        assert agent.resume("r").text == "done"
    assert world.requests.total() == 2


def test_tables_of_a_newer_release_are_refused(server: Server) -> None:
    with RunStore(server.url) as store:
        store.claim("r").release("finished")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("UPDATE agentkit_journal SET version = 99")
    with RunStore(server.url) as store, pytest.raises(JournalError, match="newer agentkit"):
        store.runs()


@pytest.mark.threads
def test_of_several_claimants_one_gets_the_run(server: Server) -> None:
    no_two_claims(server.url)


@pytest.mark.threads
def test_no_update_of_a_memory_is_lost(server: Server) -> None:
    no_lost_update(server.url)
