"""A provider on this machine: real sockets, real wire formats, failures on demand.

It serves OpenAI's chat completions (also at Groq's path), OpenAI's responses, Anthropic's messages,
Google's Gemini API and Amazon Bedrock's Converse, as JSON and as streams, to any client: the
vendors' SDKs, agentkit, curl. It needs nothing but the standard library::

    with WireServer(reply="Paris.") as server:
        client = openai.OpenAI(base_url=server.openai_url, api_key="any")
        server.script(faults.status(503), faults.cut_stream(1))
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from agentkit._fork import fork_safe_lock
from agentkit.testing.faults import Fault, Status
from agentkit.testing.wire.anthropic import AnthropicMessages
from agentkit.testing.wire.bedrock import BedrockConverse
from agentkit.testing.wire.connection import Connection, HttpRequest
from agentkit.testing.wire.faults import Outcome, Reply, Responder, perform
from agentkit.testing.wire.google import GoogleGenerate
from agentkit.testing.wire.openai import OpenAIChat
from agentkit.testing.wire.protocol import RecordedRequest, WireProtocol, to_json
from agentkit.testing.wire.responses import OpenAIResponses
from agentkit.types import Response

_BACKLOG = 1024  # connections that may arrive in one burst
_PROTOCOLS: tuple[WireProtocol, ...] = (
    OpenAIChat(),
    OpenAIResponses(),
    AnthropicMessages(),
    GoogleGenerate(),
    BedrockConverse(),
)


def words(text: str) -> list[str]:
    """`text` in pieces of one word with the white space before it; joined, they are `text`."""
    return re.findall(r"\s*\S+\s*\Z|\s*\S+|\s+\Z", text)


@dataclass(slots=True)
class _Plan:
    """What happens next, for one model or for all: first a script, then a standing outcome."""

    script: deque[Outcome] = field(default_factory=deque)
    standing: Outcome | None = None


class WireServer:
    """An HTTP server on 127.0.0.1 that answers like the providers, or fails on demand.

    A context manager, also in async code: it runs in its own daemon thread, and entering and
    leaving block for milliseconds. Leaving closes every connection, including silent and stalled
    ones; after that, its address refuses connections.

    Args:
        reply: the default answer: a string, a `Response` (for tool calls, a finish reason or exact
            token counts) or a function from the request's JSON body to either, which runs on the
            server's thread and must not block. Without token counts, a word is one token.
        chunks: splits the text of an answer into the pieces of a stream; words by default.
        chunk_delay: seconds before each piece of a stream.

    An *outcome* is a reply, a fault of `agentkit.testing.faults` or a function from the request's
    JSON body to either. A request gets the first of these that exists: the script of its model,
    the common script, the standing outcome of its model, the common standing outcome, `reply`.
    """

    def __init__(
        self,
        reply: Reply = "The quick brown fox jumps over the lazy dog.",
        *,
        chunks: Callable[[str], Sequence[str]] = words,
        chunk_delay: float = 0.0,
    ) -> None:
        self._reply = reply
        self._chunks = chunks
        self._chunk_delay = chunk_delay
        self._changed = threading.Condition(fork_safe_lock())
        self._plans: defaultdict[str | None, _Plan] = defaultdict(_Plan)
        self._requests: list[RecordedRequest] = []
        self._connections: set[Connection] = set()
        self._running: _ServerThread | None = None
        self._port = 0

    def start(self, port: int = 0) -> Self:
        """Listen on `port`, or on a free one; entering the context calls this.

        Raises:
            OSError: the port is in use, or not allowed.
            RuntimeError: the server has already been started.
        """
        if self._port:
            msg = "a WireServer can be started only once; make a new one"
            raise RuntimeError(msg)
        listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        self._port = listener.getsockname()[1]
        self._running = _ServerThread(listener, self._connection, self._connections)
        return self

    def close(self) -> None:
        """Close the port and every connection, and wait for the thread to end. Idempotent."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self._running else "closed"
        return f"<WireServer {state} port={self._port} requests={len(self._requests)}>"

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``, also after it is closed.

        Raises:
            RuntimeError: the server has not been started.
        """
        if not self._port:
            msg = "the WireServer has no address yet: use it as a context manager"
            raise RuntimeError(msg)
        return f"http://127.0.0.1:{self._port}"

    @property
    def openai_url(self) -> str:
        """The `base_url` for ``openai.OpenAI`` and compatible clients."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """The `base_url` for ``anthropic.Anthropic``."""
        return self.url

    @property
    def google_url(self) -> str:
        """The `base_url` for ``google.genai.Client`` (in its `http_options`)."""
        return self.url

    @property
    def groq_url(self) -> str:
        """The `base_url` for ``groq.Groq``."""
        return self.url

    @property
    def bedrock_url(self) -> str:
        """The `endpoint_url` for boto3's ``bedrock-runtime``."""
        return self.url

    def script(self, *outcomes: Outcome, model: str | None = None) -> None:
        """Append outcomes for the next requests, one for each, in order of arrival.

        With `model`, for the next requests to that model.

        Raises:
            TypeError: one is neither a reply nor a fault; then none is appended.
        """
        for outcome in outcomes:
            _check(outcome)
        with self._changed:
            self._plans[model].script.extend(outcomes)

    def always(self, outcome: Outcome, *, model: str | None = None) -> None:
        """Set the outcome of every request without a script; with `model`, of those to it.

        Raises:
            TypeError: `outcome` is neither a reply nor a fault.
        """
        _check(outcome)
        with self._changed:
            self._plans[model].standing = outcome

    def clear(self) -> None:
        """Remove scripts, standing outcomes and recorded requests; the default reply remains."""
        with self._changed:
            self._plans.clear()
            self._requests.clear()

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """Every model call received, in order of arrival."""
        with self._changed:
            return tuple(self._requests)

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        with self._changed:
            return len(self._connections)

    def wait_until(self, condition: Callable[[WireServer], bool], timeout: float = 5.0) -> None:
        """Block until `condition(self)` is true.

        It is checked again after every request received and every connection opened or closed.

        Raises:
            TimeoutError: it was not true within `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout):
                msg = f"the condition was not met within {timeout} s: {self!r}"
                raise TimeoutError(msg)

    def _connection(self) -> Connection:
        return Connection(self._serve, self._count)

    def _count(self, connection: Connection, is_open: bool) -> None:
        with self._changed:
            if is_open:
                self._connections.add(connection)
            else:
                self._connections.discard(connection)
            self._changed.notify_all()

    async def _serve(self, http: HttpRequest, connection: Connection) -> None:
        path = http.path.partition("?")[0]
        protocol = next((each for each in _PROTOCOLS if each.matches(http.method, path)), None)
        if protocol is None:
            self._serve_other(http.method, path, connection)
            return
        try:
            body = json.loads(http.body)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            refusal = protocol.encode_error(Status(400, message="the body is not a JSON object"))
            connection.send(refusal.status, refusal.body, refusal.content_type, refusal.headers)
            return
        request, outcome = self._record(protocol, path, http, body)
        responder = Responder(
            protocol=protocol,
            connection=connection,
            request=request,
            reply=self._reply,
            chunks=self._chunks,
            chunk_delay=self._chunk_delay,
        )
        try:
            await perform(outcome(body) if callable(outcome) else outcome, responder)
        except Exception as error:  # noqa: BLE001  the test's own reply may raise anything
            status = Status(500, message=f"the reply raised {error!r}")
            responder.send(protocol.encode_error(status))

    def _serve_other(self, method: str, path: str, connection: Connection) -> None:
        with self._changed:
            models = {name for name in self._plans if name} | {r.model for r in self._requests}
        for protocol in _PROTOCOLS:
            response = protocol.answer_other(method, path, sorted(models))
            if response is not None:
                connection.send(response.status, response.body, response.content_type)
                return
        error = {"message": f"nothing is served at {method} {path}", "type": "not_found_error"}
        connection.send(404, to_json({"type": "error", "error": error}), "application/json")

    def _record(
        self, protocol: WireProtocol, path: str, http: HttpRequest, body: dict[str, Any]
    ) -> tuple[RecordedRequest, Outcome]:
        model, stream = protocol.parse_call(path, body)
        with self._changed:
            request = RecordedRequest(
                number=len(self._requests) + 1,
                provider=protocol.name,
                path=http.path,
                headers=http.headers,
                body=body,
                model=model,
                stream=stream,
            )
            self._requests.append(request)
            self._changed.notify_all()
            return request, self._choose(model)

    def _choose(self, model: str) -> Outcome:
        plans = [self._plans[name] for name in (model, None) if name in self._plans]
        for plan in plans:
            if plan.script:
                return plan.script.popleft()
        standing = (plan.standing for plan in plans if plan.standing is not None)
        return next(standing, self._reply)


def _check(outcome: object) -> None:
    if not (isinstance(outcome, str | Response | Fault) or callable(outcome)):
        msg = f"neither a reply nor a fault: {outcome!r}"
        raise TypeError(msg)


class _ServerThread:
    """The thread, its event loop and the listening socket, from start to stop."""

    def __init__(
        self,
        listener: socket.socket,
        connection: Callable[[], Connection],
        connections: set[Connection],
    ) -> None:
        self._loop = asyncio.SelectorEventLoop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(
            target=self._run,
            args=(listener, connection, connections),
            name="agentkit-wire-server",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self, *args: Any) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen(*args))

    async def _listen(
        self,
        listener: socket.socket,
        connection: Callable[[], Connection],
        connections: set[Connection],
    ) -> None:
        server = await self._loop.create_server(connection, sock=listener, backlog=_BACKLOG)
        await self._stopping.wait()
        # A server that is closed while it accepts a connection leaks that socket: stop accepting,
        # end every connection, then close.
        self._loop.remove_reader(listener)
        while connections or len(asyncio.all_tasks()) > 1:
            for each in list(connections):
                each.abort()
            await asyncio.sleep(0)
        server.close()
