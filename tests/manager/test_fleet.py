"""Managers that share calls and responses through a store."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit import LLMManager
from agentkit.errors import ConfigurationError, ServerError
from agentkit.policy.budget import Budget
from agentkit.policy.retry import RetryPolicy
from agentkit.types import Response, ToolCall, Usage
from tests import programs
from tests.helpers import Ask, each_way, generate, until
from tests.state.servers import Server


class Model:
    """A model that is the same one in every manager; it answers when it is released."""

    version = "1"

    def __init__(self) -> None:
        self.calls = 0
        self.entered, self.release = threading.Event(), threading.Event()
        self.outcomes: list[Any] = []

    def __call__(self, prompt: str, options: dict[str, Any]) -> Any:
        self.calls += 1
        self.entered.set()
        assert self.release.wait(20)
        outcome = self.outcomes.pop(0) if self.outcomes else f"answer to {prompt}"
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def make(server: Server, model: Model) -> Iterator[Any]:
    made: list[LLMManager] = []

    def manager(url: str | None = None, **options: Any) -> LLMManager:
        options = {"cache": "memory", "max_retries": 1, **options}
        llm = LLMManager(fleet=url or server.url, **options)
        made.append(llm)
        llm.register_model("m", model, {"version": "1"})
        until(lambda: status(llm)["state"] == "up" or url is not None)
        return llm

    yield manager
    model.release.set()
    for each in made:
        each.close()


def status(llm: LLMManager) -> dict[str, Any]:
    found: dict[str, Any] = llm.get_status()["fleet"]
    return found


def in_threads(*work: Any) -> tuple[list[threading.Thread], list[Any]]:
    results: list[Any] = []

    def carry(one: Any) -> None:
        try:
            results.append(one())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=carry, args=(one,)) for one in work]
    for each in threads:
        each.start()
    return threads, results


def waits(server: Server) -> int:
    """How many processes wait for the shared calls of others."""
    with server.client() as client:
        records = [client.get(key) or b"" for key in client.scan_iter("ak1:*c")]
    return sum(record.count(b" ") - 1 for record in records)  # the end of the lease, and the holder


def test_identical_requests_of_a_fleet_make_one_upstream_call(
    make: Any, model: Model, server: Server
) -> None:
    managers = [make() for _ in range(3)]
    threads, results = in_threads(
        *(lambda llm=llm: llm.generate("hi") for llm in managers for _ in range(10))
    )
    until(lambda: waits(server) == 2)
    model.release.set()
    for each in threads:
        each.join()
    assert results == ["answer to hi"] * 30
    assert model.calls == 1


@each_way
def test_each_kind_of_call_gets_the_response_of_another_process(
    make: Any, model: Model, ask: Ask
) -> None:
    model.release.set()
    assert generate(make()) == ask(make()) == "answer to hi"
    assert model.calls == 1


def test_a_task_waits_for_the_call_of_another_process(
    make: Any, model: Model, server: Server
) -> None:
    first, second = make(), make()
    threads, results = in_threads(lambda: generate(first))
    assert model.entered.wait(10)

    async def main() -> str:
        task = asyncio.create_task(second.agenerate("hi"))
        while waits(server) == 0:
            await asyncio.sleep(0)
        model.release.set()
        text: str = await task
        return text

    results.append(asyncio.run(main()))
    threads[0].join()
    assert results == ["answer to hi"] * 2
    assert model.calls == 1


def test_a_shared_response_is_complete_and_marked_as_cached(make: Any, model: Model) -> None:
    model.release.set()
    model.outcomes = [
        Response("text", usage=Usage(3, 4), tool_calls=(ToolCall("1", "f", {"a": [1]}),))
    ]
    first, second = make().complete("hi"), make().complete("hi")
    assert (second.text, second.usage, second.tool_calls) == (
        first.text,
        first.usage,
        first.tool_calls,
    )
    assert (first.cached, second.cached) == (False, True)
    assert second.ledger is not None
    assert second.ledger.cache == "hit"


def test_a_response_from_another_process_needs_no_task(
    make: Any, model: Model, server: Server
) -> None:
    model.release.set()
    generate(make())
    until(lambda: len(server.run("KEYS", "ak1:*a")) == 1)
    second = make()
    started: list[Any] = []

    def start(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        started.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(start)
        assert await second.agenerate("hi") == "answer to hi"
        loop.set_task_factory(None)

    asyncio.run(main())
    assert (model.calls, started) == (1, [])


def test_a_response_from_another_process_is_kept_in_memory(make: Any, model: Model) -> None:
    model.release.set()
    generate(make())
    second = make()
    generate(second)
    asked = status(second)["questions"]
    assert generate(second) == "answer to hi"
    assert status(second)["questions"] == asked


def test_an_error_reaches_the_processes_that_wait_without_its_text(
    make: Any, model: Model, server: Server
) -> None:
    model.outcomes = [ServerError("secret text", status=503, retry_after=7.0)]
    managers = [make() for _ in range(2)]
    threads, results = in_threads(*(lambda llm=llm: llm.generate("hi") for llm in managers))
    until(lambda: waits(server) == 1)
    model.release.set()
    for each in threads:
        each.join()
    assert [type(each) for each in results] == [ServerError, ServerError]
    assert [(each.status, each.retry_after) for each in results] == [(503, 7.0)] * 2
    assert sorted("secret" in str(each) for each in results) == [False, True]
    assert model.calls == 1


@pytest.mark.parametrize(
    "options", [{"retry": RetryPolicy(max_attempts=1)}, {"budget": Budget(tokens=10**9)}]
)
def test_an_error_of_a_call_with_limits_of_its_own_is_its_own(
    make: Any, model: Model, server: Server, options: dict[str, Any]
) -> None:
    model.outcomes = [ServerError("of the leader", status=503)]
    first, second = make(), make()
    threads, results = in_threads(lambda: first.generate("hi", **options))
    assert model.entered.wait(10)
    more, answers = in_threads(lambda: second.generate("hi"))
    until(lambda: waits(server) == 1)
    model.release.set()
    for each in threads + more:
        each.join()
    assert isinstance(results[0], ServerError)
    assert answers == ["answer to hi"]


def test_a_cancelled_leader_leaves_the_call_to_another_process(
    make: Any, model: Model, server: Server
) -> None:
    second = make()
    started = threading.Event()

    async def slow(prompt: str, options: dict[str, Any]) -> str:
        started.set()
        await asyncio.Event().wait()
        return "never"

    first = LLMManager(fleet=server.url, cache="memory")
    first.register_model("m", slow, {"version": "1"})
    second.register_model("m", model, {"version": "1"}, replace=True)

    async def main() -> None:
        task = asyncio.create_task(first.agenerate("hi"))
        while not started.is_set():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    model.release.set()
    assert second.generate("hi") == "answer to hi"
    first.close()


def test_a_manager_that_is_closed_while_it_leads_hands_its_call_over_at_once(
    make: Any, model: Model, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentkit.state.questions.LEASE_MS", 10**6)
    first, others = make(), [make() for _ in range(2)]
    model.outcomes = ["of the first", "of the second"]
    threads, _ = in_threads(lambda: generate(first))
    assert model.entered.wait(10)
    more, results = in_threads(*(lambda llm=llm: generate(llm) for llm in others))
    until(lambda: waits(server) == 2)
    first.close()
    until(lambda: model.calls == 2)  # the first one still runs
    model.release.set()
    for each in more + threads:
        each.join()
    assert len(results) == 2
    assert len(set(results)) == 1
    assert model.calls == 2


def test_a_caller_that_is_cancelled_while_it_asks_the_store_leaves_the_others_a_call(
    make: Any, model: Model, server: Server
) -> None:
    llm = make()
    model.release.set()

    async def main() -> str:
        await asyncio.gather(*(llm.agenerate(f"connect {n}") for n in range(10)))
        server.pause()
        asked = status(llm)["questions"]
        tasks = [asyncio.create_task(llm.agenerate("hi")) for _ in range(3)]
        while status(llm)["questions"] == asked:
            await asyncio.sleep(0)
        tasks[0].cancel()
        server.resume()
        first, *others = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(first, asyncio.CancelledError)
        assert others == ["answer to hi"] * 2
        return "done"

    assert asyncio.run(main()) == "done"
    assert model.calls == 11


LEADER = """
import sys
from agentkit import LLMManager

