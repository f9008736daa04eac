"""Google's Gemini models through google-genai."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Final, Self

from agentkit import errors as e
from agentkit.providers.call_memory import Recall
from agentkit.providers.content import count
from agentkit.providers.google.encoding import encoded
from agentkit.providers.openai.chat import called
from agentkit.providers.sdk import CONNECT_TIMEOUT, SdkProvider
from agentkit.providers.sse import keep_data_lines
from agentkit.types import (
    End,
    ReasoningDelta,
    Request,
    Response,
    ResponseBuilder,
    StreamEvent,
    TextDelta,
    ToolCall,
    Usage,
)

_FINISH = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
_REFUSED = frozenset({
    "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR",
})  # fmt: skip
_MALFORMED = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE"})

_KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED"})
"""Google answers a wrong key with status 400 and one of these."""
_TOO_LONG = re.compile(r"The input token count .*exceeds the maximum number of tokens")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")

_UNREADABLE = (AttributeError, TypeError, KeyError, IndexError, UnicodeError, json.JSONDecodeError)
"""What the SDK raises where an answer has another shape than it expects."""
_UNREADABLE_NAMES = frozenset({"UnknownApiResponseError", "ValidationError"})

_opened: Final[ContextVar[list[Any] | None]] = ContextVar("agentkit_google_opened", default=None)


class Google(SdkProvider):
    """A Gemini model: text, images, documents, tools, JSON schemas, thoughts, streams."""

    provider: ClassVar[str] = "google"
    capabilities = frozenset(
        {"messages", "tools", "vision", "documents", "json_schema", "json_object"}
    )
    key_variables: ClassVar[tuple[str, ...]] = ("GOOGLE_API_KEY", "GEMINI_API_KEY")

    def __init__(self, model: str, **settings: Any) -> None:
        super().__init__(model, **settings)
        self._signatures: Recall[bytes] = Recall()

    def with_key(self, api_key: str) -> Self:
        """The same model and settings with another key; what one was told, the other knows."""
        other = super().with_key(api_key)
        other._signatures = self._signatures
        return other

    def send(self, request: Request) -> Response[Any]:
        """Answer, blocking."""
        responses = list[Any]()
        with _noting(responses):
            answer = self._clients.sync().models.generate_content(**self._encoded(request))
        return _Told(self).response(answer, responses)

    async def asend(self, request: Request) -> Response[Any]:
        """Answer, async."""
        models, responses = self._clients.of_loop().models, list[Any]()
        with _noting(responses):
            answer = await models.generate_content(**self._encoded(request))
        return _Told(self).response(answer, responses)

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        """Stream, blocking."""
        models = self._clients.sync().models
        chunks = models.generate_content_stream(**self._encoded(request))
        told, responses = _Told(self), list[Any]()
        try:
            while True:
                with _noting(responses):
                    chunk = next(chunks, None)
                if chunk is None:
                    break
                yield from told.events(chunk)
            yield from told.end()
        finally:
            chunks.close()
            for response in responses:
                response.close()

    async def astream(self, request: Request) -> AsyncIterator[StreamEvent]:
        """Stream, async."""
        models = self._clients.of_loop().models
        told, responses = _Told(self), list[Any]()
        chunks = None
        try:
            with _noting(responses):
                chunks = await models.generate_content_stream(**self._encoded(request))
            while True:
                with _noting(responses):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                for event in told.events(chunk):
                    yield event
            for event in told.end():
                yield event
        finally:
            if chunks is not None:
                await chunks.aclose()
            for response in responses:
                await response.aclose()

    def translate(self, exc: Exception) -> e.LLMError | None:
        """Google's own words for a wrong key, a full quota and a prompt that is too long."""
        error: e.LLMError | None = None
        if isinstance(exc, e.LLMError):
            return None
        if isinstance(getattr(exc, "code", None), int) and hasattr(exc, "details"):
            error = self._told(exc)
        elif isinstance(exc, _UNREADABLE) or type(exc).__name__ in _UNREADABLE_NAMES:
            error = e.InvalidResponseError(f"{self.model} sent an answer that cannot be read")
        elif type(exc) is ValueError:
            error = e.InvalidRequestError(
                f"the SDK refused the request to {self.model}", hint="see __cause__"
            )
        if error is not None:
            error.__cause__ = exc
        return error

    def _told(self, exc: Any) -> e.ProviderError | None:
        details = exc.details if isinstance(exc.details, Mapping) else {}
        inner = details.get("error")
        inner = inner if isinstance(inner, Mapping) else details
        infos = [each for each in inner.get("details") or () if isinstance(each, Mapping)]
        what = f"{self.model} failed: {type(exc).__name__} {exc.code}"
        if exc.code == 400 and any(each.get("reason") in _KEY_REASONS for each in infos):
            return e.AuthenticationError(what, status=400, hint="check the key")
        if exc.code == 400 and _TOO_LONG.match(str(inner.get("message", ""))):
            hint = "shorten the prompt or add a fallback with a larger context_window"
            return e.ContextLengthError(what, status=400, hint=hint)
        delays = (_SECONDS.fullmatch(str(each.get("retryDelay"))) for each in infos)
        delay = next((float(found[1]) for found in delays if found), None)
        if exc.code == 429 and delay is not None:
            return e.RateLimitError(what, status=429, retry_after=delay)
        return None

    def _encoded(self, request: Request) -> dict[str, Any]:
        return encoded(self.model, self._parameters(request), request, self._signatures)

    def _make_sync(self) -> Any:
        return _Blocking(self._key(), self._base_url)

    def _make_async(self) -> Any:
        return _Async(self._key(), self._base_url)


