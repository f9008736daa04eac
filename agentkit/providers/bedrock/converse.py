"""One model in one Region, as the engine's provider: Converse and ConverseStream through boto3."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

from agentkit.errors import LLMError
from agentkit.providers.bedrock import errors as faults
from agentkit.providers.bedrock.clients import Clients
from agentkit.providers.bedrock.connection import Line
from agentkit.providers.bedrock.degradation import Arguments, without
from agentkit.providers.bedrock.encoding import from_messages
from agentkit.providers.bedrock.events import Relay, damaged, finish_of, read
from agentkit.providers.bedrock.routes import ModelRoute
from agentkit.providers.bedrock.usage import BedrockUsage
from agentkit.types import End, Request, Response, StreamEvent, ToolCall

CONVERSE: Final = "converse"
"""The parameter of a request that holds Converse's own arguments."""
JOURNAL: Final = "journal"
"""The parameter that holds the `Journal` of the request."""

_CONTINUES: Final = re.compile(
    r"anthropic\.claude-(?:v2|instant|3|(?:opus|sonnet|haiku)-4-(?:\d{8}|[015]-))|amazon\.nova-"
)
"""Newer Claudes refuse a begun answer (as of 2026-11)."""


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
        model: the name the caller gave.
        region: where to send.
        routes: the ways to the model there, the preferred first; at least one.
        clients: who holds the connections.
    """

    provider: ClassVar[str] = faults.PROVIDER
    end_mark: ClassVar[bool] = True
    timed: ClassVar[bool] = True
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
        return self._send(request, Line(request.timeout))

    async def asend(self, request: Request) -> Response[Any]:
        """Answer on a thread of the clients' own pool; leaving cuts the connection."""
        line = Line(request.timeout)
        ask = functools.partial(copy_context().run, self._send, request, line)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._clients.executor, ask)
        finally:
            line.cut()

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """Stream, blocking."""
        return self._stream(request, Line(request.timeout))

    async def astream(self, request: Request) -> AsyncIterator[StreamEvent]:
        """Stream from a thread of the clients' own pool; leaving cuts the connection."""
        line = Line(request.timeout)
        relay = Relay(asyncio.get_running_loop())
        work = functools.partial(copy_context().run, self._relayed, request, line, relay)
        reader = self._clients.executor.submit(work)
        try:
            async for event in relay:
                yield event
        finally:
            reader.cancel()
            line.cut()

    def translate(self, exc: Exception) -> LLMError | None:
        """An error of our tree for one of botocore's."""
        return faults.translate(exc, model=self._name)

    @property
    def _name(self) -> str:
        return f"{self.model} in {self.region}"

    def __repr__(self) -> str:
        return f"<ConverseTarget {self.model} in {self.region}>"

    def _send(self, request: Request, line: Line) -> Response[Any]:
        client = self._clients.runtime(self.region)
        sent = self._exchange(request, client.converse, line)
        line.release()
        with _noted(sent, self, line):
            return self._response(sent)

    def _stream(self, request: Request, line: Line) -> Generator[StreamEvent, None, None]:
        client = self._clients.runtime(self.region)
        sent = self._exchange(request, client.converse_stream, line)
        data = sent.data or {}
        source = data["stream"]
        try:
            with _noted(sent, self, line):
                events = read(source, self._name, response_id=_id_of(data), spaced=_spaced(request))
                for event in events:
                    if isinstance(event, End):
                        yield replace(event, omitted=tuple(sent.disabled))
                    else:
                        yield event
        finally:
            line.release()
            source.close()

    def _relayed(self, request: Request, line: Line, relay: Relay) -> None:
        events = self._stream(request, line)
        try:
            for event in events:
                relay.put(event)
                if line.gone:
                    events.close()
        except BaseException as error:  # noqa: BLE001 - it is raised where the stream is read
            relay.put(error)
        else:
            relay.put(None)

    def _exchange(self, request: Request, call: Callable[..., dict[str, Any]], line: Line) -> Sent:
        """Send it: by another way where the service asks for one, without what it may leave out."""
        journal = request.params.get(JOURNAL) or Journal()
        sent = Sent(self.model, self.region, self.routes[self._preferred])
        sent.arguments = _begun(request, journal)
        journal.sent.append(sent)
        untried = [route for route in self.routes if route is not sent.route]
        while True:
            try:
                with line.held():
                    sent.data = call(modelId=sent.route.model_id, **sent.arguments)
            except Exception as exc:
                if faults.needs_profile(exc) and untried:
                    sent.route = untried.pop(0)
                    continue
                if not (journal.feature_fallback and self._left_out(sent, exc, journal.kept)):
                    sent.error = None if line.gone else self.translate(exc) or exc
                    raise
            else:
                self._preferred = self.routes.index(sent.route)
                return sent

    def _left_out(self, sent: Sent, exc: Exception, kept: frozenset[str]) -> bool:
        """Leave out the feature that was refused; False when nothing may or can be left out."""
        refusal = faults.refused_feature(exc, sent.arguments)
        if refusal is None or refusal.feature in kept:
            return False
        reduced = without(sent.arguments, refusal.feature, refusal.fields)
        if reduced is None:
            return False
        sent.arguments = reduced
        if refusal.feature not in sent.disabled:
            sent.disabled.append(refusal.feature)
        return True

    def _response(self, sent: Sent) -> Response[Any]:
        data = sent.data or {}
        message = (data.get("output") or {}).get("message")
        if message is None:
            raise damaged(self._name, "answered without a message")
        blocks = message.get("content") or []
        calls = tuple(
            ToolCall(use["toolUseId"], use["name"], use.get("input") or {})
            for block in blocks
            if (use := block.get("toolUse"))
        )
        return Response(
            "\n".join(block["text"] for block in blocks if "text" in block),
            BedrockUsage.of(data.get("usage") or {}).to_usage(),
            finish_reason=finish_of(data.get("stopReason"), self._name),
            tool_calls=calls,
            response_id=_id_of(data),
            reasoning="".join(_thought(block) for block in blocks),
            omitted=tuple(sent.disabled),
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


def _spaced(request: Request) -> bool:
    """Whether the answer to go on with ends in white space, which was not sent."""
    journal = request.params.get(JOURNAL)
    if journal is None or not journal.turns or len(request.messages) <= journal.turns:
        return False
    begun = request.messages[-1].text
    return begun != begun.rstrip()


@contextmanager
def _noted(sent: Sent, target: ConverseTarget, line: Line) -> Iterator[None]:
    """Note what is wrong with an answer, unless it was cut for nobody waits for it."""
    try:
        yield
    except Exception as exc:
        if not line.gone:
            sent.error = exc if isinstance(exc, LLMError) else target.translate(exc) or exc
        raise


def _id_of(data: dict[str, Any]) -> str | None:
    return (data.get("ResponseMetadata") or {}).get("RequestId")


def _thought(block: dict[str, Any]) -> str:
    text = ((block.get("reasoningContent") or {}).get("reasoningText") or {}).get("text")
    return str(text or "")
