"""pyrate-limiter: its bucket in Redis, which waits for room."""

# mypy: disable-error-code="import-not-found, misc"
# The peer lives in its own environment, where types are not checked.

from __future__ import annotations

import asyncio

from pyrate_limiter import Duration, Limiter, Rate, RedisBucket
from redis.asyncio import Redis

from benchmarks.fleet_contenders import harness


async def main() -> None:
    options = harness.options()
    upstream = harness.Upstream()
    client = Redis.from_url(options["url"])
    bucket = await RedisBucket.init([Rate(harness.LIMIT, Duration.MINUTE)], client, "m")
    limiter = Limiter(bucket)

    async def ask() -> None:
        await limiter.try_acquire_async("m")
        await upstream.limited()

    await harness.work(upstream, ask, options)


asyncio.run(main())
