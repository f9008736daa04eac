"""Bedrock over real sockets: boto3, the local server, and the core manager."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from agentkit import LLMManager, Response
from agentkit.bedrock import AuthConfig, AuthenticationType, Boto3Config
from agentkit.policy.breaker import CircuitBreaker
from agentkit.providers.bedrock.clients import Clients
from agentkit.providers.bedrock.converse import ConverseTarget
from agentkit.providers.bedrock.exchange import CONVERSE, ConverseCall
from agentkit.providers.bedrock.routes import ModelAccessMethod, ModelRoute
from agentkit.providers.bedrock.sessions import open_session
from agentkit.testing import WireServer
from agentkit.testing.wire.protocol import RecordedRequest
from agentkit.types import StreamEvent
from tests.helpers import with_backup

AUTH = AuthConfig(
    auth_type=AuthenticationType.CREDENTIALS,
    access_key_id="AKIDEXAMPLE",
    secret_access_key="not-a-real-secret",
)
MODEL = "maker.model-v1:0"
PROFILE = "us.maker.model-v1:0"
REGION = "us-east-1"
DIRECT = ModelRoute(ModelAccessMethod.DIRECT, MODEL)
REGIONAL = ModelRoute(ModelAccessMethod.REGIONAL_CRIS, PROFILE)
ANSWER = "The capital is Paris."
MODES = ("sync", "async")


def region_of(request: RecordedRequest) -> str:
    """The Region a request was signed for."""
    found = re.search(r"Credential=[^/]+/\d{8}/([^/]+)/bedrock/", request.headers["authorization"])
    assert found is not None
    return found[1]


@functools.cache
def _session(config: AuthConfig) -> Any:
    """One for all tests: a session's first client costs most."""
    return open_session(config)


@contextmanager
def clients_at(url: str, **how: Any) -> Iterator[Clients]:
    """Clients that ask `url` instead of AWS."""
    limits = Boto3Config(read_timeout=20, connect_timeout=5)
    how = {"session_factory": _session, "concurrency": 8, **how}
    with Clients(AUTH, limits, endpoint_url=url, **how) as clients:
        yield clients


def target(clients: Clients, *routes: ModelRoute, region: str = REGION) -> ConverseTarget:
    return ConverseTarget("Model", region, routes or (DIRECT,), clients)


def manager(
    adapter: Any,
    *,
    breaker: CircuitBreaker | None = None,
    timeout: float = 20.0,
    attempts: int = 1,
    backup: bool = False,
) -> LLMManager:
    """A manager of one target, with a model to fall back on if wanted."""
    return with_backup(adapter, breaker=breaker, timeout=timeout, attempts=attempts, backup=backup)


def ask(llm: LLMManager, mode: str, *, stream: bool = False, **asked: Any) -> Response[Any]:
    """The complete answer, sync or async, streamed or not."""
    return heard(llm, mode, stream=stream, **asked)[1]


def heard(
    llm: LLMManager, mode: str, *, stream: bool = True, **asked: Any
) -> tuple[list[StreamEvent], Response[Any]]:
    """The events of a stream and the complete answer."""
    asked = {"prompt_or_messages": "capital?", **asked}
    prompt = asked.pop("prompt_or_messages")
    if mode == "async":
        return asyncio.run(_aheard(llm, prompt, stream, asked))
    if not stream:
        return [], llm.complete(prompt, **asked)
    with llm.stream(prompt, **asked) as opened:
        events = list(opened.events())
    return events, opened.response


async def _aheard(
    llm: LLMManager, prompt: Any, stream: bool, asked: dict[str, Any]
) -> tuple[list[StreamEvent], Response[Any]]:
    if not stream:
        return [], await llm.acomplete(prompt, **asked)
    async with llm.astream(prompt, **asked) as opened:
        events = [event async for event in opened.events()]
    return events, opened.response


def given(omittable: Iterable[str] = (), **arguments: Any) -> dict[str, Any]:
    """Parameters of a request with Converse's own arguments."""
    messages = [{"role": "user", "content": [{"text": "capital?"}]}]
    call = ConverseCall({"messages": messages, **arguments}, omittable=frozenset(omittable))
    return {CONVERSE: call}


def details_of(outcome: Any) -> list[dict[str, Any] | None]:
    """What the ledger of a response or an error keeps of each attempt."""
    return [entry.details for entry in outcome.ledger.sent]


def bodies(server: WireServer) -> Iterable[dict[str, Any]]:
    return [request.body for request in server.requests]
