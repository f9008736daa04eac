"""A user's program as type checkers see it: the right lines pass, and the wrong ones do not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import agentkit

ROOT = Path(agentkit.__file__).parent.parent

PROGRAM = """
from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from pydantic import BaseModel

from agentkit import Agent, AgentResult, AsyncStream, LLMClient, LLMManager, Response, Stream
from agentkit.bedrock import BedrockResponse, create_user_message
from agentkit.bedrock import LLMManager as BedrockManager


class City(BaseModel):
    name: str


def blocking(llm: LLMManager) -> None:
    assert_type(llm.generate("x"), str)
    assert_type(llm.complete("x"), Response[Any])
    assert_type(llm.complete("x", response_model=None), Response[Any])
    assert_type(llm.complete("x", response_model=City), Response[City])
    assert_type(llm.complete("x", response_model=City).parsed, City | None)
    assert_type(llm.complete("x", response_model=list[int]), Response[list[int]])
    llm.complete("x", response_model=City | None)
    llm.complete("x", model=["a", "b"], temperature=0.2, deadline=3)
    with llm.stream("x", response_model=City) as stream:
        assert_type(stream, Stream[City])
        assert_type(stream.partials(), Iterator[City])
        for city in stream.partials():
            city.name.upper()
            city.nam  # wrong
    assert_type(stream.response.parsed, City | None)
    plain: Stream = llm.stream("x")
    for text in plain:
        text.upper()
    llm.complete("x").txt  # wrong
    llm.complete("x", response_model=City).parsed.name  # wrong
    llm.complete("x", response_model="City")  # wrong
    llm.complete("x", deadline="3")  # wrong
    llm.complete(3)  # wrong
    wrong: Response[City] = llm.complete("x", response_model=list[int])  # wrong


async def looping(llm: LLMManager, client: LLMClient) -> None:
    assert_type(await llm.agenerate("x"), str)
    assert_type(await llm.acomplete("x"), Response[Any])
    assert_type(await llm.acomplete("x", response_model=City), Response[City])
    async with llm.astream("x", response_model=City) as stream:
        assert_type(stream, AsyncStream[City])
        assert_type(stream.partials(), AsyncIterator[City])
    assert_type(await client.complete("x"), Response[Any])
    assert_type(await client.complete("x", response_model=City), City)
    assert_type(client.stream_complete("x", response_model=City), AsyncStream[City])
    (await client.complete("x", response_model=City)).text  # wrong
    llm.acomplete("x").parsed  # wrong


async def running(agent: Agent) -> None:
    assert_type(agent.run("x"), AgentResult[Any])
    assert_type(agent.run("x", response_model=City), AgentResult[City])
    assert_type((await agent.arun("x", response_model=City)).parsed, City | None)
    agent.run("x", response_model=City).parsed.nam  # wrong


def over_regions(manager: BedrockManager, words: str) -> str | None:
    message = create_user_message().add_text(words).build()
    assert_type(manager.converse(messages=[message]), BedrockResponse)
    manager.converse(messages=message)  # wrong
    return manager.converse(messages=[message]).get_content()
"""

WRONG = {
    number for number, line in enumerate(PROGRAM.splitlines(), start=1) if line.endswith("# wrong")
}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def checked(program: Path, *command: str) -> str:
    """What the checker says; it reads agentkit from here, and keeps what it learns of it."""
    done = subprocess.run(
        [sys.executable, "-m", *command, str(program)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.promise("S0-19")
@pytest.mark.processes
def test_mypy_knows_the_type_of_an_answer(program: Path) -> None:
    assert (ROOT / "agentkit/py.typed").exists()
    cache = ROOT / ".mypy_cache" / "users"
    out = checked(program, "mypy", "--strict", "--config-file=", f"--cache-dir={cache}")
    found = {int(line) for line in re.findall(r"program\.py:(\d+): error", out)}
    assert found == WRONG, out


def test_pyright_knows_the_type_of_an_answer(program: Path) -> None:
    pytest.importorskip("pyright", reason="it is in the extra dev")
    out = checked(program, "pyright", "--outputjson", f"--pythonpath={sys.executable}")
    errors = [each for each in json.loads(out)["generalDiagnostics"] if each["severity"] == "error"]
    found = {each["range"]["start"]["line"] + 1 for each in errors}
    assert found == WRONG, errors
