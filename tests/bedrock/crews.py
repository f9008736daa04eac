"""Parallel runs over fake clients."""

from __future__ import annotations

import asyncio
from typing import Any

from agentkit.bedrock import (
    BedrockConverseRequest,
    ParallelLLMManager,
    ParallelProcessingConfig,
    ParallelResponse,
    RetryConfig,
)
from tests.bedrock.runtime import HAIKU, QUICK, FakeClients, message

REGIONS = ["us-east-1", "us-west-2", "eu-west-1"]


def crew(
    clients: FakeClients, regions: list[str] | None = None, *, retry: Any = None, **how: Any
) -> ParallelLLMManager:
    clients.concurrency = max(clients.concurrency, how.get("max_concurrent_requests", 5))
    return ParallelLLMManager(
        [HAIKU],
        regions or REGIONS,
        ParallelProcessingConfig(**how),
        retry_config=RetryConfig(**{**QUICK, **(retry or {})}),
        clients=clients,
    )


def jobs(count: int, **how: Any) -> list[BedrockConverseRequest]:
    return [
        BedrockConverseRequest([message(f"{number}")], request_id=f"r{number}", **how)
        for number in range(count)
    ]


def carry_out(
    crew_: ParallelLLMManager, requests: Any, mode: str = "sync", *args: Any, **how: Any
) -> ParallelResponse:
    if mode == "sync":
        return crew_.converse_parallel(requests, *args, **how)
    return asyncio.run(crew_.aconverse_parallel(requests, *args, **how))


def text_of(arguments: dict[str, Any]) -> str:
    return str(arguments["messages"][0]["content"][0]["text"])


def echo(region: str, arguments: dict[str, Any]) -> str:
    return f"answer {text_of(arguments)}"
