"""What a caller gets while the store is lost, and that it is used again when it is back."""

from __future__ import annotations

import asyncio
import logging
import socketserver
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from agentkit.errors import ConfigurationError, MissingDependencyError
from agentkit.state import questions
from agentkit.state.check import check_store
from agentkit.state.questions import SharedKeys
from agentkit.state.valkey import ValkeyFleet
from agentkit.types.fleet import Hear, Question
from tests.architecture.tree import ROOT
from tests.forks import forks, in_child
from tests.helpers import until
from tests.state.proxy import Proxy, proxy_of
from tests.state.servers import Server

KEYS = SharedKeys.of("group", "key")


def claim(fleet: ValkeyFleet) -> Any:
    return fleet.ask(questions.shared_claim(KEYS, f"{fleet.process}:1", fleet.process))


def is_up(fleet: ValkeyFleet) -> bool:
    return fleet.state == "up"


def test_the_first_question_waits_for_the_connection(server: Server) -> None:
    fleet = ValkeyFleet(server.url)
    assert claim(fleet) == questions.LEAD
    assert fleet.statistics()["alone"] == 0
    fleet.close()


def test_the_tasks_of_a_loop_share_one_connection(server: Server, fleet: ValkeyFleet) -> None:
    async def main() -> list[Any]:
        asked = [fleet.aask(questions.beat(f"p{i}")) for i in range(50)]
        return await asyncio.gather(*asked)

    assert sorted(alive for alive, *_ in asyncio.run(main())) == list(range(2, 52))
    # That of threads, the inbox, and this one.
    assert server.run("INFO", "clients")["connected_clients"] <= 4


@pytest.mark.usefixtures("quick_heartbeat")
@pytest.mark.parametrize("failure", ["paused", "killed"])
def test_a_lost_store_makes_callers_decide_alone_until_it_is_back(
    server: Server, fleet: ValkeyFleet, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "agentkit.fleet")
    server.pause() if failure == "paused" else server.kill()
    assert claim(fleet) is None
    assert fleet.state == "down"
    assert claim(fleet) is None
    server.resume() if failure == "paused" else server.start()
    until(lambda: is_up(fleet))
    assert claim(fleet) == questions.LEAD
    warnings = [each.getMessage() for each in caplog.records]
    assert len(warnings) == 2
    assert "decides alone" in warnings[0]
    assert "is back" in warnings[1]


def test_an_event_loop_runs_while_the_store_hangs(server: Server, fleet: ValkeyFleet) -> None:
    async def main() -> list[Any]:
        server.pause()
        asked = asyncio.gather(*(fleet.aask(questions.beat("p")) for _ in range(50)))
        ticks = 0
        while not asked.done():
            await asyncio.sleep(0)
            ticks += 1
        assert ticks > 50
        return await asked

    assert asyncio.run(main()) == [None] * 50
    server.resume()


def test_a_server_that_lost_the_scripts_gets_them_again(server: Server, fleet: ValkeyFleet) -> None:
    claim(fleet)
    server.run("SCRIPT", "FLUSH")
    server.run("FLUSHALL")
    assert claim(fleet) == questions.LEAD
    assert fleet.statistics()["faults"] == {}


