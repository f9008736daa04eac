"""One model in one Region, as the engine's provider: Converse and ConverseStream through boto3."""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from agentkit.bedrock import faults
from agentkit.bedrock.catalog_models import ModelRoute
from agentkit.bedrock.clients import Clients
from agentkit.bedrock.convert import from_messages
from agentkit.bedrock.features import Arguments, without
from agentkit.bedrock.usage import BedrockUsage
from agentkit.errors import InvalidResponseError, LLMError
from agentkit.types import (
    End,
    RawEvent,
    ReasoningDelta,
    Request,
    Response,
    StreamEvent,
    TextDelta,
    ToolCall,
)

CONVERSE: Final = "converse"
"""The parameter of a request that holds Converse's own arguments."""
JOURNAL: Final = "journal"
"""The parameter that holds the `Journal` of the request."""

_CONTINUES: Final = re.compile(
    r"anthropic\.claude-(?:v2|instant|3|(?:opus|sonnet|haiku)-4-(?:\d{8}|[015]-))|amazon\.nova-"
)
"""Newer Claudes refuse a begun answer (as of 2026-11)."""

_FINISH: Final = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter", "content_filtered": "content_filter",
    "model_context_window_exceeded": "length",
}  # fmt: skip


@dataclass(slots=True)
class Sent:
    """What one attempt really sent, and what came of it."""

    model: str
    region: str
    route: ModelRoute
    disabled: list[str] = field(default_factory=list)
    arguments: Arguments = field(default_factory=dict, repr=False)
    data: dict[str, Any] | None = field(default=None, repr=False)
    error: Exception | None = None


@dataclass(slots=True)
class Journal:
    """What the attempts of one request sent, in order, and what they may leave out."""

    feature_fallback: bool = False
    kept: frozenset[str] = frozenset()
    """Features that are never left out."""
    turns: int = 0
    """Messages of the request as it was asked; one more is the begun answer to go on with."""
    sent: list[Sent] = field(default_factory=list)


