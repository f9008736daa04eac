"""One Converse request as a value, for parallel runs and to store."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from agentkit.bedrock.serialization import pack
from agentkit.types.json_values import unpack

_counter = itertools.count()

_NAMES = {
    "messages": "messages",
    "system": "system",
    "inference_config": "inferenceConfig",
    "additional_model_request_fields": "additionalModelRequestFields",
    "additional_model_response_field_paths": "additionalModelResponseFieldPaths",
    "guardrail_config": "guardrailConfig",
    "tool_config": "toolConfig",
    "request_metadata": "requestMetadata",
    "prompt_variables": "promptVariables",
    "output_config": "outputConfig",
    "performance_config": "performanceConfig",
    "service_tier": "serviceTier",
}


@dataclass(slots=True)
class FailureEntry:
    """One failure of a request."""

    attempt_number: int
    exception: Exception
    timestamp: float = field(default_factory=time.time)
    model: str | None = None
    region: str | None = None

    @property
    def exception_type(self) -> str:
        """The class of the exception."""
        return type(self.exception).__name__

    @property
    def error_message(self) -> str:
        """Its message."""
        return str(self.exception)


@dataclass(slots=True)
class BedrockConverseRequest:
    """One request; only `messages` is required.

    The other fields are those of `LLMManager.converse`. `request_id` defaults to a unique one.
    Requests with a higher `priority` start first in a parallel run.
    """

    messages: list[dict[str, Any]]
    system: list[dict[str, Any]] | None = None
    inference_config: dict[str, Any] | None = None
    additional_model_request_fields: dict[str, Any] | None = None
    additional_model_response_field_paths: list[str] | None = None
    guardrail_config: dict[str, Any] | None = None
    tool_config: dict[str, Any] | None = None
    request_metadata: dict[str, Any] | None = None
    prompt_variables: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    performance_config: dict[str, Any] | None = None
    service_tier: dict[str, Any] | None = None
    model_specific_config: Any = None
    request_id: str = ""
    priority: int = 0
    retry_count: int = 0
    max_retries: int | None = None
    failure_history: list[FailureEntry] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.request_id:
            content = f"{pack(self.messages)!r}{next(_counter)}".encode()
            self.request_id = (
                f"req_{hashlib.sha256(content).hexdigest()[:12]}_{time.time_ns() // 1000}"
            )

    def to_converse_args(self) -> dict[str, Any]:
        """The fields that are set, by the service's names."""
        return {
            theirs: value
            for ours, theirs in _NAMES.items()
            if (value := getattr(self, ours)) is not None
        }

    def arguments(self) -> dict[str, Any]:
        """The fields that are set, as keyword arguments of `LLMManager.converse`."""
        names = [*_NAMES, "model_specific_config"]
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def record_failure(
        self, exception: Exception, model: str | None = None, region: str | None = None
    ) -> None:
        """Add a failure to the history."""
        self.retry_count += 1
        self.failure_history.append(
            FailureEntry(self.retry_count, exception, model=model, region=region)
        )

    def to_dict(self) -> dict[str, Any]:
        """The request as a JSON value (bytes as base64), without its failures."""
        left_out = {"failure_history", "model_specific_config"}
        return {
            each.name: pack(getattr(self, each.name))
            for each in fields(self)
            if each.name not in left_out
        }

    @classmethod
    def from_dict(cls, packed: Mapping[str, Any]) -> BedrockConverseRequest:
        """The inverse of `to_dict`."""
        return cls(**{name: unpack(value) for name, value in packed.items()})


def converse_arguments(**given: Any) -> dict[str, Any]:
    """Converse's arguments by the service's names, for those of `LLMManager.converse` not None."""
    return {theirs: given[ours] for ours, theirs in _NAMES.items() if given.get(ours) is not None}