def model(prompt, options):
    print("called", flush=True)
    sys.stdin.read()

llm = LLMManager(fleet=sys.argv[1], cache="memory")
llm.register_model("m", model, {"version": "1", "provider": "p"})
llm.generate("hi")
"""


@pytest.mark.processes
def test_a_killed_leader_costs_its_lease_and_no_error(server: Server) -> None:
    """The same key in both processes: a function named `model` of `__main__`, version 1."""

    def model(prompt: str, options: dict[str, Any]) -> str:
        return "from the follower"

    model.__module__, model.__qualname__ = "__main__", "model"
    leader = programs.start(LEADER, server.url)
    assert leader.stdout is not None
    assert leader.stdout.readline() == "called\n"
    with LLMManager(fleet=server.url, cache="memory") as llm:
        llm.register_model("m", model, {"version": "1", "provider": "p"})
        threads, results = in_threads(*(lambda: llm.generate("hi") for _ in range(3)))
        until(lambda: waits(server) == 1)
        os.kill(leader.pid, signal.SIGKILL)
        leader.communicate()
        for each in threads:
            each.join()
    assert results == ["from the follower"] * 3


def test_a_call_ends_at_its_deadline_while_another_process_works(
    make: Any, model: Model, server: Server
) -> None:
    first, second = make(), make()
    threads, _ = in_threads(lambda: generate(first))
    assert model.entered.wait(10)
    with pytest.raises(Exception, match="an identical call has no response yet"):
        second.generate("hi", deadline=0.05)
    model.release.set()
    threads[0].join()


def test_without_the_store_each_process_calls_for_itself(
    make: Any, model: Model, server: Server
) -> None:
    model.release.set()
    managers = [make() for _ in range(2)]
    server.pause()
    assert [generate(llm) for llm in managers] == ["answer to hi"] * 2
    assert model.calls == 2
    server.resume()


def test_a_flushed_store_costs_one_call_more(make: Any, model: Model, server: Server) -> None:
    model.release.set()
    generate(make())
    until(lambda: len(server.run("KEYS", "ak1:*a")) == 1)
    server.run("FLUSHALL")
    assert generate(make()) == generate(make()) == "answer to hi"
    assert model.calls == 2


def test_clearing_the_cache_clears_the_store_and_no_other_namespace(
    make: Any, model: Model, server: Server
) -> None:
    model.release.set()
    one, other = make(), make(cache_namespace="other")
    generate(one)
    generate(other)
    until(lambda: len(server.run("KEYS", "ak1:*a")) == 2)
    one.clear_cache()
    generate(one)
    assert model.calls == 3
    until(lambda: status(other)["alone"] == 0 and len(server.run("KEYS", "ak1:*a")) == 2)
    generate(make(cache_namespace="other"))
    assert model.calls == 3


def test_a_signed_response_is_not_accepted_without_the_secret(
    make: Any, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.release.set()
    monkeypatch.setenv("AGENTKIT_FLEET_SECRET", "one")
    generate(make())
    assert generate(make()) == "answer to hi"
    assert model.calls == 1
    for secret in ("two", ""):
        monkeypatch.setenv("AGENTKIT_FLEET_SECRET", secret)
        generate(make())
    assert model.calls == 3


def test_a_damaged_response_is_a_miss(make: Any, model: Model, server: Server) -> None:
    model.release.set()
    generate(make())
    until(lambda: bool(server.run("KEYS", "ak1:*a")))
    (key,) = server.run("KEYS", "ak1:*a")
    server.run("SET", key, b"AKRC\x01 forged")
    assert generate(make()) == "answer to hi"
    assert model.calls == 2
    until(lambda: server.run("GET", key) != b"AKRC\x01 forged")
    assert generate(make()) == "answer to hi"
    assert model.calls == 2


def test_the_environment_names_the_store(
    server: Server, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTKIT_FLEET", server.url)
    with LLMManager(cache="memory") as llm:
        until(lambda: status(llm)["state"] == "up")
    with LLMManager(cache="memory", fleet="off") as llm:
        assert llm.get_status()["fleet"] is None


def test_the_error_names_the_variable_that_has_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_FLEET", "localhost:6379")
    with pytest.raises(ConfigurationError, match="AGENTKIT_FLEET is not the URL of a store: it ha"):
        LLMManager()


def test_a_file_names_the_store(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "llm.yaml"
    path.write_text(
        f"fleet: {server.url}\nresponse_cache: memory\nproviders:\n"
        "  openai:\n    api_keys: k\n    models: m\n",
        encoding="utf-8",
    )
    with LLMManager.from_config(path) as llm:
        until(lambda: status(llm)["state"] == "up")


def test_a_password_in_the_url_of_a_file_is_hidden(tmp_path: Path) -> None:
    from agentkit.config.load import load_settings

    path = tmp_path / "llm.yaml"
    text = "fleet: {}\nproviders:\n  openai:\n    api_keys: k\n    models: m\n"
    path.write_text(text.format("valkey://:hunter2@host"), encoding="utf-8")
    settings = load_settings(path)
    assert settings.fleet == "valkey://:hunter2@host"
    assert "hunter2" not in repr(settings)
    path.write_text(text.format("http://:hunter2@host"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="not the URL of a store") as caught:
        load_settings(path)
    assert "hunter2" not in str(caught.value)


def test_without_a_fleet_there_is_none() -> None:
    with LLMManager() as llm:
        assert llm.get_status()["fleet"] is None
    with pytest.raises(ConfigurationError, match="fleet must be a str"):
        LLMManager(fleet=5)  # type: ignore[arg-type]


POSTS_AND_ENDS = """
import sys
from agentkit import LLMManager

llm = LLMManager(fleet=sys.argv[1], cache="memory")
llm.register_model("m", lambda prompt, options: "last words", {"version": "1"})
print(llm.generate("hi"))
"""


@pytest.mark.processes
def test_the_last_answer_of_a_process_is_shared_although_nothing_was_closed(
    server: Server,
) -> None:
    assert programs.run(POSTS_AND_ENDS, server.url) == "last words"
    assert len(server.run("KEYS", "ak1:*a")) == 1
    assert server.run("ZCARD", "ak1:{fleet}live") == 0


def test_variables_in_the_url_of_a_file_are_replaced(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "llm.yaml"
    path.write_text(
        "fleet: unix://${FLEET_SOCKET}\nresponse_cache: memory\nproviders:\n"
        "  openai:\n    api_keys: k\n    models: m\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigurationError, match="FLEET_SOCKET is not set"):
        LLMManager.from_config(path)
    monkeypatch.setenv("FLEET_SOCKET", server.socket)
    with LLMManager.from_config(path) as llm:
        until(lambda: status(llm)["state"] == "up")
