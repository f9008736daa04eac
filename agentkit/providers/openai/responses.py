"""OpenAI's responses API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from agentkit.providers.adapter import Adapter, StreamDecoder
from agentkit.providers.openai import responses_decoder, responses_encoder
from agentkit.providers.openai.chat import OPENAI_URL, account_headers
from agentkit.providers.parameters import RESPONSES, Parameters
from agentkit.providers.transport.base import Body, Reply
from agentkit.providers.transport.http import HttpApi
from agentkit.providers.transport.sdk import SdkMethod
from agentkit.types import Request, Response


class OpenAIResponses(Adapter):
    """A model of OpenAI's responses API: text, images, files, tools, JSON schemas, streams.

    OpenAI stores nothing unless ``store=True`` is set; reasoning models send their reasoning
    encrypted, and get it back with the conversation. The model's reasoning is in
    `Response.reasoning` if summaries are requested (``reasoning={"summary": "auto"}``).
    """

    provider: ClassVar[str] = "openai"
    api: ClassVar[str | None] = "openai-responses"
    sdk_method: ClassVar[SdkMethod] = SdkMethod("openai", "OpenAI", "responses")
    parameter_names: ClassVar[frozenset[str] | None] = RESPONSES
    http_api: ClassVar[HttpApi] = HttpApi("/responses", OPENAI_URL, "OPENAI")
    capabilities = frozenset(
        {"messages", "tools", "vision", "documents", "json_schema", "json_object"}
    )

    def encode_with(
        self, request: Request, parameters: Parameters, *, stream: bool = False
    ) -> Body:
        """The body of ``POST /responses``."""
        return responses_encoder.encode(
            request,
            model=self.model,
            parameters=parameters,
            states=self.states,
            stream=stream,
        )

    def decode(self, reply: Reply) -> Response[Any]:
        """A ``response`` object."""
        return responses_decoder.decode(reply, model=self.model, origin=self.states.origin)

    def stream_decoder(self, headers: Mapping[str, str]) -> StreamDecoder:
        """The decoder of ``response.…`` events."""
        return responses_decoder.ResponsesStreamDecoder(
            headers, model=self.model, origin=self.states.origin
        )

    def reply_record(self) -> type[Any] | None:
        """A ``response`` object."""
        from agentkit.providers.openai.response_record import ResponseRecord

        return ResponseRecord

    def event_record(self) -> type[Any] | None:
        """An event such as ``response.output_text.delta``."""
        from agentkit.providers.openai.event_record import DeltaRecord

        return DeltaRecord

    def http_headers(self) -> dict[str, str]:
        """The key, and the account that it is used for."""
        return {**super().http_headers(), **account_headers()}