@pytest.mark.usefixtures("quick_heartbeat")
@pytest.mark.parametrize(
    ("command", "remedy", "kind"),
    [
        (
            ["CONFIG", "SET", "maxmemory", "1"],
            ["CONFIG", "SET", "maxmemory", "0"],
            "OutOfMemoryError",
        ),
        (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"], "ReadOnlyError"),
        (
            ["ACL", "SETUSER", "default", "-evalsha"],
            ["ACL", "SETUSER", "default", "+evalsha"],
            "NoPermissionError",
        ),
    ],
)
def test_a_server_that_refuses_scripts_is_lost_until_it_runs_them(
    server: Server, fleet: ValkeyFleet, command: list[str], remedy: list[str], kind: str
) -> None:
    server.run(*command)
    until(lambda: claim(fleet) is None)  # a heartbeat may notice it first
    assert fleet.state == "down"
    server.run(*remedy)
    until(lambda: is_up(fleet))
    assert claim(fleet) == questions.LEAD
    assert kind in fleet.statistics()["faults"]


def test_a_store_without_a_server_is_lost_from_the_start() -> None:
    fleet = ValkeyFleet("unix:///nowhere/socket")
    assert claim(fleet) is None
    assert fleet.statistics()["state"] == "down"
    fleet.close()
    assert claim(fleet) is None


def test_a_lead_that_its_caller_no_longer_waited_for_is_given_back(
    server: Server, fleet: ValkeyFleet
) -> None:
    async def main() -> None:
        task = asyncio.create_task(
            fleet.aask(questions.shared_claim(KEYS, "gone:1", fleet.process))
        )
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    until(lambda: claim(fleet) == questions.LEAD)


def test_messages_reach_the_process_that_they_are_for(server: Server, fleet: ValkeyFleet) -> None:
    other = ValkeyFleet(server.url)
    received: list[bytes] = []
    heard = threading.Event()

    def receive(message: bytes) -> None:
        received.append(message)
        heard.set()

    other.subscribe(KEYS.call, receive)
    claim(fleet)
    assert claim(other) > 0
    fleet.post(questions.shared_complete(KEYS, f"{fleet.process}:1", "answer", b"it", ttl=60.0))
    assert heard.wait(10)
    assert received == [b"answer\nit"]
    other.close()


def beat_again(process: str) -> Question:
    return questions.beat(process)._replace(retry=True)


def test_a_question_that_asks_for_it_is_repeated_when_the_connection_breaks(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentkit.state.keeper.HEARTBEAT", 3.0)
    with proxy_of(server) as proxy:
        fleet = ValkeyFleet(proxy.url)
        until(lambda: is_up(fleet))
        replies = []
        for question in (questions.beat("p"), beat_again("p")):
            proxy.hold()
            sent, session = len(proxy.requests), fleet.session
            asked = threading.Thread(target=lambda it=question: replies.append(fleet.ask(it)))
            asked.start()
            until(lambda sent=sent: len(proxy.requests) > sent)  # type: ignore[misc]
            proxy.cut(repaired=True)
            asked.join()
            assert fleet.session > session
            until(lambda: is_up(fleet))
        fleet.close()
    assert replies[0] is None
    assert replies[1][0] == 2


def test_a_question_that_asks_for_it_waits_longer_and_the_others_do_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentkit.state.patience.PATIENCE", 0.3)
    monkeypatch.setattr("agentkit.state.valkey.LONGEST_WAIT", 10.0)

    async def main() -> tuple[Any, Any]:
        long = asyncio.create_task(fleet.aask(beat_again("p")))
        short = asyncio.create_task(fleet.aask(questions.beat("p")))
        first = await short
        proxy.release()
        return first, await long

    interval = sys.getswitchinterval()
    with proxy_of(server) as proxy:
        fleet = ValkeyFleet(proxy.url)
        until(lambda: is_up(fleet))
        proxy.hold()
        sys.setswitchinterval(5.0)  # so that both questions are in one batch
        try:
            short, long = asyncio.run(main())
        finally:
            sys.setswitchinterval(interval)
        assert fleet.statistics()["faults"] == {}
        fleet.close()
    assert short is None
    assert long[0] == 2


def test_a_process_that_is_late_itself_keeps_a_silent_store(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy_of(server) as proxy:
        fleet = ValkeyFleet(proxy.url)
        until(lambda: is_up(fleet))
        monkeypatch.setattr("agentkit.state.patience.PATIENCE", 0.03)
        monkeypatch.setattr("agentkit.state.patience.LATE", -1.0)  # each wake of a thread is late
        proxy.hold()
        assert fleet.ask(questions.beat("p")) is None, "its caller waits no longer"
        assert is_up(fleet)
        proxy.release()
        until(lambda: fleet.ask(questions.beat("p")) is not None)
        assert fleet.statistics()["faults"] == {}
        fleet.close()


@pytest.mark.usefixtures("quick_heartbeat")
def test_others_ask_with_each_heartbeat(server: Server, fleet: ValkeyFleet) -> None:
    heard: list[Any] = []

    def make() -> list[tuple[Question, Hear | None]]:
        return [(questions.beat("guest"), heard.append), (questions.leave("guest"), None)]

    fleet.at_heartbeat(make)
    until(lambda: bool(heard))
    fleet.stop_at_heartbeat(make)
    assert heard[0][0] == 2
    server.kill()
    fleet.post(questions.beat("p"), heard.append)
    until(lambda: heard[-1] is None)


@pytest.mark.usefixtures("quick_heartbeat")
def test_who_asks_again_after_a_loss_can_ask_more_at_once(server: Server) -> None:
    asked: list[Any] = []
    with proxy_of(server) as proxy:
        fleet = ValkeyFleet(proxy.url)

        def hear(reply: Any) -> None:
            fleet.post(questions.beat("p"), lambda reply: asked.append(reply is not None))

        until(lambda: fleet.state == "up")
        proxy.cut()
        until(lambda: fleet.state == "down")
        fleet.at_heartbeat(make := lambda: [(questions.beat("p"), hear)])
        proxy.repair()
        until(lambda: bool(asked))
        assert asked[0]
        fleet.stop_at_heartbeat(make)
        fleet.close()


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_store_whose_replies_are_empty_is_lost(server: Server) -> None:
    with proxy_of(server) as proxy:
        fleet = ValkeyFleet(proxy.url)
        until(lambda: fleet.state == "up")
        proxy.answer(b"$-1\r\n")
        until(lambda: fleet.state == "down")
        proxy.answer(None)
        until(lambda: fleet.state == "up")
        fleet.close()


def test_a_process_that_leaves_no_longer_counts(server: Server, fleet: ValkeyFleet) -> None:
    other = ValkeyFleet(server.url)
    assert other.ask(questions.beat(other.process))[0] == 2
    other.close()
    until(lambda: fleet.ask(questions.beat(fleet.process))[0] == 1)


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_broken_inbox_is_a_lost_store(server: Server, fleet: ValkeyFleet) -> None:
    server.run("CLIENT", "KILL", "TYPE", "pubsub")
    until(lambda: bool(fleet.statistics()["faults"]))
    until(lambda: is_up(fleet))


async def ask_until_connected(fleet: ValkeyFleet, proxy: Proxy) -> None:
    """Ask until the running loop has a connection, beside that of threads and the inbox."""
    while proxy.connections < 3:
        assert await fleet.aask(questions.beat("p")) is not None
    await asyncio.sleep(0)


def test_a_loop_that_ends_while_it_asks_disturbs_no_other(server: Server) -> None:
    heard: list[Any] = []

    async def main() -> None:
        await ask_until_connected(fleet, proxy)
        proxy.hold()
        tasks.extend(asyncio.create_task(fleet.aask(beat_again(f"p{n}"))) for n in range(20))
        await asyncio.sleep(0)
        fleet.post(questions.beat("p"), heard.append)

    with proxy_of(server) as proxy:
        fleet = ValkeyFleet(proxy.url)
        until(lambda: is_up(fleet))
        tasks: list[asyncio.Task[Any]] = []
        asyncio.run(main())
        assert all(each.cancelled() for each in tasks)
        proxy.release()
        until(lambda: bool(heard))  # the thread of the fleet reads what the loop no longer does
        assert heard[0][0] >= 2
        until(lambda: is_up(fleet))
        assert fleet.ask(questions.beat("p")) is not None
        fleet.close()


class UnwatchingLoop(asyncio.SelectorEventLoop):
    """A loop that cannot watch sockets, like the one of Windows."""

    def add_reader(self, *_: Any) -> None:  # type: ignore[override]  # refuses whatever it gets
        raise NotImplementedError


def test_a_loop_that_cannot_watch_sockets_asks_over_the_connection_of_threads(
    server: Server, fleet: ValkeyFleet
) -> None:
    async def main() -> None:
        for _ in range(3):
            asked = [fleet.aask(questions.beat(f"p{n}")) for n in range(10)]
            assert None not in await asyncio.gather(*asked)

    with asyncio.Runner(loop_factory=UnwatchingLoop) as runner:
        runner.run(main())
    assert fleet.statistics()["faults"] == {}


def test_a_blocked_loop_does_not_lose_the_store(server: Server) -> None:
    async def main() -> Any:
        await ask_until_connected(fleet, proxy)
        asked = asyncio.create_task(fleet.aask(beat_again("p")))
        await asyncio.sleep(0)
        proxy.requests.clear()
        until(lambda: proxy.requests != [])  # a heartbeat, which the loop does not see
        return await asked

    with proxy_of(server) as proxy:
        fleet = ValkeyFleet(proxy.url)
        until(lambda: is_up(fleet))
        assert asyncio.run(main()) is not None
        assert fleet.statistics()["faults"] == {}
        fleet.close()


@forks
def test_a_child_that_is_forked_in_a_running_loop_leaves_its_connection_alone(
    server: Server,
) -> None:
    def child() -> object:
        return claim(fleet), asyncio.run(fleet.aask(questions.beat("child")))[0] > 1

    async def main() -> None:
        await ask_until_connected(fleet, proxy)
        asked = [asyncio.create_task(fleet.aask(beat_again("p"))) for _ in range(5)]
        await asyncio.sleep(0)
        assert in_child(child) == str((questions.LEAD, True))
        assert None not in await asyncio.gather(*asked)

    with proxy_of(server) as proxy:
        fleet = ValkeyFleet(proxy.url)
        until(lambda: is_up(fleet))
        asyncio.run(main())
        assert fleet.statistics()["faults"] == {}
        fleet.close()


@forks
def test_a_forked_child_is_another_process_of_the_fleet(server: Server, fleet: ValkeyFleet) -> None:
    claim(fleet)

    def child() -> object:
        assert fleet.process != parent
        assert claim(fleet) > 0
        return fleet.statistics()["state"]

    parent = fleet.process
    assert in_child(child) == "up"
    assert claim(fleet) == questions.LEAD


@pytest.mark.parametrize("url", ["", "localhost", "http://x", "valkey://", 5])
def test_what_is_not_the_url_of_a_store_is_refused_without_quoting_it(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="not the URL of a store"):
        ValkeyFleet(url)


def test_an_old_redis_py_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "__version__", "5.3.1")
    with pytest.raises(MissingDependencyError, match=r"redis 8 or newer, and 5\.3\.1") as caught:
        ValkeyFleet("valkey://host")
    assert 'pip install "agentkit-llms[fleet]"' in str(caught.value)


def rights_on_the_page() -> list[str]:
    page = (ROOT / "docs" / "how-to" / "fleet.md").read_text(encoding="utf-8")
    return page.partition("ACL SETUSER agentkit")[2].partition("```")[0].split()


@pytest.mark.parametrize(
    "missing", ["+evalsha", "+eval", "+zadd", "+hdel", "~ak1:*", "&ak1:*", "+scan", "+subscribe"]
)
def test_the_check_names_the_right_that_is_missing(server: Server, missing: str) -> None:
    rights = [each for each in rights_on_the_page() if each != missing]
    server.run("ACL", "SETUSER", "agentkit", *rights)
    found = check_store(server.url.replace("unix://", "unix://agentkit:password@"))["problem"]
    assert "lacks a right" in found
    assert found.endswith((f"and {missing}", "the page on fleets lists"))
    if missing not in ("+zadd", "+hdel"):  # Redis does not say which command a script lacks
        assert found.endswith(f"and {missing}")


@pytest.mark.parametrize(
    ("break_it", "option", "problem"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), "", "full: raise maxmemory, or set maxmemory-policy"),
        (("REPLICAOF", "127.0.0.1", "1"), "", "a replica, which is read-only: use its primary"),
        (("CONFIG", "SET", "requirepass", "secret"), "", "requires a password"),
        (("PING",), "?db=99", "no database with the number that the URL names"),
    ],
)
def test_the_check_says_what_to_do_about_a_server_that_answers_with_errors(
    server: Server, break_it: tuple[str, ...], option: str, problem: str
) -> None:
    server.run(*break_it)
    assert problem in check_store(f"{server.url}{option}")["problem"]


