"""Google's generateContent API without its SDK: the path, the JSON and the fields of a response."""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

from agentkit.providers.parameters import GOOGLE
from agentkit.providers.transport.base import Body
from agentkit.providers.transport.http import Record

_GENERATION = frozenset(
    [
        "audio_timestamp",
        "candidate_count",
        "enable_enhanced_civic_answers",
        "frequency_penalty",
        "image_config",
        "logprobs",
        "max_output_tokens",
        "media_resolution",
        "model_selection_config",
        "presence_penalty",
        "response_json_schema",
        "response_logprobs",
        "response_mime_type",
        "response_modalities",
        "response_schema",
        "routing_config",
        "seed",
        "speech_config",
        "stop_sequences",
        "temperature",
        "thinking_config",
        "top_k",
        "top_p",
    ]
)
"""The fields of ``generationConfig``, see https://ai.google.dev/api/generate-content. The SDK has
them in one object with everything else."""
_OF_THE_SDK = frozenset({"http_options", "automatic_function_calling", "automatic_continuation"})
_OPAQUE = frozenset({"args", "response", "parameters_json_schema", "response_json_schema"})
"""Fields whose values are the user's own JSON."""


_VERSION = "v1"
"""The version of the API that the SDK takes by default."""


def locate(body: Body, stream: bool) -> tuple[str, Body]:
    """The path and the JSON of a request that was encoded for the SDK."""
    config = dict(body["config"])
    extra, version = config.pop("extra_body", None), _api_version(config.get("http_options"))
    model = quote(body["model"], safe="/")
    if not model.startswith(("models/", "tunedModels/")):
        model = f"models/{model}"
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    content: dict[str, Any] = {"contents": body["contents"]}
    generation: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in config.items():
        if name in _GENERATION:
            generation[name] = value
        elif name not in GOOGLE:
            unknown[name] = value
        elif name not in _OF_THE_SDK:
            content[name] = value
    if isinstance(system := content.get("system_instruction"), str):
        content["system_instruction"] = {"parts": [{"text": system}]}
    if generation:
        content["generation_config"] = generation
    content = {**_renamed(content), **unknown}
    _merge(content, extra or {})
    return f"/{version}/{model}:{method}", content


def _api_version(http_options: Any) -> str:
    """The version in the options, else the one that the environment sets for the SDK, else v1."""
    given = None
    if isinstance(http_options, Mapping):
        given = http_options.get("api_version") or http_options.get("apiVersion")
    version = given or os.environ.get("GOOGLE_GENAI_API_VERSION") or _VERSION
    return "v1beta" if version == "beta" else quote(str(version), safe="")


def _merge(content: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Add `extra` to `content`, as the SDK does: objects are merged, other values replaced."""
    for name, value in extra.items():
        known = content.get(name)
        if isinstance(known, dict) and isinstance(value, Mapping):
            _merge(known, value)
        else:
            content[name] = value


class GoogleRecord(Record):
    """A JSON object of Google, whose attributes have the SDK's names."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(_camel_case(name))
        if name == "thought_signature" and isinstance(value, str):
            return b64decode(value)
        return value


def _renamed(value: Any) -> Any:
    """`value` with the API's names of fields instead of the SDK's."""
    if isinstance(value, list):
        return [_renamed(each) for each in value]
    if isinstance(value, dict):
        return {
            _camel_case(name): each if name in _OPAQUE else _renamed(each)
            for name, each in value.items()
        }
    return value


@cache
def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.capitalize() for each in others)