class ConverseTarget:
    """A model in a Region. The ways to it (profile, direct) are tried inside one attempt.

    Args:
        model: the name the caller gave. region: where to send.
        routes: the ways to the model there, the preferred first; at least one.
        clients: who holds the connections.
    """

    provider: ClassVar[str] = faults.PROVIDER
    end_mark: ClassVar[bool] = True
    capabilities = frozenset({"messages", "tools", "vision", "documents"})

    def __init__(
        self, model: str, region: str, routes: Sequence[ModelRoute], clients: Clients
    ) -> None:
        self.model = model
        self.region = region
        self.routes = tuple(routes)
        self._clients = clients
        self._preferred = 0
        if continues(self.routes[0].model_id):
            self.capabilities = self.capabilities | {"prefill"}

    def send(self, request: Request) -> Response[Any]:
        """Answer, blocking."""
        client = self._clients.runtime(self.region)
        sent = self._exchange(request, client.converse)
        return self._response(sent)

    async def asend(self, request: Request) -> Response[Any]:
        """Answer on a thread of the clients' own pool."""
        loop = asyncio.get_running_loop()
        ask = functools.partial(copy_context().run, self.send, request)
        return await loop.run_in_executor(self._clients.executor, ask)

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """Stream, blocking."""
        source = self._open(request)
        try:
            yield from _events(source, _spaced(request))
        finally:
            source.close()

    async def astream(self, request: Request) -> AsyncIterator[StreamEvent]:
        """Stream from a thread of the clients' own pool; leaving cuts the connection."""
        relay = _Relay(asyncio.get_running_loop())
        work = functools.partial(copy_context().run, self._relayed, request, relay)
        self._clients.executor.submit(work)
        try:
            async for event in relay:
                yield event
        finally:
            relay.leave()

    def translate(self, exc: Exception) -> LLMError | None:
        """An error of our tree for one of botocore's."""
        return faults.translate(exc, model=f"{self.model} in {self.region}")

    def __repr__(self) -> str:
        return f"<ConverseTarget {self.model} in {self.region}>"

    def _open(self, request: Request) -> Any:
        client = self._clients.runtime(self.region)
        sent = self._exchange(request, client.converse_stream)
        data = sent.data or {}
        return data["stream"]

    def _relayed(self, request: Request, relay: _Relay) -> None:
        try:
            source = self._open(request)
            relay.opened(source)
            for event in _events(source, _spaced(request)):
                relay.put(event)
            source.close()
        except BaseException as error:  # noqa: BLE001 - it is raised where the stream is read
            relay.put(error)
        else:
            relay.put(None)

    def _exchange(self, request: Request, call: Callable[..., dict[str, Any]]) -> Sent:
        """Send it: by another way where the service asks for one, without what it may leave out."""
        journal = request.params.get(JOURNAL) or Journal()
        sent = Sent(self.model, self.region, self.routes[self._preferred])
        sent.arguments = _begun(request, journal)
        journal.sent.append(sent)
        untried = [route for route in self.routes if route is not sent.route]
        while True:
            try:
                sent.data = call(modelId=sent.route.model_id, **sent.arguments)
            except Exception as exc:
                if faults.needs_profile(exc) and untried:
                    sent.route = untried.pop(0)
                    continue
                feature = faults.unsupported_feature(exc) if journal.feature_fallback else None
                feature = None if feature in journal.kept else feature
                reduced = None if feature is None else without(sent.arguments, feature)
                if feature is None or reduced is None:
                    sent.error = self.translate(exc) or exc
                    raise
                sent.arguments = reduced
                sent.disabled.append(feature)
            else:
                self._preferred = self.routes.index(sent.route)
                return sent

    def _response(self, sent: Sent) -> Response[Any]:
        data = sent.data or {}
        message = (data.get("output") or {}).get("message")
        if message is None:
            raise InvalidResponseError(f"{self.model} answered without a message")
        blocks = message.get("content") or []
        calls = tuple(
            ToolCall(use["toolUseId"], use["name"], use.get("input") or {})
            for block in blocks
            if (use := block.get("toolUse"))
        )
        stop = data.get("stopReason")
        return Response(
            "\n".join(block["text"] for block in blocks if "text" in block),
            BedrockUsage.of(data.get("usage") or {}).to_usage(),
            finish_reason=_FINISH.get(stop or "", stop),
            tool_calls=calls,
            response_id=(data.get("ResponseMetadata") or {}).get("RequestId"),
            reasoning="".join(_thought(block) for block in blocks),
        )


def _begun(request: Request, journal: Journal) -> Arguments:
    """What to send: as it was asked, or with the answer that was begun to go on with."""
    arguments: Arguments | None = request.params.get(CONVERSE)
    if arguments is None:
        return arguments_of(request)
    if not journal.turns or len(request.messages) <= journal.turns:
        return arguments
    begun = {"role": "assistant", "content": [{"text": request.messages[-1].text.rstrip()}]}
    return {**arguments, "messages": [*arguments["messages"], begun]}


def arguments_of(request: Request) -> Arguments:
    """Converse's arguments for a request in the core's own words."""
    system, messages = from_messages(request.conversation)
    arguments: Arguments = {"messages": messages}
    if system:
        arguments["system"] = system
    params = {
        name: value
        for name, value in request.params.items()
        if value is not None and name not in (CONVERSE, JOURNAL)
    }
    names = {"max_tokens": "maxTokens", "temperature": "temperature", "top_p": "topP"}
    inference = {ours: params.pop(name) for name, ours in names.items() if name in params}
    if "stop" in params:
        stop = params.pop("stop")
        inference["stopSequences"] = [stop] if isinstance(stop, str) else list(stop)
    if inference:
        arguments["inferenceConfig"] = inference
    if request.tools:
        arguments["toolConfig"] = {
            "tools": [
                {
                    "toolSpec": {
                        "name": tool.name,
                        "description": tool.description or tool.name,
                        "inputSchema": {"json": dict(tool.parameters)},
                    }
                }
                for tool in request.tools
            ]
        }
    if params:
        arguments["additionalModelRequestFields"] = params
    return arguments


