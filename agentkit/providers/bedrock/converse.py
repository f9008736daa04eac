"""One model in one Region, as the engine's provider: Converse and ConverseStream."""

from __future__ import annotations

import asyncio
import copy
import functools
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from contextvars import copy_context
from typing import Any, ClassVar, Final

from agentkit.errors import LLMError
from agentkit.providers import errors as general
from agentkit.providers.bedrock import errors
from agentkit.providers.bedrock.clients import Clients
from agentkit.providers.bedrock.connection import read_timeout
from agentkit.providers.bedrock.encoding import items_of, joined, texts_of
from agentkit.providers.bedrock.events import (
    UNREADABLE,
    EventReader,
    Relay,
    finish_of,
    invalid_response,
)
from agentkit.providers.bedrock.exchange import Exchange
from agentkit.providers.bedrock.routes import ModelRoute
from agentkit.providers.bedrock.sessions import boto3
from agentkit.providers.bedrock.usage import BedrockUsage
from agentkit.providers.registry import require_native
from agentkit.providers.requirements import TransportName, transport_name
from agentkit.providers.response_fields import check_content
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
        transport: ``"sdk"`` or ``"native"`` (default: the variable ``AGENTKIT_TRANSPORT``, else
            ``"sdk"``). Both need the SDK, for credentials and signatures. Through the SDK, each
            request of an asyncio caller takes a thread.

    Raises:
        ConfigurationError: the transport is unknown.
        MissingDependencyError: the extra ``native`` is needed and not installed.
    """

    provider: ClassVar[str] = errors.PROVIDER
    end_mark: ClassVar[bool] = True
    timed: ClassVar[bool] = True
    cancel_scope: ClassVar[type[CancelScope]] = CancelScope
    capabilities = frozenset({"messages", "tools", "vision", "documents"})

    def __init__(
        self,
        model: str,
        region: str,
        routes: Sequence[ModelRoute],
        clients: Clients,
        *,
        transport: TransportName | None = None,
    ) -> None:
        self.model = model
        self.region = region
        self.transport = transport_name(transport)
        if self.transport == "native":
            require_native()
        self.routes = tuple(routes)
        self._clients = clients
        self._states = StateMemory(f"{self.provider}:{model}")
        if continues(self.routes[0].model_id):
            self.capabilities = self.capabilities | {"prefill"}

    def prepare(self) -> None:
        """Import the SDK. No session is made, as it may ask other machines for credentials."""
        boto3()

    def warm_up(self, connections: int) -> None:
        """Make the client of the Region and, over the native transport, open connections.

        Opens until as many are idle, at most 100. Making the client looks for credentials.
        """
        client = self._client()
        if self.transport == "native":
            client.warm_up(connections)

    async def awarm_up(self, connections: int) -> None:
        """Like `warm_up`, for the running event loop."""
        if self.transport == "native":
            await (await self._clients.anative(self.region)).awarm_up(connections)
        else:
            await asyncio.get_running_loop().run_in_executor(self._clients.executor, self._client)

    def send(self, request: Request) -> Response[Any]:
        """Answer, blocking."""
        return self._send(request, current_scope() or CancelScope())

    async def asend(self, request: Request) -> Response[Any]:
        """Answer; cancelling closes the connection.

        Through the SDK, on a thread of the clients' own pool.
        """
        if self.transport == "native":
            return await self._asend(request)
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
        """Stream; leaving closes the connection.

        Through the SDK, from a thread of the clients' own pool.
        """
        async with aclosing(self.astream_lists(request)) as lists:
            async for events in lists:
                for event in events:
                    yield event

    def astream_lists(self, request: Request) -> AsyncGenerator[list[StreamEvent]]:
        """Like `astream`, with the events that arrived together in one list."""
        if self.transport == "native":
            return self._astream(request)
        return self._astream_on_thread(request)

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

    def _client(self) -> Any:
        """Has the methods of the SDK's client."""
        if self.transport == "native":
            return self._clients.native(self.region)
        return self._clients.runtime(self.region)

    def _send(self, request: Request, scope: CancelScope) -> Response[Any]:
        exchange = Exchange(request, self.routes, self._states)
        with self._described(exchange):
            client = self._client()
            with scope, read_timeout(request.timeout):
                data = exchange.send(client.converse)
            scope.release()
            self._prefer(exchange.route)
            return self._response(data, exchange)

    async def _asend(self, request: Request) -> Response[Any]:
        exchange = Exchange(request, self.routes, self._states)
        with self._described(exchange):
            client = await self._clients.anative(self.region)
            with read_timeout(request.timeout):
                data = await exchange.asend(client.aconverse)
            self._prefer(exchange.route)
            return self._response(data, exchange)

    def _stream(self, request: Request, scope: CancelScope) -> Generator[StreamEvent, None, None]:
        exchange = Exchange(request, self.routes, self._states)
        with self._described(exchange):
            client = self._client()
            with scope, read_timeout(request.timeout):
                data = exchange.send(client.converse_stream)
            self._prefer(exchange.route)
            source = data["stream"]
            try:
                reader = self._reader(exchange)
                yield from reader.read(source)
                for end in reader.end(_id_of(data)):
                    yield self._remembered(end)
            finally:
                scope.release()
                source.close()

    async def _astream(self, request: Request) -> AsyncGenerator[list[StreamEvent]]:
        exchange = Exchange(request, self.routes, self._states)
        with self._described(exchange):
            client = await self._clients.anative(self.region)
            with read_timeout(request.timeout):
                data = await exchange.asend(client.aconverse_stream)
            self._prefer(exchange.route)
            source = data["stream"]
            finished = False
            try:
                reader = self._reader(exchange)
                try:
                    while chunk := await source.next_chunk():
                        if events := reader.read_list(source.decode(chunk)):
                            yield events
                        if (fault := reader.error or source.error) is not None:
                            raise fault
                except UNREADABLE as error:
                    raise reader.unreadable() from error
                finished = True
                for end in reader.end(_id_of(data)):
                    yield [self._remembered(end)]
            finally:
                source.close(finished=finished)

    async def _astream_on_thread(self, request: Request) -> AsyncGenerator[list[StreamEvent]]:
        scope = CancelScope()
        relay = Relay(asyncio.get_running_loop())
        work = functools.partial(copy_context().run, self._relay, request, scope, relay)
        reader = self._clients.executor.submit(work)
        reader.add_done_callback(relay.end_if_cancelled)
        try:
            async for event in relay:
                yield [event]
        finally:
            reader.cancel()
            scope.cancel()

    def _reader(self, exchange: Exchange) -> EventReader:
        return EventReader(
            self._name,
            origin=self._states.origin,
            details=self._details(exchange),
            trims_start=exchange.trims_start,
        )

    def _remembered(self, end: End) -> End:
        self._states.remember(end.tool_calls, end.state)
        return end

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

    @contextmanager
    def _described(self, exchange: Exchange) -> Iterator[None]:
        """Raise errors of our tree, which say what was sent."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - it is raised again
            own = exc if isinstance(exc, LLMError) else self.translate(exc)
            error = own or general.translate(exc, provider=self.provider, model=self._name)
            # A copy, without the traceback, so that the error does not refer to itself.
            kept = copy.copy(error)
            kept.__cause__ = error.__cause__
            error.details = {**self._details(exchange), "error": kept}
            raise error from error.__cause__

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
        check_content(
            self._name,
            finish_reason,
            answered=finish_reason not in ("stop", "length")
            or any(
                value
                for block in blocks
                for name, value in block.items()
                if name != "reasoningContent"
            ),
            reasoned=any("reasoningContent" in block for block in blocks),
            usage=usage,
        )
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
