"""The cost of the Bedrock manager over plain boto3, and with many streams and requests.

Run as `python -m benchmarks.bedrock`: it prints one JSON line and fails if a target is missed. One
local server in a process of its own answers every request.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Self

from agentkit.bedrock import (
    AuthConfig,
    AuthenticationType,
    BedrockConverseRequest,
    Clients,
    LLMManager,
    ParallelLLMManager,
    ParallelProcessingConfig,
    RetryConfig,
    create_user_message,
)
from benchmarks.measure import Figures, quantile

MODEL, EAST, WEST = "Claude 3 Haiku", "us-east-1", "us-west-2"
STREAMS, EVENTS, DELAY = 200, 43, 0.05
LIMITS = {
    "added_ms": 0.5,
    "construction_ms": 150.0,
    "streams_s": 3.0,
    "loop_lag_p99_ms": 10.0,
    "clients": 2,
    "sts_calls": 1,
    "lost": 0,
    "attempts_at_the_dead": 15,
}

SERVER = """
import sys
from agentkit.testing import WireServer
text, delay = " ".join(["word"] * int(sys.argv[1])), float(sys.argv[2])
with WireServer(reply=text, chunk_delay=delay) as server:
    print(server.bedrock_url, flush=True)
    sys.stdin.read()
"""
AUTH = AuthConfig(
    auth_type=AuthenticationType.CREDENTIALS, access_key_id="AKIAEXAMPLE", secret_access_key="made"
)


class Server:
    """A local server in a process of its own; leaving the context kills it."""

    def __init__(self, words: int = 5, delay: float = 0.0) -> None:
        command = [sys.executable, "-c", SERVER, str(words), str(delay)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def message() -> dict[str, Any]:
    built: dict[str, Any] = create_user_message().add_text("hi").build()
    return built


def manager(url: str, **how: Any) -> LLMManager:
    return LLMManager([MODEL], [EAST, WEST], AUTH, endpoint_url=url, **how)


def overhead() -> Figures:
    """The time added to boto3's p50, alternating in one process."""
    import boto3
    from botocore.config import Config

    with Server() as server, manager(server.url) as llm:
        bare = boto3.client(
            "bedrock-runtime",
            region_name=EAST,
            endpoint_url=server.url,
            aws_access_key_id="AKIAEXAMPLE",
            aws_secret_access_key="made",
            config=Config(retries={"total_max_attempts": 1}),
        )
        asked = [message()]
        model_id = "us.anthropic.claude-3-haiku-20240307-v1:0"

        def p50(call: Callable[[], object]) -> float:
            times = []
            for _ in range(150):
                began = time.perf_counter()
                call()
                times.append(time.perf_counter() - began)
            return 1000.0 * median(times)

        p50(lambda: llm.converse(asked))
        p50(lambda: bare.converse(modelId=model_id, messages=asked))
        alone, added = [], []
        for _ in range(7):
            alone.append(p50(lambda: bare.converse(modelId=model_id, messages=asked)))
            added.append(p50(lambda: llm.converse(asked)) - alone[-1])
        bare.close()
    return {"bare_ms": median(alone), "added_ms": median(added)}


def construction() -> Figures:
    """The time to construct a manager offline, after the import, in new processes."""
    code = (
        "import time\nfrom agentkit.bedrock import LLMManager\nbegan = time.perf_counter()\n"
        f"LLMManager([{MODEL!r}], [{EAST!r}, {WEST!r}])\n"
        "print(1000 * (time.perf_counter() - began))"
    )
    times = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5)]
    return {"construction_ms": median(times)}


def streams() -> Figures:
    """200 concurrent streams on one event loop, and the lag of that loop."""

    async def run(url: str) -> Figures:
        llm = manager(url, max_concurrency=STREAMS)
        lags: list[float] = []

        async def watch() -> None:
            while True:
                began = time.perf_counter()
                await asyncio.sleep(0.005)
                lags.append(1000.0 * (time.perf_counter() - began - 0.005))

        async def read() -> None:
            async for _ in llm.aconverse_stream([message()]):
                pass

        await read()
        watching = asyncio.create_task(watch())
        began = time.perf_counter()
        await asyncio.gather(*(read() for _ in range(STREAMS)))
        seconds = time.perf_counter() - began
        watching.cancel()
        await llm.aclose()
        return {"streams_s": seconds, "loop_lag_p99_ms": quantile(lags, 0.99)}

    with Server(EVENTS, DELAY) as server:
        return asyncio.run(run(server.url))


def sharing() -> Figures:
    """The clients and STS calls made for 100 requests over two Regions."""
    import botocore.session

    made: Counter[str] = Counter()
    create = botocore.session.Session.create_client

    def counted(self: Any, service: str, *args: Any, **how: Any) -> Any:
        made[service] += 1
        return create(self, service, *args, **how)

    botocore.session.Session.create_client = counted
    try:
        with Server() as server:
            rotating = RetryConfig(region_order="rotate")
            with manager(server.url, retry_config=rotating) as llm:
                for _ in range(100):
                    llm.converse([message()])
    finally:
        botocore.session.Session.create_client = create
    return {"clients": made["bedrock-runtime"], "sts_calls": made["sts"]}


def dying_region() -> Figures:
    """500 parallel requests, halfway through which one Region dies."""
    with Server() as alive, Server() as dying:
        config = ParallelProcessingConfig(max_concurrent_requests=10)
        clients = _ClientsByRegion({EAST: dying.url, WEST: alive.url})
        llm = ParallelLLMManager([MODEL], [EAST, WEST], config, clients=clients)
        requests = [BedrockConverseRequest([message()]) for _ in range(500)]
        killed = []

        def progress(done: int, _: int) -> None:
            if done == 250:
                dying.__exit__()
                killed.append(time.perf_counter())

        done = llm.converse_parallel(requests, on_progress=progress)
        refused = sum(
            attempt.region == EAST and not attempt.success
            for response in done.request_responses.values()
            for attempt in response.attempts
        )
        llm.close()
        clients.close()
    return {
        "requests": len(requests),
        "lost": len(done.get_failed_responses()),
        "attempts_at_the_dead": refused,
    }


class _ClientsByRegion(Clients):
    """Clients with an address of its own for each Region."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        super().__init__(AUTH)
        self._by_region = {each: Clients(AUTH, endpoint_url=url) for each, url in urls.items()}

    def runtime(self, region: str) -> Any:
        """The client for the address of `region`."""
        return self._by_region[region].runtime(region)

    def close(self) -> None:
        """Close the connections to every Region."""
        super().close()
        for each in self._by_region.values():
            each.close()


def bedrock() -> Figures:
    """All measurements, one after another."""
    figures: Figures = {}
    for work in (overhead, construction, streams, sharing, dying_region):
        figures.update(work())
    return figures


def main() -> None:
    """Measure everything, print the figures, and fail if a target is missed."""
    figures = bedrock()
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))
    broken = [name for name, limit in LIMITS.items() if figures[name] > limit]
    if broken:
        sys.exit(f"targets missed: {', '.join(broken)}")


if __name__ == "__main__":
    main()