def continues(model_id: str) -> bool:
    """Whether the model goes on with an answer that was begun: Claude up to 4.5, and Nova."""
    return bool(_CONTINUES.search(model_id))


class _Relay:
    """Carries a stream's events from the thread that reads them to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._lock = threading.Lock()
        self._source: Any = None
        self._left = False

    def opened(self, source: Any) -> None:
        """The reader has its stream; cut at once when nobody is left to read."""
        with self._lock:
            self._source = source
            left = self._left
        if left:
            _cut(source)

    def put(self, item: StreamEvent | BaseException | None) -> None:
        """The next event, the error that ended it, or None at its end."""
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    def leave(self) -> None:
        """Nobody reads any more: cut the connection, which ends the reader."""
        with self._lock:
            self._left = True
            source = self._source
        if source is not None:
            _cut(source)

    async def __aiter__(self) -> AsyncIterator[StreamEvent]:
        while (item := await self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item


def _cut(source: Any) -> None:
    """Shut the socket under a stream, so that a thread that waits on it wakes up."""
    raw = getattr(source, "_raw_stream", None)
    connection: Any = getattr(raw, "connection", None) or getattr(raw, "_connection", None)
    with suppress(Exception):
        connection.sock.shutdown(socket.SHUT_RDWR)
    with suppress(Exception):
        source.close()


def _spaced(request: Request) -> bool:
    """Whether the answer to go on with ends in white space, which was not sent."""
    journal = request.params.get(JOURNAL)
    if journal is None or not journal.turns or len(request.messages) <= journal.turns:
        return False
    begun = request.messages[-1].text
    return begun != begun.rstrip()


def _events(source: Any, spaced: bool = False) -> Iterator[StreamEvent]:
    """The engine's events for the service's; the end mark only after ``messageStop``.

    `spaced`: white space at the beginning was shown before and is not shown again.
    """
    told = _Told(spaced)
    for event in source:
        yield from told.events(event)
    yield from told.end()


class _Told:
    def __init__(self, spaced: bool) -> None:
        self._spaced = spaced
        self._stop: str | None = None
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, dict[str, str]] = {}

    def events(self, event: dict[str, Any]) -> Iterator[StreamEvent]:
        delta = (event.get("contentBlockDelta") or {}).get("delta") or {}
        if "text" in delta:
            text = delta["text"].lstrip() if self._spaced else delta["text"]
            self._spaced = self._spaced and not text
            yield TextDelta(text, event)
            return
        thought = (delta.get("reasoningContent") or {}).get("text")
        yield ReasoningDelta(thought) if thought else RawEvent(event)
        self._collect(event, delta)
        if "messageStop" in event:
            self._stop = event["messageStop"].get("stopReason") or "end_turn"
        elif "metadata" in event:
            self._usage = event["metadata"].get("usage") or {}

    def end(self) -> Iterator[StreamEvent]:
        from agentkit.providers.content import json_arguments

        if self._stop is None:
            return
        calls = tuple(
            ToolCall(each["id"], each["name"], json_arguments(each["input"], each["name"]))
            for _, each in sorted(self._calls.items())
        )
        usage = BedrockUsage.of(self._usage).to_usage()
        yield End(_FINISH.get(self._stop, self._stop), usage, calls)

    def _collect(self, event: dict[str, Any], delta: dict[str, Any]) -> None:
        start = event.get("contentBlockStart") or {}
        use = (start.get("start") or {}).get("toolUse")
        if use is not None:
            index = start.get("contentBlockIndex", len(self._calls))
            self._calls[index] = {"id": use["toolUseId"], "name": use["name"], "input": ""}
        elif "toolUse" in delta:
            index = event["contentBlockDelta"].get("contentBlockIndex", 0)
            if index in self._calls:
                self._calls[index]["input"] += delta["toolUse"].get("input", "")


def _thought(block: dict[str, Any]) -> str:
    text = ((block.get("reasoningContent") or {}).get("reasoningText") or {}).get("text")
    return str(text or "")
