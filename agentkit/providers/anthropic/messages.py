"""Anthropic's messages API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from agentkit.providers.adapter import Adapter, StreamDecoder
from agentkit.providers.anthropic import decoder, encoder
from agentkit.providers.model_table import claude
from agentkit.providers.parameters import ANTHROPIC, Parameters
from agentkit.providers.transport.base import Body, Reply
from agentkit.providers.transport.http import HttpApi
from agentkit.providers.transport.sdk import SdkMethod
from agentkit.types import Request, Response
from agentkit.types.provider import NOT_WITH_PREFILL

_API_VERSION = "2026-10-21"  # the one of the SDK, whose responses the decoder reads


class AnthropicMessages(Adapter):
    """A Claude model: text, images, documents, tools, JSON schemas, thinking, streams.

    Its API requires ``max_tokens``; the default is that of the model's family.
    """

    provider: ClassVar[str] = "anthropic"
    sdk_method: ClassVar[SdkMethod] = SdkMethod("anthropic", "Anthropic", "messages")
    parameter_names: ClassVar[frozenset[str] | None] = ANTHROPIC
    http_api: ClassVar[HttpApi] = HttpApi("/v1/messages", "https://api.anthropic.com", "ANTHROPIC")
    prompt_too_long_pattern: ClassVar[re.Pattern[str] | None] = re.compile(
        r"prompt is too long|input length and `max_tokens` exceed context limit"
    )

    def __init__(self, model: str, **settings: Any) -> None:
        super().__init__(model, **settings)
        continues = claude(model).takes_prefill and not NOT_WITH_PREFILL & self.settings.keys()
        self.capabilities = frozenset(
            {"messages", "tools", "vision", "documents", "json_schema", "json_object"}
            | ({"prefill"} if continues else set())
        )

    def http_headers(self) -> dict[str, str]:
        """The key, and the version of the API."""
        return {**super().http_headers(), "anthropic-version": _API_VERSION}

    def encode_with(
        self, request: Request, parameters: Parameters, *, stream: bool = False
    ) -> Body:
        """The body of ``POST /v1/messages``."""
        return encoder.encode(
            request,
            model=self.model,
            parameters=parameters,
            states=self.states,
            stream=stream,
        )

    def decode(self, reply: Reply) -> Response[Any]:
        """A ``message`` object."""
        return decoder.decode(reply, model=self.model, origin=self.states.origin)

    def stream_decoder(self, headers: Mapping[str, str]) -> StreamDecoder:
        """The decoder of ``message_…`` and ``content_block_…`` events."""
        return decoder.MessagesStreamDecoder(headers, model=self.model, origin=self.states.origin)

    def reply_record(self) -> type[Any] | None:
        """A ``message`` object."""
        from agentkit.providers.anthropic.message_record import MessageRecord

        return MessageRecord

    def event_record(self) -> type[Any] | None:
        """A ``content_block_delta`` event."""
        from agentkit.providers.anthropic.event_record import DeltaRecord

        return DeltaRecord
