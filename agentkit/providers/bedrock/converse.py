"""One model in one Region, as the engine's provider: Converse and ConverseStream through boto3."""

from __future__ import annotations

import asyncio
import copy
import functools
import re
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextvars import copy_context
from typing import Any, ClassVar, Final

from agentkit.errors import LLMError
from agentkit.providers import errors as general
from agentkit.providers.bedrock import errors
from agentkit.providers.bedrock.clients import Clients
from agentkit.providers.bedrock.connection import read_timeout
from agentkit.providers.bedrock.encoding import items_of, joined, texts_of
from agentkit.providers.bedrock.events import Relay, finish_of, invalid_response, read
from agentkit.providers.bedrock.exchange import Exchange
from agentkit.providers.bedrock.routes import ModelRoute
from agentkit.providers.bedrock.sessions import boto3
from agentkit.providers.bedrock.usage import BedrockUsage
from agentkit.providers.state import StateMemory, state_of
from agentkit.providers.transport.connection import CancelScope, current_scope
from agentkit.types import End, Request, Response, StreamEvent, ToolCall

_CONTINUES: Final = re.compile(
    r"anthropic\.claude-(?:v2|instant|3|(?:opus|sonnet|haiku)-4-(?:\d{8}|[015]-))|amazon\.nova-"
)
"""Newer Claudes refuse a partial answer (as of 2026-11)."""


