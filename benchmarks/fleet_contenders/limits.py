"""limits: its moving window in Redis, asked before each call."""

# mypy: disable-error-code="import-not-found, misc"
# The peer lives in its own environment, where types are not checked.

from __future__ import annotations

import asyncio

from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from benchmarks.fleet_contenders import harness


class RefusedError(Exception):
    """The limit is reached; the library does not wait."""


async def main() -> None:
    options = harness.options()
    upstream = harness.Upstream()
    url = options["url"].replace("unix://", "async+redis+unix://")
    limiter = MovingWindowRateLimiter(RedisStorage(url, implementation="redispy"))
    rate = RateLimitItemPerMinute(harness.LIMIT)

    async def ask() -> None:
        if not await limiter.hit(rate, "m"):
            raise RefusedError
        await upstream.limited()

    await harness.work(upstream, ask, options)


asyncio.run(main())
