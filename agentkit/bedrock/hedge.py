"""Hedging: a second request if the first is slow; the first answer counts.

Both requests cost, so a run is hedged only if its configuration says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, as_completed, wait
from contextvars import copy_context
from typing import TypeVar

R = TypeVar("R")


def hedged(
    first: Callable[[], R], second: Callable[[], R], after: float, good: Callable[[R], bool]
) -> R:
    """The result of `first`, or of `second`, which starts after `after` seconds without a result.

    The first good result counts, else the last one. The other call is abandoned: it ends by
    itself, on a daemon thread, and its result is dropped.
    """
    calls = [_start(first)]
    if not wait(calls, timeout=after).done:
        calls.append(_start(second))
    for done in as_completed(calls):
        if _is_good(done, good):
            break
    return done.result()


async def ahedged(
    first: Callable[[], Awaitable[R]],
    second: Callable[[], Awaitable[R]],
    after: float,
    good: Callable[[R], bool],
) -> R:
    """Like `hedged`, for asyncio; the other call is cancelled, which closes its connection."""
    tasks = [asyncio.ensure_future(first())]
    try:
        done, _ = await asyncio.wait(tasks, timeout=after)
        if not done:
            tasks.append(asyncio.ensure_future(second()))
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if pending and not any(_is_good(each, good) for each in done):
                done, _ = await asyncio.wait(pending)
        best = next((each for each in done if _is_good(each, good)), None)
        return (best or done.pop()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _start(call: Callable[[], R]) -> Future[R]:
    future: Future[R] = Future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is used
            future.set_exception(error)
        else:
            future.set_result(result)

    context = copy_context()
    threading.Thread(target=context.run, args=(run,), name="agentkit-hedge", daemon=True).start()
    return future


def _is_good(done: Future[R] | asyncio.Future[R], good: Callable[[R], bool]) -> bool:
    return not done.cancelled() and done.exception() is None and good(done.result())