class ConverseTarget:
    """A model in a Region.

    Args:
        model: the name the caller gave.
        region: where to send.
        routes: the ways to the model there, the preferred first; at least one. The one that
            answered is preferred from then on.
        clients: the connections.
    """

    provider: ClassVar[str] = errors.PROVIDER
    end_mark: ClassVar[bool] = True
    timed: ClassVar[bool] = True
    cancel_scope: ClassVar[type[CancelScope]] = CancelScope
    capabilities = frozenset({"messages", "tools", "vision", "documents"})

    def __init__(
        self, model: str, region: str, routes: Sequence[ModelRoute], clients: Clients
    ) -> None:
        self.model = model
        self.region = region
        self.routes = tuple(routes)
        self._clients = clients
        self._states = StateMemory(f"{self.provider}:{model}")
        if continues(self.routes[0].model_id):
            self.capabilities = self.capabilities | {"prefill"}

    def prepare(self) -> None:
        """Import the SDK. No session is made, as it may ask other machines for credentials."""
        boto3()

    def send(self, request: Request) -> Response[Any]:
        """Answer, blocking."""
        return self._send(request, current_scope() or CancelScope())

    async def asend(self, request: Request) -> Response[Any]:
        """Answer on a thread of the clients' own pool; cancelling closes the connection."""
        scope = CancelScope()
        ask = functools.partial(copy_context().run, self._send, request, scope)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._clients.executor, ask)
        finally:
            scope.cancel()

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """Stream, blocking."""
        return self._stream(request, current_scope() or CancelScope())

    async def astream(self, request: Request) -> AsyncIterator[StreamEvent]:
        """Stream from a thread of the clients' own pool; leaving closes the connection."""
        scope = CancelScope()
        relay = Relay(asyncio.get_running_loop())
        work = functools.partial(copy_context().run, self._relay, request, scope, relay)
        reader = self._clients.executor.submit(work)
        reader.add_done_callback(relay.end_if_cancelled)
        try:
            async for event in relay:
                yield event
        finally:
            reader.cancel()
            scope.cancel()

    def translate(self, exc: Exception) -> LLMError | None:
        """An error of our tree for one of botocore's."""
        return errors.translate(exc, model=self._name)

    @property
    def model_id(self) -> str:
        """The id that the next request is sent to."""
        return self.routes[0].model_id

    @property
    def _name(self) -> str:
        return f"{self.model} in {self.region}"

    def __repr__(self) -> str:
        return f"<ConverseTarget {self._name}>"

    def _send(self, request: Request, scope: CancelScope) -> Response[Any]:
        exchange = Exchange(request, self.routes, self._states)
        try:
            client = self._clients.runtime(self.region)
            with scope, read_timeout(request.timeout):
                data = exchange.send(client.converse)
            scope.release()
            self._prefer(exchange.route)
            return self._response(data, exchange)
        except Exception as exc:  # noqa: BLE001 - it is raised again
            error = self._describe(exc, exchange)
            raise error from error.__cause__

    def _stream(self, request: Request, scope: CancelScope) -> Generator[StreamEvent, None, None]:
        exchange = Exchange(request, self.routes, self._states)
        try:
            client = self._clients.runtime(self.region)
            with scope, read_timeout(request.timeout):
                data = exchange.send(client.converse_stream)
            self._prefer(exchange.route)
            source = data["stream"]
            try:
                for event in read(
                    source,
                    self._name,
                    origin=self._states.origin,
                    response_id=_id_of(data),
                    details=self._details(exchange),
                    trims_start=exchange.trims_start,
                ):
                    if isinstance(event, End):
                        self._states.remember(event.tool_calls, event.state)
                    yield event
            finally:
                scope.release()
                source.close()
        except Exception as exc:  # noqa: BLE001 - it is raised again
            error = self._describe(exc, exchange)
            raise error from error.__cause__

    def _relay(self, request: Request, scope: CancelScope, relay: Relay) -> None:
        events = self._stream(request, scope)
        try:
            for event in events:
                relay.put(event)
                if scope.cancelled:
                    events.close()
        except BaseException as error:  # noqa: BLE001 - it is raised where the stream is read
            relay.put(error)
        else:
            relay.put(None)

    def _details(self, exchange: Exchange) -> dict[str, Any]:
        """What the ledger keeps of an attempt."""
        return {"model": self.model, "region": self.region, **exchange.details}

    def _prefer(self, route: ModelRoute) -> None:
        if route is not self.routes[0]:
            self.routes = (route, *(each for each in self.routes if each is not route))

    def _describe(self, exc: Exception, exchange: Exchange) -> LLMError:
        """An error of our tree for `exc`, which says what was sent."""
        own = exc if isinstance(exc, LLMError) else self.translate(exc)
        error = own or general.translate(exc, provider=self.provider, model=self._name)
        # A copy, without the traceback, so that the error does not refer to itself.
        kept = copy.copy(error)
        kept.__cause__ = error.__cause__
        error.details = {**self._details(exchange), "error": kept}
        return error

    def _response(self, data: dict[str, Any], exchange: Exchange) -> Response[Any]:
        message = (data.get("output") or {}).get("message")
        if message is None:
            raise invalid_response(self._name, "answered without a message")
        blocks = message.get("content") or []
        calls = tuple(
            ToolCall(use["toolUseId"], use["name"], use.get("input") or {})
            for block in blocks
            if (use := block.get("toolUse"))
        )
        usage = BedrockUsage.of(data.get("usage") or {}).to_usage()
        finish_reason = finish_of(data.get("stopReason"), self._name, usage)
        if finish_reason == "stop" and not any(any(block.values()) for block in blocks):
            raise invalid_response(self._name, "answered without content")
        state = state_of(self._states.origin, items_of(blocks))
        self._states.remember(calls, state)
        return Response(
            joined(texts_of(blocks)),
            usage=usage,
            finish_reason=finish_reason,
            tool_calls=calls,
            response_id=_id_of(data),
            reasoning="".join(map(_reasoning, blocks)),
            omitted=tuple(exchange.omitted),
            details=self._details(exchange),
            raw=data,
            model_id=exchange.route.model_id,
            state=state,
        )


def continues(model_id: str) -> bool:
    """Whether the model continues a partial answer: Claude up to 4.5, and Nova."""
    return bool(_CONTINUES.search(model_id))


def _id_of(data: dict[str, Any]) -> str | None:
    return (data.get("ResponseMetadata") or {}).get("RequestId")


def _reasoning(block: dict[str, Any]) -> str:
    text = ((block.get("reasoningContent") or {}).get("reasoningText") or {}).get("text")
    return str(text or "")
