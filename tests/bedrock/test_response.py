"""A response gives its content, cost, times and history under the names of both documents."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.bedrock import (
    BedrockResponse,
    BedrockUsage,
    CacheDetail,
    CacheEfficiency,
    Citation,
    ReasoningContent,
    RequestAttempt,
    StopReasonCategory,
    StopReasonEnum,
    ToolUse,
    ValidationAttempt,
    ValidationResult,
)
from agentkit.bedrock.serialization import pack
from agentkit.errors import InvalidResponseError, LLMError, RateLimitError
from agentkit.types import Usage
from agentkit.types.json_values import unpack
from agentkit.types.ledger import Entry, Ledger
from tests.bedrock.messages import samples as s

CITATION = {
    "title": "Report",
    "sourceContent": [{"text": "as written"}],
    "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}},
}
DATA: dict[str, Any] = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
                {"reasoningContent": {"redactedContent": b"\0\1"}},
                {"text": "Paris."},
                {"citationsContent": {"content": [{"text": "It is."}], "citations": [CITATION]}},
                {"image": {"format": "png", "source": {"bytes": s.PNG}}},
                {"toolUse": {"toolUseId": "t1", "name": "map", "input": {"at": "Paris"}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": {
        "inputTokens": 10,
        "outputTokens": 5,
        "totalTokens": 1065,
        "cacheReadInputTokens": 1000,
        "cacheWriteInputTokens": 50,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 50}],
    },
    "metrics": {"latencyMs": 700},
    "additionalModelResponseFields": {"top_k": 3},
    "trace": {"guardrail": {"actionReason": "none"}},
    "performanceConfig": {"latency": "standard"},
    "serviceTier": {"type": "default"},
}


def attempts() -> list[RequestAttempt]:
    via = {"access_method": "regional_cris"}
    failed = Entry(
        "a",
        "aws.bedrock",
        "failure",
        number=1,
        started=0.25,
        duration=0.5,
        details={**via, "model_id": "us.a", "error": RateLimitError("slow down")},
    )
    answered = Entry(
        "b",
        "aws.bedrock",
        "success",
        number=1,
        started=1.0,
        duration=1.0,
        details={**via, "model_id": "us.b"},
    )
    return [
        RequestAttempt.from_entry(entry, number, model="Claude 3 Haiku", region=region)
        for number, (entry, region) in enumerate(
            [(failed, "us-east-1"), (answered, "us-west-2")], start=1
        )
    ]


@pytest.fixture
def response() -> BedrockResponse:
    return BedrockResponse(
        success=True,
        response_data=DATA,
        model_used="Claude 3 Haiku",
        region_used="us-west-2",
        access_method_used="regional_cris",
        inference_profile_id="us.b",
        attempts=attempts(),
        total_duration_ms=2000.0,
        warnings=["tools were left out"],
        features_disabled=["tools"],
        validation_attempts=[
            ValidationAttempt(1, ValidationResult(False, "too short", {"length": 3}), "abc"),
            ValidationAttempt(2, ValidationResult(True)),
        ],
        ledger=Ledger([Entry("a", "aws.bedrock", "success", number=1)]),
    )


def value(response: BedrockResponse, member: str) -> Any:
    found = getattr(response, member)
    return found() if callable(found) else found


@pytest.mark.promise("S0-42", "S0-44", "S0-45", "S0-46", "S0-47", "S1-87")
@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("was_successful", True),
        ("get_content", "Paris.\nIt is."),
        ("get_text_blocks", ["Paris.", "It is."]),
        ("get_content_blocks", DATA["output"]["message"]["content"]),
        ("get_tool_uses", [ToolUse("t1", "map", {"at": "Paris"})]),
        (
            "get_reasoning",
            [ReasoningContent("hm", "sig"), ReasoningContent(redacted_content=b"\0\1")],
        ),
        ("get_citations", [Citation("Report", None, ("as written",), CITATION["location"])]),  # type: ignore[arg-type]
        ("get_input_tokens", 10),
        ("get_output_tokens", 5),
        ("get_total_tokens", 1065),
        ("get_cache_read_tokens", 1000),
        ("get_cache_write_tokens", 50),
        ("get_cache_details", [CacheDetail("5m", 50)]),
        (
            "get_metrics",
            {
                "api_latency_ms": 700,
                "total_duration_ms": 2000.0,
                "request_prep_ms": 250.0,
                "network_latency_ms": 300.0,
                "attempts_made": 2,
                "successful_attempt_number": 2,
            },
        ),
        ("get_stop_reason", "tool_use"),
        ("get_stop_reason_category", StopReasonCategory.TERMINAL),
        ("get_additional_model_response_fields", {"top_k": 3}),
        ("get_guardrail_trace", {"actionReason": "none"}),
        ("inference_profile_used", True),
        ("get_attempt_count", 2),
        ("get_warnings", ["tools were left out"]),
        ("had_validation_failures", True),
        ("get_validation_attempt_count", 2),
        (
            "get_validation_metrics",
            {
                "validation_attempts": 2,
                "validation_errors": 1,
                "had_failures": True,
                "success_rate": 0.5,
            },
        ),
    ],
)
def test_what_a_response_says(response: BedrockResponse, member: str, expected: Any) -> None:
    assert value(response, member) == expected


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        *(
            (member, None)
            for member in (
                "get_content",
                "get_usage",
                "get_cache_efficiency",
                "get_stop_reason",
                "get_structured_output",
                "get_successful_attempt",
            )
        ),
        *((member, []) for member in ("get_tool_uses", "get_citations", "get_reasoning")),
        ("get_total_tokens", 0),
        ("inference_profile_used", False),
    ],
)
def test_what_a_failure_says(member: str, expected: Any) -> None:
    failed = BedrockResponse(False, attempts=attempts()[:1])
    assert value(failed, member) == expected


def test_the_figures_of_a_failure() -> None:
    failed = BedrockResponse(False, attempts=attempts()[:1])
    assert failed.get_metrics()["network_latency_ms"] is None
    assert failed.get_validation_metrics()["success_rate"] is None
    assert isinstance(failed.get_last_error(), RateLimitError)
    assert BedrockResponse(False).get_last_error() is None


def test_blocks_are_found_by_kind(response: BedrockResponse) -> None:
    assert response.get_content_blocks_by_type("text") == [{"text": "Paris."}]
    (image,) = response.get_content_blocks_by_type("image")
    assert image == {"image": {"format": "png", "source": {"bytes": s.PNG}}}


def test_the_warnings_are_a_copy(response: BedrockResponse) -> None:
    response.get_warnings().append("mine")
    assert len(response.warnings) == 1


@pytest.mark.promise("S0-47")
def test_a_rejected_answer_keeps_its_reason(response: BedrockResponse) -> None:
    (error,) = response.get_validation_errors()
    assert error["error_message"] == "too short"
    assert error["error_details"] == {"length": 3}


@pytest.mark.promise("S0-43", "S1-87")
def test_usage_reads_under_every_name_in_use(response: BedrockResponse) -> None:
    usage = response.get_usage()
    assert usage == {
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 1065,
        "cache_read_tokens": 1000,
        "cache_write_tokens": 50,
    }
    assert usage["inputTokens"] == usage["prompt_tokens"] == usage["input"] == 10
    assert usage.get("completion_tokens") == usage.get("outputTokens") == 5
    assert "totalTokens" in usage
    assert usage.get("nothing", 7) == 7
    with pytest.raises(KeyError):
        usage["nothing"]
    assert usage.to_usage() == Usage(1060, 5, 1000, 50)


def test_the_stop_reasons_are_those_of_the_service() -> None:
    assert {one.value for one in StopReasonEnum} == s.enum_of("StopReason")
    new = BedrockResponse(True, {"stopReason": "bored"})
    assert new.get_stop_reason_category() is StopReasonCategory.UNKNOWN
    broken = BedrockResponse(True, {"stopReason": "malformed_tool_use"})
    assert broken.get_stop_reason_category() is StopReasonCategory.RETRYABLE


@pytest.mark.promise("B33", "S0-42", "S1-27")
def test_attempts_name_model_and_region_under_both_names(response: BedrockResponse) -> None:
    first, second = response.attempts
    assert (first.model_used, first.region_used) == ("Claude 3 Haiku", "us-east-1")
    assert (first.model_id, first.region, first.duration_ms) == ("us.a", "us-east-1", 500.0)
    assert response.get_successful_attempt() is second
    assert isinstance(response.get_last_error(), RateLimitError)
    assert len(response.get_all_errors()) == 1
    assert RequestAttempt("m", "r", "direct", 1).duration_ms is None


@pytest.mark.promise("S1-78")
def test_a_json_answer_is_read() -> None:
    def answer(text: str) -> BedrockResponse:
        return BedrockResponse(True, {"output": {"message": {"content": [{"text": text}]}}})

    assert answer('{"a": 1}').get_structured_output() == {"a": 1}
    with pytest.raises(InvalidResponseError, match="not valid JSON"):
        answer("words").get_structured_output()


@pytest.mark.promise("B31")
def test_a_response_survives_json_bytes_and_errors_included(response: BedrockResponse) -> None:
    again = BedrockResponse.from_dict(json.loads(response.to_json(indent=2)))
    assert again == response
    (image,) = again.get_content_blocks_by_type("image")
    assert image["image"]["source"]["bytes"] == s.PNG
    assert type(again.get_last_error()) is RateLimitError
    assert again.to_dict() == response.to_dict()
    foreign = RequestAttempt("m", "r", "direct", 1, error=KeyError("x"))
    assert type(RequestAttempt.from_dict(foreign.to_dict()).error) is LLMError


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.binary()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("$bytes"), inner),
    max_leaves=20,
)


@given(VALUES)
def test_any_value_of_a_response_survives_json(value: Any) -> None:
    assert unpack(json.loads(json.dumps(pack(value)))) == value


NAMES = st.text(max_size=5)
FIELDS = st.none() | st.dictionaries(NAMES, VALUES, max_size=3)
SECONDS = st.floats(0, 1e6)
FAILURES = st.none() | NAMES.map(RateLimitError)
ATTEMPTS = st.builds(
    RequestAttempt,
    model_id=NAMES,
    region=NAMES,
    access_method=NAMES,
    attempt_number=st.integers(1, 9),
    start_time=SECONDS,
    end_time=st.none() | SECONDS,
    error=FAILURES,
    success=st.booleans(),
    model_used=NAMES,
)
CHECKS = st.builds(
    ValidationAttempt,
    st.integers(1, 9),
    st.builds(ValidationResult, st.booleans(), st.none() | NAMES, FIELDS),
    st.none() | NAMES,
)
LEDGERS = st.lists(
    st.builds(
        lambda model, number, started: Entry(model, "p", "failure", number, started),
        NAMES,
        st.integers(1, 9),
        SECONDS,
    ),
    max_size=2,
).map(Ledger)
RESPONSES = st.builds(
    BedrockResponse,
    success=st.booleans(),
    response_data=FIELDS,
    model_used=st.none() | NAMES,
    region_used=st.none() | NAMES,
    access_method_used=st.none() | NAMES,
    inference_profile_id=st.none() | NAMES,
    attempts=st.lists(ATTEMPTS, max_size=2),
    total_duration_ms=SECONDS,
    api_latency_ms=st.floats(0, 1e6),
    warnings=st.lists(NAMES, max_size=2),
    features_disabled=st.lists(NAMES, max_size=2),
    validation_attempts=st.lists(CHECKS, max_size=2),
    parameters_removed=st.lists(NAMES, max_size=2),
    original_additional_fields=FIELDS,
    final_additional_fields=FIELDS,
    ledger=LEDGERS,
    final_error=FAILURES,
)


def kind_and_text(error: BaseException | None) -> tuple[type, str]:
    return type(error), str(error)


@pytest.mark.promise("S0-48")
@given(RESPONSES, st.none() | st.integers(0, 4))
def test_any_response_survives_its_dict_and_its_json(
    response: BedrockResponse, indent: int | None
) -> None:
    text = response.to_json(indent)
    assert json.loads(text) == response.to_dict()
    assert ("\n" in text) == (indent is not None)
    again = BedrockResponse.from_dict(json.loads(text))
    assert again == response
    assert again.ledger == response.ledger
    assert kind_and_text(again.final_error) == kind_and_text(response.final_error)
    assert [kind_and_text(one.error) for one in again.attempts] == [
        kind_and_text(one.error) for one in response.attempts
    ]


COUNTS = st.integers(min_value=0, max_value=10**9)


@pytest.mark.promise("B19", "S1-42")
@given(COUNTS, COUNTS, COUNTS)
def test_cache_ratios_stay_between_zero_and_one(plain: int, read: int, written: int) -> None:
    usage = BedrockUsage.of(
        {"inputTokens": plain, "cacheReadInputTokens": read, "cacheWriteInputTokens": written}
    )
    result = CacheEfficiency.of(usage)
    assert 0 <= result["cache_hit_ratio"] <= 1
    assert 0 <= result["cache_effectiveness"] <= 1
    assert str(result).endswith("%")


@pytest.mark.promise("B19", "S1-43")
def test_the_saving_is_counted_with_the_callers_prices(response: BedrockResponse) -> None:
    result = response.get_cache_efficiency(3.0, 0.3, 3.75)
    assert result is not None
    assert result["cache_hit_ratio"] == 1000 / 1060
    assert result["cache_savings_cost"] == pytest.approx((1000 * 2.7 - 50 * 0.75) / 1000)
    unpriced = response.get_cache_efficiency()
    assert unpriced is not None
    assert unpriced["cache_savings_cost"] is None
    assert str(result) == "94.3%"


def test_a_missing_total_is_the_sum() -> None:
    assert BedrockUsage.of({"inputTokens": 2, "outputTokens": 3})["total_tokens"] == 5