class _Blocking:
    """The SDK over an HTTP client of ours: its own retries in secret and leaves streams open."""

    def __init__(self, key: str, url: str | None) -> None:
        import httpx2

        hooks: dict[str, Any] = {"request": [_connect_soon], "response": [_note]}
        self._http = httpx2.Client(follow_redirects=True, event_hooks=hooks)
        unused = httpx2.AsyncClient(transport=httpx2.AsyncBaseTransport(), trust_env=False)
        self._client = _client(key, url, self._http, unused)
        self.models = self._client.models

    def close(self) -> None:
        self._http.close()


class _Async:
    """The same for one event loop."""

    def __init__(self, key: str, url: str | None) -> None:
        import httpx2

        hooks: dict[str, Any] = {"request": [_aconnect_soon], "response": [_anote]}
        self._http = httpx2.AsyncClient(follow_redirects=True, event_hooks=hooks)
        unused = httpx2.Client(transport=httpx2.BaseTransport(), trust_env=False)
        self._client = _client(key, url, unused, self._http)
        self.models = self._client.aio.models

    async def aclose(self) -> None:
        await self._http.aclose()


def _client(key: str, url: str | None, blocking: Any, asynchronous: Any) -> Any:
    from google import genai

    options = genai.types.HttpOptions(
        base_url=url, httpx_client=blocking, httpx_async_client=asynchronous
    )
    return genai.Client(api_key=key, vertexai=False, http_options=options)


def _connect_soon(request: Any) -> None:
    """The SDK allows a connection as much time as an answer."""
    limits = request.extensions["timeout"]
    limits["connect"] = min(limits["connect"] or CONNECT_TIMEOUT, CONNECT_TIMEOUT)


async def _aconnect_soon(request: Any) -> None:
    _connect_soon(request)


@contextmanager
def _noting(responses: list[Any]) -> Iterator[None]:
    """Collect the HTTP responses that open meanwhile; the SDK keeps them to itself."""
    token = _opened.set(responses)
    try:
        yield
    finally:
        _opened.reset(token)


def _note(response: Any) -> None:
    keep_data_lines(response)
    responses = _opened.get()
    if responses is not None:
        responses.append(response)


def _raise_told(responses: list[Any]) -> None:
    """Raise the error in a body with status 200, which the SDK drops."""
    from google.genai.errors import APIError

    body = responses[-1].json() if responses else {}
    error = body.get("error")
    if isinstance(error, Mapping):
        raise APIError(error.get("code") or 0, body, responses[-1])


async def _anote(response: Any) -> None:
    _note(response)


class _Told:
    """What an answer has told so far; a whole one is a stream of one chunk."""

    def __init__(self, adapter: Google) -> None:
        self._model = adapter.model
        self._signatures = adapter._signatures
        self._id: str | None = None
        self._finish: str | None = None
        self._usage: Any = None
        self._calls: list[ToolCall] = []
        self._empty = True

    def events(self, chunk: Any) -> Iterator[StreamEvent]:
        """The events of one chunk."""
        self._id = self._id or chunk.response_id
        self._usage = chunk.usage_metadata or self._usage
        feedback = chunk.prompt_feedback
        if feedback is not None and feedback.block_reason:
            raise self._refused()
        for candidate in chunk.candidates or ():
            if candidate.index:
                continue
            yield from self._parts(candidate, chunk)
            if candidate.finish_reason is not None:
                self._finish = str(candidate.finish_reason.value)

    def _parts(self, candidate: Any, chunk: Any) -> Iterator[StreamEvent]:
        content = candidate.content
        for part in (content.parts if content is not None else None) or ():
            if part.text and part.thought:
                yield ReasoningDelta(part.text)
            elif part.text:
                self._empty = False
                yield TextDelta(part.text, chunk)
            elif part.function_call is not None:
                self._calls.append(self._call(part))
            elif part.text is None:
                self._empty = False  # of another kind, such as code that was run

    def _call(self, part: Any) -> ToolCall:
        call = called(part.function_call.id, part.function_call.name, part.function_call.args)
        if part.thought_signature:
            self._signatures.keep(call.id, part.thought_signature)
        return call

    def end(self) -> Iterator[StreamEvent]:
        """The end mark, if the provider set one."""
        if self._finish in _REFUSED:
            raise self._refused()
        if self._finish in _MALFORMED:
            raise e.InvalidResponseError(f"{self._model} gave up: {self._finish}")
        if self._finish is None:
            return
        finish = _FINISH.get(self._finish, self._finish.lower())
        if self._empty and not self._calls and finish != "length":
            raise e.InvalidResponseError(f"{self._model} answered without content")
        if self._calls and finish == "stop":
            finish = "tool_calls"
        yield End(finish, usage_of(self._usage), tuple(self._calls), self._id)

    def response(self, answer: Any, responses: list[Any]) -> Response[Any]:
        """A whole answer, and the HTTP responses it came in."""
        if not answer.candidates and answer.prompt_feedback is None:
            _raise_told(responses)
        builder = ResponseBuilder((*self.events(answer), *self.end()))
        if builder.end is None:
            raise e.InvalidResponseError(f"{self._model} sent an answer without an end")
        return builder.response()

    def _refused(self) -> e.ContentFilterError:
        return e.ContentFilterError(f"{self._model} declined to answer")


def usage_of(usage: Any) -> Usage:
    """Token counts; what is missing or negative counts as 0. Thoughts are part of the output."""
    if usage is None:
        return Usage()
    thoughts = count(usage.thoughts_token_count)
    return Usage(
        count(usage.prompt_token_count) + count(usage.tool_use_prompt_token_count),
        count(usage.candidates_token_count) + thoughts,
        cache_read_tokens=count(usage.cached_content_token_count),
        reasoning_tokens=thoughts,
    )
