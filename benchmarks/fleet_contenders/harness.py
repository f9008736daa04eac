"""The work of one process of a fleet, the same for each library; imports the standard library only.

A process says "ready", reads the time at which all begin, works, and prints what it sent as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

LIMIT = 500
"""Requests a minute."""
THRESHOLD = 5
"""Failures in a row after which a dead provider is left alone."""
RECOVERY = 2.0
"""Seconds until it is asked again."""
HEALTHY, DEAD = 1.0, 9.5
"""Seconds of an outage, and of what is before it."""


class ProviderDownError(Exception):
    """The provider is dead."""


class Upstream:
    """A provider that notes when it is asked. It is down in an outage."""

    def __init__(self) -> None:
        self.begin = float("inf")
        self.sent: list[float] = []
        self.admitted: list[float] = []
        """When requests were admitted, if the library shows it."""

    async def limited(self) -> str:
        """A request under a limit."""
        self.sent.append(time.time())
        await asyncio.sleep(0.05)
        return "ok"

    async def failing(self) -> str:
        """A request in an outage.

        Raises:
            ProviderDownError: it is down.
        """
        await asyncio.sleep(0.01)
        now = time.time()
        if HEALTHY <= now - self.begin < HEALTHY + DEAD:
            self.sent.append(now)
            raise ProviderDownError
        return "ok"


async def limit(
    upstream: Upstream, ask: Callable[[], Awaitable[Any]], callers: int, seconds: float
) -> None:
    """`callers` tasks that send as much as they may. `ask` may raise when it may not."""
    end = upstream.begin + seconds

    async def caller() -> None:
        while time.time() < end:
            try:
                async with asyncio.timeout(max(0.01, end - time.time())):
                    await ask()
            except Exception:  # noqa: BLE001 - refused: each library has an error of its own
                await asyncio.sleep(0.2)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def outage(
    upstream: Upstream, ask: Callable[[], Awaitable[Any]], rate: float, lost: list[str]
) -> None:
    """Send `rate` requests a second, whether answers arrive or not."""

    async def one() -> None:
        try:
            await ask()
        except Exception as error:  # noqa: BLE001 - counted
            lost.append(type(error).__name__)

    tasks = []
    for number in range(int((HEALTHY + DEAD) * rate)):
        await asyncio.sleep(max(0.0, upstream.begin + number / rate - time.time()))
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)


async def work(
    upstream: Upstream, ask: Callable[[], Awaitable[Any]], options: dict[str, Any]
) -> None:
    """Do the work of `options` after a first call, which imports, and print what was sent."""
    await ask()
    print("ready", flush=True)
    upstream.begin = float(await asyncio.to_thread(sys.stdin.readline))
    lost: list[str] = []
    await asyncio.sleep(max(0.0, upstream.begin - time.time()))
    if options["work"] == "limit":
        await limit(upstream, ask, options["callers"], options["seconds"])
    else:
        await outage(upstream, ask, options["rate"], lost)
    found = {"sent": upstream.sent, "admitted": upstream.admitted, "lost": len(lost)}
    print(json.dumps(found), flush=True)


def options() -> dict[str, Any]:
    """What the parent asks for."""
    found: dict[str, Any] = json.loads(sys.argv[1])
    return found
