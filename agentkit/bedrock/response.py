"""The answer to one Bedrock request, or the reason why there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agentkit.bedrock.attempts import RequestAttempt, ValidationAttempt
from agentkit.bedrock.messages import content
from agentkit.bedrock.messages.content import (
    CacheDetail,
    Citation,
    ReasoningContent,
    ResponseContentType,
    StopReasonCategory,
    ToolUse,
)
from agentkit.bedrock.serialization import pack, unpack_error
from agentkit.errors import InvalidResponseError
from agentkit.providers.bedrock.encoding import joined, texts_of
from agentkit.providers.bedrock.routes import ModelAccessMethod
from agentkit.providers.bedrock.usage import BedrockUsage, CacheEfficiency
from agentkit.types.json_values import unpack
from agentkit.types.ledger import Ledger

_PROFILES: Final = {ModelAccessMethod.REGIONAL_CRIS, ModelAccessMethod.GLOBAL_CRIS}


@dataclass(slots=True)
class BedrockResponse:
    """An answer, where it came from, and the attempts it took.

    Attributes:
        success: whether there is an answer.
        response_data: the Converse response as the service sent it, or None.
        model_used: the name the caller gave.
        region_used: the Region that answered.
        access_method_used: ``direct``, ``regional_cris`` or ``global_cris``.
        inference_profile_id: the profile's id that was sent, if one was.
        attempts: every request sent, in order.
        total_duration_ms: from start to end.
        api_latency_ms: what the service itself measured.
        warnings: remarks for the caller.
        features_disabled: what was left out of the request.
        validation_attempts: validations of answers, in order.
        parameters_removed: fields left out of the request.
        original_additional_fields, final_additional_fields: model-specific fields, as given and
            as sent.
        ledger: every attempt and skip.
        final_error: the error of a request without an answer.
    """

    success: bool
    response_data: dict[str, Any] | None = None
    model_used: str | None = None
    region_used: str | None = None
    access_method_used: str | None = None
    inference_profile_id: str | None = None
    attempts: list[RequestAttempt] = field(default_factory=list)
    total_duration_ms: float = 0.0
    api_latency_ms: float | None = None
    warnings: list[str] = field(default_factory=list)
    features_disabled: list[str] = field(default_factory=list)
    validation_attempts: list[ValidationAttempt] = field(default_factory=list)
    parameters_removed: list[str] = field(default_factory=list)
    original_additional_fields: dict[str, Any] | None = None
    final_additional_fields: dict[str, Any] | None = None
    ledger: Ledger = field(default_factory=Ledger, compare=False)
    final_error: Exception | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.api_latency_ms is None:
            self.api_latency_ms = (self._data("metrics") or {}).get("latencyMs")

    def _data(self, name: str) -> Any:
        return (self.response_data or {}).get(name)

    def get_content(self) -> str | None:
        """The texts of the answer, a line for each block; None when there is no answer."""
        return joined(self.get_text_blocks()) if self.response_data is not None else None

    def get_content_blocks(self) -> list[dict[str, Any]]:
        """All blocks, as the service sent them."""
        return content.blocks_of(self.response_data)

    def get_content_blocks_by_type(
        self, content_type: ResponseContentType | str
    ) -> list[dict[str, Any]]:
        """The blocks of one kind."""
        kind = ResponseContentType(content_type).value
        return [block for block in self.get_content_blocks() if kind in block]

    def get_text_blocks(self) -> list[str]:
        """The texts of the blocks."""
        return texts_of(self.get_content_blocks())

    def get_tool_uses(self) -> list[ToolUse]:
        """The tool calls of the answer."""
        return content.tool_uses_of(self.get_content_blocks())

    def get_reasoning(self) -> list[ReasoningContent]:
        """The reasoning of the model; never part of `get_content`."""
        return content.reasoning_of(self.get_content_blocks())

    def get_citations(self) -> list[Citation]:
        """The sources that the answer cites."""
        return content.citations_of(self.get_content_blocks())

    def get_structured_output(self) -> Any:
        """The text of the answer, parsed as JSON; None when there is no answer.

        Raises:
            InvalidResponseError: the text is not valid JSON.
        """
        text = self.get_content()
        try:
            return None if text is None else json.loads(text)
        except ValueError as error:
            raise InvalidResponseError(f"the answer is not valid JSON: {error}") from error

    def get_usage(self) -> BedrockUsage | None:
        """Tokens of the answer, see `BedrockUsage`; None when there is no answer."""
        usage = self._data("usage")
        return None if usage is None else BedrockUsage.of(usage)

    def _tokens(self, name: str) -> int:
        usage = self.get_usage()
        return 0 if usage is None else usage[name]

    def get_input_tokens(self) -> int:
        """Tokens of the prompt, without those read from or written to the prompt cache."""
        return self._tokens("input_tokens")

    def get_output_tokens(self) -> int:
        """Tokens of the answer."""
        return self._tokens("output_tokens")

    def get_total_tokens(self) -> int:
        """All tokens, as the service sums them."""
        return self._tokens("total_tokens")

    def get_cache_read_tokens(self) -> int:
        """Tokens read from the prompt cache."""
        return self._tokens("cache_read_tokens")

    def get_cache_write_tokens(self) -> int:
        """Tokens written to the prompt cache."""
        return self._tokens("cache_write_tokens")

    def get_cache_details(self) -> list[CacheDetail]:
        """Tokens written to the prompt cache, by how long they are kept."""
        details = (self._data("usage") or {}).get("cacheDetails") or ()
        return [CacheDetail(one["ttl"], one["inputTokens"]) for one in details]

    def get_cache_efficiency(
        self,
        input_price: float | None = None,
        cache_read_price: float | None = None,
        cache_write_price: float | None = None,
    ) -> CacheEfficiency | None:
        """The effect of prompt caching, see `CacheEfficiency`; prices are for 1,000 tokens."""
        usage = self.get_usage()
        if usage is None:
            return None
        return CacheEfficiency.of(usage, input_price, cache_read_price, cache_write_price)

    def get_metrics(self) -> dict[str, Any]:
        """Times in milliseconds, and attempts.

        Keys: api_latency_ms (the service's own), total_duration_ms, request_prep_ms (until the
        first attempt), network_latency_ms (the successful attempt without the service's own time),
        attempts_made, successful_attempt_number.
        """
        winner = self.get_successful_attempt()
        spent = winner.duration_ms if winner else None
        latency = self.api_latency_ms
        known = spent is not None and latency is not None
        return {
            "api_latency_ms": latency,
            "total_duration_ms": self.total_duration_ms,
            "request_prep_ms": self.attempts[0].start_time * 1000 if self.attempts else None,
            "network_latency_ms": max(0.0, (spent or 0) - (latency or 0)) if known else None,
            "attempts_made": self.get_attempt_count(),
            "successful_attempt_number": winner.attempt_number if winner else None,
        }

    def get_stop_reason(self) -> str | None:
        """Why the answer ended, in the service's words."""
        reason = self._data("stopReason")
        return None if reason is None else str(reason)

    def get_stop_reason_category(self) -> StopReasonCategory:
        """What the stop reason means for another try."""
        return content.category_of(self.get_stop_reason())

    def get_additional_model_response_fields(self) -> dict[str, Any] | None:
        """The model-specific fields that were requested."""
        value = self._data("additionalModelResponseFields")
        return None if value is None else dict(value)

    def get_guardrail_trace(self) -> dict[str, Any] | None:
        """The trace of the guardrail, if it was requested."""
        return (self._data("trace") or {}).get("guardrail")

    def was_successful(self) -> bool:
        """Whether there is an answer."""
        return self.success

    def get_warnings(self) -> list[str]:
        """The `warnings`."""
        return list(self.warnings)

    def get_last_error(self) -> Exception | None:
        """The error of the last failed attempt, or of a request that was never sent."""
        errors = self.get_all_errors()
        return errors[-1] if errors else self.final_error

    def get_all_errors(self) -> list[Exception]:
        """The errors of all failed attempts, in order."""
        return [attempt.error for attempt in self.attempts if attempt.error is not None]

    def get_attempt_count(self) -> int:
        """The number of requests sent."""
        return len(self.attempts)

    def get_successful_attempt(self) -> RequestAttempt | None:
        """The attempt that answered; if several did, the last one."""
        return next((attempt for attempt in reversed(self.attempts) if attempt.success), None)

    def had_validation_failures(self) -> bool:
        """Whether an answer was rejected, even if a later one was accepted."""
        return bool(self.get_validation_errors())

    def get_validation_attempt_count(self) -> int:
        """The number of answers that were validated."""
        return len(self.validation_attempts)

    def get_validation_errors(self) -> list[dict[str, Any]]:
        """Why answers were rejected: attempt_number, error_message, error_details, in order."""
        return [
            {
                "attempt_number": one.attempt_number,
                "error_message": one.validation_result.error_message,
                "error_details": one.validation_result.error_details,
            }
            for one in self.validation_attempts
            if not one.validation_result.success
        ]

    def get_validation_metrics(self) -> dict[str, Any]:
        """validation_attempts, validation_errors (counts), had_failures and success_rate (0-1)."""
        checked, rejected = len(self.validation_attempts), len(self.get_validation_errors())
        return {
            "validation_attempts": checked,
            "validation_errors": rejected,
            "had_failures": rejected > 0,
            "success_rate": (checked - rejected) / checked if checked else None,
        }

    @property
    def inference_profile_used(self) -> bool:
        """Whether an inference profile answered."""
        return self.access_method_used in _PROFILES

    def to_dict(self) -> dict[str, Any]:
        """Every field as a JSON value; bytes are base64 under ``$bytes``."""
        packed: dict[str, Any] = pack(self)
        return packed

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict` as a JSON string."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    @classmethod
    def from_dict(cls, packed: Mapping[str, Any]) -> BedrockResponse:
        """The inverse of `to_dict`; errors become errors of our tree."""
        values = {name: unpack(value) for name, value in packed.items()}
        values["attempts"] = [RequestAttempt.from_dict(one) for one in packed["attempts"]]
        checks = packed["validation_attempts"]
        values["validation_attempts"] = [ValidationAttempt.from_dict(one) for one in checks]
        values["final_error"] = unpack_error(packed.get("final_error"))
        values["ledger"] = Ledger.from_dict(packed["ledger"])
        return cls(**values)
