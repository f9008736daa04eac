"""agentkit: one manager a process, with its defaults but for times and limits."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from agentkit import BreakerPolicy, LLMManager, RateLimits
from agentkit.state.shared_limits import SharedLimits
from benchmarks.fleet_contenders import harness


class ServerError(Exception):
    status_code = 503


async def main() -> None:
    options = harness.options()
    upstream = harness.Upstream()

    async def primary(_prompt: str, _options: dict[str, Any]) -> str:
        if options["work"] == "limit":
            return await upstream.limited()
        try:
            return await upstream.failing()
        except harness.ProviderDownError:
            raise ServerError from None

    take = SharedLimits.take

    def note(*args: Any) -> object:
        upstream.admitted.append(time.time())
        return take(*args)

    SharedLimits.take = note  # type: ignore[assignment, method-assign]  # to note the moment

    async def spare(_prompt: str, _options: dict[str, Any]) -> str:
        return "ok"

    llm = LLMManager(fleet=options["url"], enable_caching=False, max_retries=1)
    breaker = BreakerPolicy(failure_threshold=harness.THRESHOLD, recovery_timeout=harness.RECOVERY)
    limits = RateLimits(harness.LIMIT) if options["work"] == "limit" else None
    llm.register_model("m", primary, {"version": "1"}, breaker=breaker, limits=limits)
    if limits is None:
        llm.register_model("spare", spare, {"version": "1"})
        llm.set_fallback_chain(["m", "spare"])
    if options["url"] != "off":
        while llm.get_status()["fleet"]["state"] != "up":  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.01)
    await harness.work(upstream, lambda: llm.acomplete("hello"), options)
    llm.close()


asyncio.run(main())
