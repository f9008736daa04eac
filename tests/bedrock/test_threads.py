"""One manager for many threads and requests; it leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentkit.bedrock import LLMManager
from agentkit.testing import WireServer
from tests.bedrock.runtime import HAIKU, FakeClients, echo, manager, message
from tests.providers.bedrock.wired import AUTH

EAST, WEST = "us-east-1", "us-west-2"


@pytest.mark.threads
@pytest.mark.promise("B32", "S0-56")
def test_32_threads_get_their_own_answers_from_evenly_used_regions() -> None:
    clients = FakeClients(then=echo)
    llm = manager(clients, retry={"region_order": "rotate"})
    with ThreadPoolExecutor(32) as threads:
        replies = list(threads.map(lambda n: llm.converse([message(f"{n}")]), range(400)))
    assert [each.get_content() for each in replies] == [f"to {n}" for n in range(400)]
    assert Counter(clients.order) == {EAST: 200, WEST: 200}


@pytest.mark.wire
@pytest.mark.promise("S0-61")
def test_closing_leaves_no_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    with WireServer(reply="x") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", server.bedrock_url)
        with LLMManager([HAIKU], [EAST], auth_config=AUTH) as llm:
            assert asyncio.run(llm.aconverse([message()])).get_content() == "x"
            assert llm.converse([message()], timeout=30).get_content() == "x"
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive(), thread.name
    llm.close()


@pytest.mark.promise("S0-63")
def test_a_thousand_requests_leave_nothing_behind() -> None:
    clients = FakeClients(then="x")
    llm = manager(clients)

    def ask(count: int) -> int:
        for _ in range(count):
            llm.converse([message()])
        clients.asked.clear()
        gc.collect()
        return len(gc.get_objects())

    ask(50)
    first = ask(50)
    assert ask(1000) - first < 200