class AnswerLikeHTTP(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if self.request.recv(4096):
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize(
    ("scheme", "problem"),
    [
        ("valkey", "what answers is neither Valkey nor Redis: check the host and the port"),
        ("valkeys", "the server does not speak TLS on this port: use the scheme valkey"),
    ],
)
def test_the_check_recognizes_a_server_of_another_kind(scheme: str, problem: str) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), AnswerLikeHTTP) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        found = check_store(f"{scheme}://127.0.0.1:{other.server_address[1]}")
        other.shutdown()
    assert problem in found["problem"]


def test_the_check_says_that_there_is_no_socket(tmp_path: Path) -> None:
    problem = check_store(f"unix://{tmp_path}/none")["problem"]
    assert problem == "no server has opened the socket that the URL names"


def test_the_rights_that_the_documentation_lists_are_enough(server: Server) -> None:
    rights = rights_on_the_page()
    assert check_store(server.url)["problem"] == ""
    server.run("ACL", "SETUSER", "agentkit", *rights)
    url = server.url.replace("unix://", "unix://agentkit:password@")
    assert check_store(url)["problem"] == ""
    fleet = ValkeyFleet(url)
    assert claim(fleet) == questions.LEAD
    fleet.post(questions.shared_complete(KEYS, f"{fleet.process}:1", "answer", b"it", ttl=60.0))
    until(lambda: claim(fleet) == b"it")
    fleet.ask(questions.shared_renew(KEYS, "other"))
    fleet.clear("ak1:")
    until(lambda: claim(fleet) == questions.LEAD)
    assert fleet.statistics()["faults"] == {}
    fleet.close()
