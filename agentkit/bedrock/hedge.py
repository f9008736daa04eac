"""Hedging: a second request if the first is slow; the first answer counts.

Both requests cost, so a run is hedged only if its configuration says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

R = TypeVar("R")


def hedged(
    first: Callable[[], R], second: Callable[[], R], after: float, good: Callable[[R], bool]
) -> R:
    """The result of `first`, or of `second`, which starts after `after` seconds without a result.

    The first good result counts, else the last one. The other call is abandoned: it ends by
    itself, and its result is dropped.
    """
    threads = ThreadPoolExecutor(2, "agentkit-hedge")
    try:
        pending = {threads.submit(copy_context().run, first)}
        done, pending = wait(pending, timeout=after)
        if not done:
            pending = {*pending, threads.submit(copy_context().run, second)}
        while True:
            if not done:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for each in done:
                if good(result := each.result()) or not pending:
                    return result
            done = set()
    finally:
        threads.shutdown(wait=False)


async def ahedged(
    first: Callable[[], Awaitable[R]],
    second: Callable[[], Awaitable[R]],
    after: float,
    good: Callable[[R], bool],
) -> R:
    """Like `hedged`, for asyncio; the other call is cancelled, which closes its connection."""
    tasks = {asyncio.ensure_future(first())}
    try:
        done, pending = await asyncio.wait(tasks, timeout=after)
        if not done:
            tasks.add(asyncio.ensure_future(second()))
            pending = set(tasks)
        while True:
            if not done:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                if good(result := each.result()) or not pending:
                    return result
            done = set()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
