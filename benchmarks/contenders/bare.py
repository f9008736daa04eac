"""The callable itself, called directly: the baseline."""

# ruff: noqa: ARG001 - a model function takes two parameters, used or not

from __future__ import annotations

import asyncio

from benchmarks import measure
from benchmarks.measure import UPSTREAM, Figures


def trivial(prompt: str) -> str:
    return "ok"


async def atrivial(prompt: str) -> str:
    return "ok"


async def slow(prompt: str) -> str:
    await asyncio.sleep(UPSTREAM)
    return "ok"


def overhead() -> Figures:
    async def other() -> Figures:
        return await measure.aeach(lambda _: atrivial("hi"))

    return measure.sync_and_async(measure.each(lambda _: trivial("hi")), asyncio.run(other()))


def throughput() -> Figures:
    return asyncio.run(measure.throughput(lambda _: slow("hi")))


if __name__ == "__main__":
    measure.report({"overhead": overhead, "throughput": throughput})
