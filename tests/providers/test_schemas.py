"""Every body of every adapter is one that the vendor's own schema allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit.providers.bedrock.encoding import arguments_of
from agentkit.providers.bedrock.parameters import fit_to_model
from agentkit.providers.registry import provider_for
from agentkit.providers.requirements import TransportName
from agentkit.providers.state import StateMemory
from agentkit.testing import WireServer
from agentkit.types import Message, MessageRole, Request, ToolCall, ToolSpec
from tests.providers.asking import CONVERSATION, PNG
from tests.providers.vendor_schemas import check_body


class City(BaseModel):
    name: str
    people: int | None = None


SCHEMA = City.model_json_schema()
TOOL = ToolSpec("weather", "Reports the weather.", {"type": "object", "properties": {}})
MODELS = {
    "openai": ("gpt-4.1", "gpt-5", "gpt-5.4", "gpt-6.1-terra", "o3", "some-model"),
    "openai-responses": ("gpt-4.1", "gpt-5", "gpt-5.4", "gpt-6.1-terra", "o3", "some-model"),
    "groq": ("openai/gpt-oss-120b", "qwen/qwen3-32b", "llama-3.3-70b-versatile", "some-model"),
    "compatible": ("some-model",),
    "anthropic": (
        *("claude-3-haiku-20240307", "claude-sonnet-4-20250514", "claude-sonnet-4-5"),
        *("claude-opus-4-6", "claude-sonnet-5-5", "claude-mythos-preview", "some-model"),
    ),
    "google": ("gemini-2.5-pro", "gemini-2.5-flash", "gemini-3.1-pro", "gemini-3.8-flash"),
}
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
FORMATS: dict[str, Any] = {
    "its own": {"type": "json_schema", "name": "City", "schema": SCHEMA},
    "that of chat completions": {
        "type": "json_schema",
        "json_schema": {"name": "City", "schema": SCHEMA, "strict": False},
    },
    "that of responses": {
        "type": "json_schema",
        "name": "City",
        "schema": SCHEMA,
        "strict": False,
        "description": "A city.",
    },
    "that of Anthropic": {"type": "json_schema", "schema": SCHEMA},
    "a pydantic model": City,
    "JSON mode": {"type": "json_object"},
    "plain text": {"type": "text"},
}
PARAMETERS: dict[str, Mapping[str, Any]] = {
    "nothing": {},
    "sampling": {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 1},
    "penalties": {"frequency_penalty": 0.1, "presence_penalty": 0.2, "logit_bias": {"1": 2}},
    "OpenAI's names": {"max_completion_tokens": 5000, "stop": "END", "n": 1, "user": "someone"},
    "names of responses": {
        "max_output_tokens": 5000,
        "reasoning": {"effort": "high"},
        "text": {"verbosity": "low", "format": FORMATS["that of responses"]},
        "truncation": "auto",
        "instructions": "Be kind.",
    },
    "Anthropic's names": {
        "stop_sequences": ["END", "STOP"],
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "output_config": {"effort": "low"},
        "metadata": {"user_id": "someone"},
        "system": "Be kind.",
    },
    "Google's names": {
        "maxOutputTokens": 5000,
        "stopSequences": ["END"],
        "topP": 0.5,
        "topK": 3,
        "candidateCount": 1,
        "safety_settings": [],
        "thinking_config": {"include_thoughts": True},
    },
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "metadata": {"metadata": {"team": "a"}, "store": False, "parallel_tool_calls": False},
    "a white stop": {"stop": ["\n", "END"]},
    "verbosity": {"verbosity": "low", "prompt_cache_key": "a", "safety_identifier": "b"},
    "Groq's names": {"reasoning_format": "parsed", "include_reasoning": True},
    "an SDK's options": {"extra_headers": {"x-a": "b"}, "timeout": 5},
    **{f"service tier {each}": {"service_tier": each} for each in ("auto", "flex", "default")},
    **{f"effort {each}": {"reasoning_effort": each} for each in EFFORTS},
    **{f"effort {each}, short": {"reasoning_effort": each, "max_tokens": 50} for each in EFFORTS},
    **{f"as {name}": {"response_format": each} for name, each in FORMATS.items()},
}
CHOICES: dict[str, Any] = {
    "auto": "auto",
    "required": "required",
    "by name": "weather",
    "of chat completions": {"type": "function", "function": {"name": "weather"}},
    "of responses": {"type": "function", "name": "weather"},
    "of Anthropic": {"type": "tool", "name": "weather"},
    "any of Anthropic": {"type": "any"},
}
CALLS = [
    Message(MessageRole.USER, [{"type": "image", "data": PNG, "media_type": "image/png"}]),
    Message(MessageRole.ASSISTANT, "", tool_calls=(ToolCall("call_1", "weather"),)),
    Message(MessageRole.TOOL, "rain", tool_call_id="call_1"),
]
every_model = pytest.mark.parametrize(
    ("provider", "model"), [(name, model) for name, models in MODELS.items() for model in models]
)


def requests() -> dict[str, Request]:
    """Requests in every shape that an encoder distinguishes."""
    by_name = {
        name: Request(prompt="Name a city.", params=params) for name, params in PARAMETERS.items()
    }
    for name, choice in CHOICES.items():
        params = {"tool_choice": choice, "reasoning_effort": "low", "parallel_tool_calls": False}
        by_name[f"tool choice {name}"] = Request(prompt="a", params=params, tools=(TOOL,))
        by_name[f"tool choice {name}, no tools"] = Request(prompt="a", params=params)
    for name in ("JSON mode", "its own"):
        by_name[f"tools and {name}"] = Request(
            prompt="a", response_format=FORMATS[name], tools=(TOOL,)
        )
    by_name["tool calls"] = Request(
        messages=tuple(CALLS), tools=(TOOL,), params={"reasoning_effort": "high"}
    )
    by_name["a conversation"] = Request(messages=tuple(CONVERSATION), tools=(TOOL,))
    return by_name


@every_model
def test_a_body_matches_the_schema_of_the_vendor(provider: str, model: str) -> None:
    if provider == "google":
        return  # its transports make the body: see below
    extra: dict[str, Any] = (
        {"base_url": "http://localhost:1/v1"} if provider == "compatible" else {}
    )
    adapter = provider_for(f"{provider}:{model}", api_key="made-up", **extra)
    for name, request in requests().items():
        for stream in (False, True):
            body = adapter.encode(request, stream=stream)
            if provider == "compatible" and _is_passed_through(name):
                continue
            try:
                check_body(provider, body)
            except Exception as error:
                raise AssertionError(f"{name}: {body}") from error


def _is_passed_through(name: str) -> bool:
    """Whether a server with OpenAI's API may know what OpenAI does not."""
    known = ("Google's", "Anthropic's", "names of responses", "sampling", "Groq's")
    return name.startswith(known)


@pytest.mark.wire
@pytest.mark.parametrize("transport", ["sdk", "native"])
@pytest.mark.parametrize("model", MODELS["google"])
def test_the_body_that_google_gets_matches_its_schema(model: str, transport: TransportName) -> None:
    with WireServer(reply='{"name": "Paris"}') as server:
        adapter = provider_for(
            f"google:{model}", api_key="made-up", base_url=server.google_url, transport=transport
        )
        for name, request in requests().items():
            adapter.send(request)
            try:
                check_body("google", server.requests[-1].body)
            except Exception as error:
                raise AssertionError(f"{name}: {server.requests[-1].body}") from error
        adapter.close()


def test_the_arguments_of_bedrocks_converse_match_its_model() -> None:
    for name, request in requests().items():
        fitted, _ = fit_to_model(request, "us.anthropic.claude-sonnet-4-5-20250929-v1:0")
        arguments = arguments_of(fitted, StateMemory("bedrock/some-model"))
        try:
            check_body("bedrock", arguments)
        except Exception as error:
            raise AssertionError(f"{name}: {arguments}") from error
