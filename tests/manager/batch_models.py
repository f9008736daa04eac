"""Managers that worker processes make."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentkit import ConfigurationError, LLMManager, Response, Usage


def fair(log: str) -> LLMManager:
    """Answers with 100 tokens, and notes each prompt in a file."""

    async def model(prompt: str, options: dict[str, Any]) -> Response[Any]:
        note(Path(log), prompt)
        await asyncio.sleep(0)
        return Response("fine", Usage(50, 50))

    return manager(model)


def held(log: str) -> LLMManager:
    """Answers 10 requests. It says on stdout that it has others, and does not answer them."""
    asked = 0

    async def model(prompt: str, options: dict[str, Any]) -> str:
        nonlocal asked
        asked += 1
        note(Path(log), prompt)
        if asked > 10:
            os.write(1, b"held\n")
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return "fine"

    return manager(model)


def killed(log: str, gate: str) -> LLMManager:
    """The first process to have answered 10 requests is killed within the next four."""
    asked = 0
    fourth = asyncio.Event()

    async def model(prompt: str, options: dict[str, Any]) -> str:
        nonlocal asked
        asked += 1
        note(Path(log), prompt)
        if asked == 14:
            fourth.set()
            die_once(Path(gate))
        if 10 < asked < 14 and not exists(gate):  # a successor may not have 14 left
            await fourth.wait()
        await asyncio.sleep(0)
        return "fine"

    return manager(model)


def note(log: Path, prompt: str) -> None:
    """Add a line, in one write, which does not mix with those of other processes."""
    with log.open("a") as file:
        file.write(f"{prompt}\n")


def exists(path: str) -> bool:
    """Whether the file exists."""
    return Path(path).exists()


def die_once(gate: Path) -> None:
    """Kill this process, unless another one was killed before."""
    with suppress(FileExistsError):
        gate.touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)


def deadly() -> LLMManager:
    """Its process dies of the first request."""

    async def model(prompt: str, options: dict[str, Any]) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return prompt

    return manager(model)


def broken() -> LLMManager:
    """Cannot be made."""
    raise ConfigurationError("no such model")


def fatal() -> LLMManager:
    """Its process dies when it is made."""
    os._exit(1)


def manager(model: Any) -> LLMManager:
    """A manager of `model`, with a price."""
    llm = LLMManager(enable_caching=False)
    llm.register_model("m", model, {"cost_per_1k_tokens": 1.0})
    return llm
