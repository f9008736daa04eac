"""A forked child asks at once: its threads, loops and locks are its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import LLMManager
from tests.forks import forks, in_child


def blocking(prompt: str, kwargs: dict[str, Any]) -> str:
    return f"blocking {prompt}"


async def looping(prompt: str, kwargs: dict[str, Any]) -> str:
    await asyncio.sleep(0)
    return f"looping {prompt}"


@pytest.fixture
def llm() -> Iterator[LLMManager]:
    with LLMManager() as manager:
        manager.register_model("blocking", blocking, timeout=30)
        manager.register_model("looping", looping, timeout=30)
        manager.complete("warm", model="blocking")
        manager.complete("warm", model="looping")
        yield manager


@forks
@pytest.mark.parametrize("model", ["blocking", "looping"])
def test_a_child_calls_sync_and_async_models_although_the_parent_has_threads(
    llm: LLMManager, model: str
) -> None:
    assert in_child(lambda: llm.complete("child", model=model)) == f"{model} child"
    assert str(llm.complete("parent", model=model)) == f"{model} parent"


@forks
def test_a_child_does_not_wait_for_its_parents_shared_call(llm: LLMManager) -> None:
    entered, release = threading.Event(), threading.Event()
    parent = os.getpid()

    def slow(prompt: str, kwargs: dict[str, Any]) -> str:
        if os.getpid() == parent:
            entered.set()
            release.wait(10)
        return "answered"

    llm.register_model("slow", slow)
    thread = threading.Thread(target=llm.complete, args=("same",), kwargs={"model": "slow"})
    thread.start()
    entered.wait(10)
    try:
        assert in_child(lambda: llm.complete("same", model="slow", deadline=5)) == "answered"
    finally:
        release.set()
        thread.join()


@forks
def test_a_child_reads_the_answers_of_its_parent_from_disk(llm: LLMManager) -> None:
    assert in_child(lambda: llm.complete("warm", model="blocking").cached) == "True"
