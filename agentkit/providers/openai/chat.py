"""OpenAI's chat completions, and every server with the same API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from agentkit.providers.adapter import Adapter, StreamDecoder
from agentkit.providers.openai import chat_decoder, chat_encoder, model_rules
from agentkit.providers.parameters import CHAT, Parameters
from agentkit.providers.transport.base import Body, Reply
from agentkit.providers.transport.http import HttpApi
from agentkit.providers.transport.sdk import SdkMethod
from agentkit.types import Request, Response

OPENAI_URL: Final = "https://api.openai.com/v1"


def account_headers() -> dict[str, str]:
    """The organization and the project in the environment, as headers."""
    variables = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
    return {name: value for name, each in variables.items() if (value := os.environ.get(each))}


class OpenAIChat(Adapter):
    """A chat model of OpenAI: text, images, tools, JSON schemas, streams."""

    provider: ClassVar[str] = "openai"
    sdk_method: ClassVar[SdkMethod] = SdkMethod("openai", "OpenAI", "chat.completions")
    http_api: ClassVar[HttpApi] = HttpApi("/chat/completions", OPENAI_URL, "OPENAI")
    capabilities = frozenset({"messages", "tools", "vision", "json_schema", "json_object"})
    parameter_names: ClassVar[frozenset[str] | None] = CHAT
    max_tokens_name: ClassVar[str] = "max_completion_tokens"
    """What the provider calls the limit on the tokens of an answer."""
    stream_usage: ClassVar[bool] = True
    """Whether a stream has its usage only on request."""
    daily_requests: ClassVar[bool] = False
    """Whether the header of its request limit counts a day, not a minute."""

    def encode_with(
        self, request: Request, parameters: Parameters, *, stream: bool = False
    ) -> Body:
        """The body of ``POST /chat/completions``."""
        self.fit_to_model(request, parameters)
        return chat_encoder.encode(
            request,
            model=self.model,
            parameters=parameters,
            max_tokens_name=self.max_tokens_name,
            any_response_format=self.parameter_names is None,
            stream_usage=self.stream_usage,
            states=self.states,
            stream=stream,
        )

    def fit_to_model(self, request: Request, parameters: Parameters) -> None:
        """Leave out of `parameters` what the model is known to refuse."""
        tools = bool(request.tools or parameters.values.get("tools"))
        effort = model_rules.fit_to_model(parameters, self.model, chat_with_tools=tools)
        if effort is not None:
            parameters.values["reasoning_effort"] = effort

    def decode(self, reply: Reply) -> Response[Any]:
        """A ``chat.completion`` object."""
        return chat_decoder.decode(
            reply,
            model=self.model,
            origin=self.states.origin,
            daily_requests=self.daily_requests,
        )

    def stream_decoder(self, headers: Mapping[str, str]) -> StreamDecoder:
        """The decoder of ``chat.completion.chunk`` objects."""
        return chat_decoder.ChatStreamDecoder(
            headers,
            model=self.model,
            origin=self.states.origin,
            daily_requests=self.daily_requests,
        )

    def reply_record(self) -> type[Any] | None:
        """A ``chat.completion`` object."""
        from agentkit.providers.openai.chunk_record import CompletionRecord

        return CompletionRecord

    def event_record(self) -> type[Any] | None:
        """A ``chat.completion.chunk`` object."""
        from agentkit.providers.openai.chunk_record import ChunkRecord

        return ChunkRecord

    def http_headers(self) -> dict[str, str]:
        """The key, and the account that it is used for."""
        return {**super().http_headers(), **account_headers()}
