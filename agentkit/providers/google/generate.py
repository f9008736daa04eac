"""Google's generateContent API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from agentkit.errors import AuthenticationError, LLMError, RateLimitError
from agentkit.providers.adapter import Adapter, StreamDecoder
from agentkit.providers.errors import status_of
from agentkit.providers.google import decoder, encoder, rest
from agentkit.providers.parameters import GOOGLE, Parameters
from agentkit.providers.response_fields import prompt_too_long
from agentkit.providers.transport.base import Body, Reply, Transport
from agentkit.providers.transport.google_sdk import GoogleSdkTransport
from agentkit.providers.transport.http import HttpApi, Record
from agentkit.types import Request, Response

_KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED"})
"""Google answers a wrong key with status 400 and one of these."""
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")


class Google(Adapter):
    """A Gemini model: text, images, documents, tools, JSON schemas, thinking, streams."""

    provider: ClassVar[str] = "google"
    parameter_names: ClassVar[frozenset[str] | None] = GOOGLE
    http_api: ClassVar[HttpApi] = HttpApi(
        "", "https://generativelanguage.googleapis.com", "GOOGLE_GEMINI"
    )
    record: ClassVar[type[Record]] = rest.GoogleRecord
    prompt_too_long_pattern: ClassVar[re.Pattern[str] | None] = re.compile(
        r"The input token count .*exceeds the maximum number of tokens"
    )
    capabilities = frozenset(
        {"messages", "tools", "vision", "documents", "json_schema", "json_object"}
    )

    def encode_with(
        self, request: Request, parameters: Parameters, *, stream: bool = False
    ) -> Body:
        """The arguments of ``generateContent``: model, contents, and the fields of its config."""
        return encoder.encode(
            request,
            model=self.model,
            parameters=parameters,
            states=self.states,
        )

    def decode(self, reply: Reply) -> Response[Any]:
        """A ``GenerateContentResponse`` object."""
        return decoder.decode(reply, model=self.model, origin=self.states.origin)

    def stream_decoder(self, headers: Mapping[str, str]) -> StreamDecoder:
        """The decoder of ``GenerateContentResponse`` chunks."""
        return decoder.GenerateStreamDecoder(model=self.model, origin=self.states.origin)

    def reply_record(self) -> type[Any] | None:
        """A complete response, which has the shape of a chunk."""
        return self.event_record()

    def event_record(self) -> type[Any] | None:
        """A ``GenerateContentResponse`` chunk."""
        from agentkit.providers.google.chunk_record import ChunkRecord

        return ChunkRecord

    def make_transport(self) -> Transport:
        """A new transport; its clients are made when first needed."""
        if self.transport == "native":
            return super().make_transport()
        return GoogleSdkTransport(lambda: (self.find_key(), self.base_url))

    def http_headers(self) -> dict[str, str]:
        """The key."""
        return {"x-goog-api-key": self.find_key()}

    def locate(self, body: Body, stream: bool) -> tuple[str, Body]:
        """The path of a request without an SDK, and its JSON."""
        return rest.locate(body, stream)

    def translate(self, exc: Exception) -> LLMError | None:
        """Google's own words for a wrong key, an exceeded quota and a prompt that is too long."""
        error = self._error_in_body(exc)
        if error is None:
            return super().translate(exc)
        error.__cause__ = exc
        return error

    def _error_in_body(self, exc: Exception) -> LLMError | None:
        code = status_of(exc)
        body = getattr(exc, "details", None) or getattr(exc, "body", None)
        if not isinstance(body, Mapping):
            return None
        error = body.get("error")
        error = error if isinstance(error, Mapping) else body
        details = [each for each in error.get("details") or () if isinstance(each, Mapping)]
        message = f"{self.model} failed: {type(exc).__name__} {code}"
        if code == 400 and any(each.get("reason") in _KEY_REASONS for each in details):
            return AuthenticationError(message, status=400, hint="check the key")
        pattern = self.prompt_too_long_pattern
        if code == 400 and pattern is not None and pattern.match(str(error.get("message", ""))):
            return prompt_too_long(self.model)
        delays = (_SECONDS.fullmatch(str(each.get("retryDelay"))) for each in details)
        delay = next((float(match[1]) for match in delays if match), None)
        if code == 429 and delay is not None:
            return RateLimitError(message, status=429, retry_after=delay)
        return None
