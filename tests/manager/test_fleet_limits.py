"""Managers that share their rate limits through a store."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentkit import ConnectionPool, LLMError, LLMManager, PoolExhaustedError, RateLimits
from agentkit.errors import ConfigurationError, RateLimitError
from agentkit.types import Quota, Request, Response, Usage
from tests.forks import forks, in_child
from tests.helpers import until
from tests.state.servers import Server

pytestmark = pytest.mark.usefixtures("quick_heartbeat")


class Model:
    """Counts its calls by key, in every form of a call."""

    provider = "counted"

    def __init__(self, key: str = "own", sent: list[str] | None = None) -> None:
        self.key = key
        self.sent: list[str] = [] if sent is None else sent
        self.answer: Any = Response("fine", usage=Usage(1, 1))

    def with_key(self, key: str) -> Model:
        other = Model(key, self.sent)
        other.answer = self.answer
        return other

    def find_key(self) -> str:
        return self.key

    def send(self, request: Request) -> Any:
        self.sent.append(self.key)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def asend(self, request: Request) -> Any:
        return self.send(request)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def make(server: Server, model: Model) -> Iterator[Any]:
    made: list[LLMManager] = []

    def manager(
        limits: RateLimits | None = None,
        *,
        registered: Any = None,
        pool: Any = None,
        **options: Any,
    ) -> LLMManager:
        options = {"cache": None, "max_retries": 1, "deadline": 5.0, **options}
        llm = LLMManager(fleet=server.url, **options)
        made.append(llm)
        llm.register_model(
            "m", model if registered is None else registered, limits=limits, pool=pool
        )
        if llm.get_status()["fleet"]["limits"]:
            until(lambda: shares(llm))
        return llm

    yield manager
    for each in made:
        each.close()


def counters(llm: LLMManager) -> dict[str, Any]:
    found: dict[str, Any] = llm.get_status()["fleet"]["limits"]["m"]
    return found


def shares(llm: LLMManager) -> bool:
    return bool(counters(llm)["shared"])


def limit_of(llm: LLMManager) -> Any:
    return llm.get_status()["pools"]["m"]["clients"][0]["limits"]["requests_per_minute"]


def ask(llm: LLMManager, count: int) -> list[str]:
    """The outcomes of `count` calls at once, in threads."""

    def one(_: int) -> str:
        try:
            return llm.complete("hi").text
        except LLMError as error:
            return type(error).__name__

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def aask(llm: LLMManager, count: int) -> list[Any]:
    """The outcomes of `count` calls and streams at once, in tasks."""

    async def streamed() -> str:
        return "".join([text async for text in llm.astream("hi")])

    async def main() -> list[Any]:
        calls = [llm.agenerate("hi") if n % 2 else streamed() for n in range(count)]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(main())


TEN = RateLimits(requests_per_minute=10)


def test_sync_and_async_calls_and_streams_of_all_managers_keep_one_limit(
    make: Any, model: Model
) -> None:
    first, second = make(TEN), make(TEN)
    assert ask(first, 4).count("fine") == 4
    assert aask(second, 4).count("fine") == 4
    assert ask(second, 5).count("fine") == 2
    assert ask(first, 2).count("fine") == 0
    assert len(model.sent) == 10
    assert counters(first)["granted"] == 4
    until(lambda: counters(first)["processes"] == 2)


@pytest.mark.parametrize("closes", [False, True])
def test_places_that_were_taken_ahead_and_not_used_are_those_of_other_managers(
    make: Any, model: Model, *, closes: bool
) -> None:
    sixty = RateLimits(requests_per_minute=60)
    first, second = make(sixty), make(sixty)
    assert [first.complete("hi").text for _ in range(25)] == ["fine"] * 25
    assert counters(first)["ahead"] > 0
    if closes:
        first.close()
    assert ask(second, 36).count("fine") == 35
    assert len(model.sent) == 60


def test_real_usage_makes_room_for_other_managers(make: Any, model: Model) -> None:
    limits = RateLimits(tokens_per_minute=2500)  # an estimate is 1024 and some
    first, second = make(limits, deadline=90.0), make(limits, deadline=90.0)
    assert ask(first, 6) == ["fine"] * 6
    assert aask(second, 6) == ["fine"] * 6


def test_on_limit_raise_waits_for_the_reply_of_the_store_only(make: Any, model: Model) -> None:
    from agentkit import RateLimitMiddleware

    options = {"middleware": [RateLimitMiddleware(3, None, None, on_limit="raise")]}
    first, second = make(**options), make(**options)
    assert ask(first, 2) == ["fine"] * 2
    assert sorted(ask(second, 2)) == ["PoolExhaustedError", "fine"]


@pytest.mark.parametrize("limits", [TEN, None])
def test_a_429_pauses_the_key_for_all_managers(
    make: Any, model: Model, limits: RateLimits | None
) -> None:
    first, *others = make(limits), make(TEN), make(None)
    model.answer = RateLimitError("slow down", retry_after=30.0)
    assert ask(first, 1) == ["RateLimitError"]
    model.answer = Response("fine")
    for each in (*others, make(TEN), make(None)):  # two of them start during the pause
        until(lambda llm=each: ask(llm, 1) == ["RateLimitError"])  # type: ignore[misc]
    count = len(model.sent)
    for each in others:
        ask(each, 3)
    assert len(model.sent) == count


def test_a_reported_limit_holds_for_all_managers(make: Any, model: Model) -> None:
    first, second = make(TEN), make(TEN)
    model.answer = Response("fine", quota=Quota(requests_per_minute=3))
    assert ask(first, 1) == ["fine"]
    model.answer = Response("fine")
    until(lambda: limit_of(second) == 3)
    assert ask(second, 4).count("fine") == 2


def test_the_same_key_shares_its_limit_in_a_pool_and_alone(make: Any, model: Model) -> None:
    pool = ConnectionPool(["own", "other"], limits=TEN)
    first, second = make(pool=pool), make(TEN, deadline=0.5)
    assert ask(first, 20).count("fine") == 20
    assert ask(second, 2).count("fine") == 0
    third = make(TEN, registered=Model("third"), deadline=30.0)  # for the store, others may use it
    assert ask(third, 2).count("fine") == 2


def test_keys_do_not_lie_in_the_store(make: Any, server: Server) -> None:
    llm = make(pool=ConnectionPool(["sk-secret-1", "sk-secret-2"], limits=TEN))
    ask(llm, 3)
    everything = [(key, server.run("DUMP", key)) for key in server.run("KEYS", "*")]
    assert everything
    assert b"secret" not in repr(everything).encode()


def test_a_store_that_lost_everything_admits_nothing_over_the_limit(
    make: Any, model: Model, server: Server
) -> None:
    first, second = make(TEN), make(TEN)
    assert ask(first, 8) == ["fine"] * 8
    server.run("FLUSHALL")
    ask(second, 5)
    until(lambda: shares(first) and shares(second))
    ask(second, 5)
    assert len(model.sent) <= 10


def test_without_the_store_on_fleet_loss_decides(make: Any, model: Model, server: Server) -> None:
    managers = {loss: make(TEN, on_fleet_loss=loss) for loss in ("share", "stop", "open")}
    until(lambda: counters(managers["share"])["processes"] == 3)
    server.kill()
    assert ask(managers["share"], 8).count("fine") == 3
    assert ask(managers["open"], 12).count("fine") == 10
    with pytest.raises(PoolExhaustedError, match="store of the fleet is lost"):
        managers["stop"].generate("hi")


@forks
def test_a_forked_child_takes_part_as_another_process(
    make: Any, model: Model, server: Server
) -> None:
    llm = make(TEN)
    assert ask(llm, 3) == ["fine"] * 3
    assert in_child(lambda: sorted(ask(llm, 8)).count("fine")) == "7"
    assert "fine" not in ask(llm, 1)
    assert server.counted_requests() == 10


def test_a_wrong_on_fleet_loss_is_refused() -> None:
    wrong: Any = "wait"
    with pytest.raises(ConfigurationError, match="on_fleet_loss"):
        LLMManager(on_fleet_loss=wrong)


def test_an_event_loop_runs_while_the_store_hangs(make: Any, model: Model, server: Server) -> None:
    llm = make(RateLimits(requests_per_minute=100))

    async def main() -> list[Any]:
        server.pause()
        asked = asyncio.gather(*(llm.agenerate("hi") for _ in range(30)))
        ticks = 0
        while not asked.done():
            await asyncio.sleep(0)
            ticks += 1
        assert ticks > 50
        return await asked

    try:
        assert asyncio.run(main()) == ["fine"] * 30
    finally:
        server.resume()


WORKER = """
import asyncio, json, sys
from agentkit import LLMError, LLMManager, RateLimits

async def main():
    llm = LLMManager(fleet=sys.argv[1], cache=None, max_retries=1)
    sent = []
    async def model(prompt, options):
        sent.append(prompt)
        print("sent", flush=True)
        return "fine"
    llm.register_model("m", model, limits=RateLimits(requests_per_minute=20))
    while not llm.get_status()["fleet"]["limits"]["m"]["shared"]:
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    calls = (llm.agenerate("hi", deadline=4) for _ in range(10))
    await asyncio.gather(*calls, return_exceptions=True)
    llm.close()

asyncio.run(main())
"""


@pytest.mark.processes
def test_real_processes_keep_one_limit_when_one_of_them_is_killed(server: Server) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    lines: list[str] = []
    readers = []
    for each in workers:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
        readers.append(threading.Thread(target=lambda out=each.stdout: lines.extend(out)))
        readers[-1].start()
    for each in workers:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    until(lambda: len(lines) >= 1)
    workers[0].send_signal(signal.SIGKILL)
    for each in workers:
        each.wait(30)
    for reader in readers:
        reader.join()
    for each in workers:
        each.communicate()
    assert 10 <= len(lines) <= 20
