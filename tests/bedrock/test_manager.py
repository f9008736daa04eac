"""Targets in rounds, faults by their meaning, nothing dropped unasked, every figure true."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentkit import BreakerPolicy
from agentkit.bedrock import (
    AuthenticationError,
    BedrockConverseRequest,
    ConfigurationError,
    LLMManagerError,
    RequestValidationError,
    ResponseValidationConfig,
    RetryConfig,
    RetryExhaustedError,
    RetryStrategy,
    UnknownModelError,
    ValidationResult,
)
from agentkit.errors import DeadlineExceededError, InvalidRequestError, RateLimitError
from tests.bedrock.runtime import (
    HAIKU,
    SONNET,
    FakeClients,
    manager,
    message,
    refused,
    throttled,
)

EAST, WEST, EU = "us-east-1", "us-west-2", "eu-west-1"
GUARD = {"guardrailIdentifier": "gr-1", "guardrailVersion": "1"}
TOOLS = {
    "tools": [
        {"toolSpec": {"name": "t", "description": "d", "inputSchema": {"json": {"type": "object"}}}}
    ]
}


def ask(llm: Any, mode: str, **how: Any) -> Any:
    if mode == "sync":
        return llm.converse([message()], **how)
    return asyncio.run(llm.aconverse([message()], **how))


both = pytest.mark.parametrize("mode", ["sync", "async"])


@pytest.mark.promise("B21", "S0-04", "S0-22", "S0-23", "S1-28")
@both
def test_the_first_target_answers_and_says_so(mode: str) -> None:
    clients = FakeClients("Paris")
    response = ask(manager(clients), mode)
    assert response.success
    assert response.get_content() == "Paris"
    assert (response.model_used, response.region_used) == (HAIKU, EAST)
    assert response.access_method_used == "regional_cris"
    assert response.inference_profile_id == "us.anthropic.claude-3-haiku-20240307-v1:0"
    assert response.get_usage()["total_tokens"] == 5
    (attempt,) = response.attempts
    assert (attempt.model_used, attempt.region_used, attempt.success) == (HAIKU, EAST, True)
    assert response.total_duration_ms > 0


@pytest.mark.promise("S0-01", "S0-05", "S0-06", "S0-42", "S1-23")
@both
def test_every_region_of_a_model_then_the_next_model(mode: str) -> None:
    clients = FakeClients(throttled(), throttled(), "Paris")
    response = ask(manager(clients, models=[HAIKU, SONNET]), mode)
    assert [(each.model_used, each.region) for each in response.attempts] == [
        (HAIKU, EAST),
        (HAIKU, WEST),
        (SONNET, EAST),
    ]
    assert response.ledger.slept == 0.0


@pytest.mark.promise("B4", "S0-13")
def test_b4_one_target_is_asked_again_until_the_attempts_are_used_up() -> None:
    clients = FakeClients(then=throttled())
    llm = manager(clients, regions=[EAST], retry={"max_retries": 3})
    with pytest.raises(RetryExhaustedError) as raised:
        llm.converse([message()])
    assert len(clients.asked) == 4
    assert raised.value.attempts_made == len(clients.asked)  # type: ignore[attr-defined]


@pytest.mark.promise("S0-29", "S0-65")
def test_attempts_are_bounded_over_all_targets() -> None:
    clients = FakeClients(then=throttled())
    llm = manager(clients, regions=[EAST, WEST, EU], retry={"max_attempts": 2})
    with pytest.raises(RetryExhaustedError) as raised:
        llm.converse([message()])
    assert clients.order == [EAST, WEST]
    assert raised.value.regions_tried == [EAST, WEST]  # type: ignore[attr-defined]
    assert not raised.value.response.success  # type: ignore[attr-defined]


@pytest.mark.promise("B5", "S0-65")
def test_b5_the_callers_fault_ends_the_request_at_once() -> None:
    clients = FakeClients(then=refused("ValidationException", "messages: wrong"))
    with pytest.raises(InvalidRequestError) as raised:
        manager(clients, models=[HAIKU, SONNET]).converse([message()])
    assert len(clients.asked) == 1
    assert isinstance(raised.value, LLMManagerError)


@pytest.mark.promise("B5", "S0-30", "S0-65")
def test_b5_refused_everywhere_is_an_authentication_error() -> None:
    clients = FakeClients(then=refused("AccessDeniedException", status=403))
    with pytest.raises(AuthenticationError):
        manager(clients).converse([message()])
    assert clients.order == [EAST, WEST]


@pytest.mark.promise("B1", "S0-54", "S1-24", "S1-79")
def test_b1_a_guardrail_is_never_left_out() -> None:
    clients = FakeClients(then=refused("ValidationException", "The guardrail does not exist"))
    with pytest.raises(InvalidRequestError):
        manager(clients).converse([message()], guardrail_config=GUARD)
    assert all(sent["guardrailConfig"] == GUARD for _, sent in clients.asked)


@pytest.mark.promise("B3", "S0-53", "S1-24", "S1-53")
def test_b2_b3_what_is_left_out_is_row() -> None:
    no_tools = refused("ValidationException", "This model doesn't support tool use.")
    clients = FakeClients(no_tools, "fine")
    response = manager(clients).converse([message()], tool_config=TOOLS)
    assert response.features_disabled == ["tools"]
    assert [entry.omitted for entry in response.ledger.sent] == [("tools",)]
    assert "without tools" in response.ledger.explain()
    assert response.get_warnings()
    assert len(response.attempts) == 1
    assert "toolConfig" not in clients.asked[1][1]
    clients = FakeClients(then=no_tools)
    with pytest.raises(InvalidRequestError):
        manager(clients, retry={"enable_feature_fallback": False}).converse(
            [message()], tool_config=TOOLS
        )
    assert len(clients.asked) == 1


@pytest.mark.promise("S0-41")
@both
def test_the_ten_fields_after_a_failover_with_a_dropped_feature(mode: str) -> None:
    no_tools = refused("ValidationException", "This model doesn't support tool use.")
    clients = FakeClients(us_east_1=[throttled()], us_west_2=[no_tools, "Paris"])
    response = ask(manager(clients), mode, tool_config=TOOLS)
    assert response.success is True
    assert response.response_data["output"]["message"]["content"] == [{"text": "Paris"}]
    assert (response.model_used, response.region_used) == (HAIKU, WEST)
    assert response.access_method_used == "regional_cris"
    tried = [(each.region, each.success) for each in response.attempts]
    assert tried == [(EAST, False), (WEST, True)]
    assert isinstance(response.attempts[0].error, RateLimitError)
    assert response.attempts[0].end_time <= response.attempts[1].start_time
    assert response.total_duration_ms >= response.attempts[1].end_time * 1000
    assert response.api_latency_ms == 7
    assert response.features_disabled == ["tools"]
    (warning,) = response.warnings
    assert "tools" in warning


@pytest.mark.promise("B2")
def test_b2_a_throttle_that_names_functions_drops_nothing() -> None:
    clients = FakeClients(
        refused("ThrottlingException", "too many function calls: tool use is not supported", 429),
        "fine",
    )
    response = manager(clients).converse([message()], tool_config=TOOLS)
    assert response.features_disabled == []
    assert all("toolConfig" in sent for _, sent in clients.asked)


@pytest.mark.promise("B6")
def test_b6_what_one_request_learned_poisons_no_other() -> None:
    extra = refused("ValidationException", "extraneous key [top_k] is not permitted")
    clients = FakeClients(extra, "one", "two")
    llm = manager(clients)
    first = llm.converse([message()], additional_model_request_fields={"top_k": 1})
    assert first.parameters_removed == ["top_k"]
    second = llm.converse([message()], additional_model_request_fields={"top_k": 1})
    assert second.get_content() == "two"
    assert "additionalModelRequestFields" in clients.asked[2][1]


@pytest.mark.promise("B21")
def test_the_way_to_a_model_costs_no_attempt_and_is_remembered() -> None:
    profile = refused(
        "ValidationException",
        "Invocation of model ID x with on-demand throughput isn't supported. Retry your request "
        "with the ID or ARN of an inference profile that contains this model.",
    )
    clients = FakeClients(profile, "one", "two")
    llm = manager(
        clients,
        regions=[EAST],
        retry={"access_method_preference": ["direct", "regional_cris"]},
    )
    first = llm.converse([message()])
    assert len(first.attempts) == 1
    assert first.access_method_used == "regional_cris"
    assert first.attempts[0].model_id.startswith("us.")
    llm.converse([message()])
    assert [sent["modelId"][:3] for _, sent in clients.asked] == ["ant", "us.", "us."]


class TestValidation:
    @pytest.mark.promise("B7", "S0-18", "S1-76")
    def test_b7_each_rejected_answer_is_a_new_request(self) -> None:
        clients = FakeClients("short", "short", "long enough")
        config = ResponseValidationConfig(
            lambda response: len(response.get_content()) > 5, response_validation_retries=3
        )
        response = manager(clients).converse([message()], response_validation_config=config)
        assert response.get_content() == "long enough"
        assert len(clients.asked) == 3
        assert response.had_validation_failures()
        assert response.get_validation_attempt_count() == 3
        assert len(response.get_validation_errors()) == 2

    @pytest.mark.promise("S1-75")
    def test_used_up_checks_raise_with_the_account(self) -> None:
        clients = FakeClients(then="short")
        config = ResponseValidationConfig(
            validation_function=lambda response: ValidationResult(False, "too short", {"n": 5}),
            max_validation_attempts=2,
        )
        with pytest.raises(RetryExhaustedError) as raised:
            manager(clients).converse([message()], response_validation_config=config)
        assert len(clients.asked) == 2
        errors = raised.value.response.get_validation_errors()  # type: ignore[attr-defined]
        assert [each["error_message"] for each in errors] == ["too short", "too short"]
        assert [each["error_details"] for each in errors] == [{"n": 5}] * 2

    def test_feedback_goes_to_the_model_only_when_asked(self) -> None:
        def never(response: Any) -> bool:
            raise ValueError("no good")

        for feedback in (False, True):
            clients = FakeClients(then="x")
            config = ResponseValidationConfig(
                never, response_validation_retries=1, feedback=feedback
            )
            with pytest.raises(RetryExhaustedError):
                manager(clients).converse([message()], response_validation_config=config)
            assert len(clients.asked[1][1]["messages"]) == (3 if feedback else 1)
            assert ("no good" in str(clients.asked[1][1])) is feedback


@pytest.mark.promise("S0-66")
def test_b25_the_timeout_cuts_a_silent_region() -> None:
    import threading

    held = threading.Event()

    def silent(region: str, arguments: Any) -> Any:
        held.wait(0.6)
        return "late"

    clients = FakeClients(then=silent)
    with pytest.raises((DeadlineExceededError, RetryExhaustedError)) as raised:
        manager(clients, regions=[EAST], timeout=1.0).converse([message()], timeout=0.2)
    held.set()
    assert raised.value.ledger is not None


@pytest.mark.promise("S0-28")
def test_bad_arguments_are_refused_before_anything_is_sent() -> None:
    clients = FakeClients()
    llm = manager(clients)
    for wrong in ([], [{"role": "user", "content": []}], "hi", [{"role": "judge"}]):
        with pytest.raises(RequestValidationError):
            llm.converse(wrong)  # type: ignore[arg-type]
    with pytest.raises(RequestValidationError, match="mode"):
        llm.converse([message()], mode="red")
    assert clients.asked == []


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"models": []}, ConfigurationError),
        ({"regions": []}, ConfigurationError),
        ({"models": "Claude 3 Haiku"}, ConfigurationError),
        ({"regions": ["mars-east-1x"]}, ConfigurationError),
        ({"models": ["Claude 3 Hiaku"]}, UnknownModelError),
        ({"timeout": 0}, ConfigurationError),
    ],
)
def test_what_cannot_work_is_refused(how: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        manager(FakeClients(), **how)


def test_two_spellings_of_retries_are_one_and_contradictions_are_refused() -> None:
    assert RetryConfig(max_attempts=4).max_retries == RetryConfig(max_retries=3).max_retries == 3
    assert RetryConfig(base_delay=2.0).retry_delay == 2.0
    assert RetryConfig(max_delay=30.0).max_retry_delay == 30.0
    both_halves = RetryConfig(
        strategy=RetryStrategy.EXPONENTIAL_BACKOFF, retry_strategy=RetryStrategy.MODEL_FIRST
    )
    assert both_halves.retry_strategy is RetryStrategy.MODEL_FIRST
    for wrong in (
        {"max_attempts": 3, "max_retries": 3},
        {"base_delay": 1.0, "retry_delay": 2.0},
        {"max_retries": -1},
        {"retry_strategy": "sideways"},
        {"region_order": "random"},
        {"access_method_preference": ["teleport"]},
    ):
        with pytest.raises(ConfigurationError):
            RetryConfig(**wrong)


@pytest.mark.promise("S0-36")
def test_the_configuration_says_what_will_surprise() -> None:
    llm = manager(FakeClients(), models=[HAIKU, SONNET], retry={"max_attempts": 2})
    result = llm.validate_configuration()
    assert set(result) == {
        "valid",
        "errors",
        "warnings",
        "model_region_combinations",
        "auth_status",
    }
    assert result["model_region_combinations"] == 4
    assert any("2 attempts for 4 targets" in each for each in result["warnings"])


def test_region_orders() -> None:
    clients = FakeClients(then="x")
    llm = manager(clients, retry={"region_order": "rotate"})
    for _ in range(4):
        llm.converse([message()])
    assert clients.order == [EAST, WEST, EAST, WEST]


def test_a_dead_region_is_skipped_once_its_breaker_is_open() -> None:
    clients = FakeClients(then="x", us_east_1=[throttled()] * 99)
    llm = manager(clients)
    for _ in range(30):
        assert llm.converse([message()]).region_used == WEST
    assert clients.order.count(EAST) <= BreakerPolicy().failure_threshold


@pytest.mark.promise("S0-38", "S0-39", "S0-55")
def test_defaults_and_model_fields_reach_the_request() -> None:
    clients = FakeClients(then="x")
    defaults = {"maxTokens": 10, "temperature": 0.7}
    llm = manager(
        clients,
        default_inference_config=defaults,
        model_specific_config={"top_k": 5},
    )
    llm.converse(
        [message()],
        [{"text": "be brief"}],
        {"temperature": 0},
        {"x": 1},
        ["/stop_sequence"],
        None,
        TOOLS,
        {"who": "me"},
        enable_extended_context=True,
    )
    (_, sent) = clients.asked[0]
    assert sent["inferenceConfig"] == {"maxTokens": 10, "temperature": 0}
    assert sent["system"] == [{"text": "be brief"}]
    fields = sent["additionalModelRequestFields"]
    assert (fields["top_k"], fields["x"]) == (5, 1)
    assert fields["anthropic_beta"]
    assert sent["requestMetadata"] == {"who": "me"}
    assert defaults == {"maxTokens": 10, "temperature": 0.7}


@pytest.mark.promise("S0-32")
def test_a_request_object_says_the_same() -> None:
    clients = FakeClients(then="x")
    request = BedrockConverseRequest(messages=[message()], system=[{"text": "s"}])
    assert manager(clients).converse_with_request(request).success
    assert clients.asked[0][1]["system"] == [{"text": "s"}]
    assert request.request_id != BedrockConverseRequest(messages=[message()]).request_id
    again = BedrockConverseRequest.from_dict(request.to_dict())
    assert again.to_converse_args() == request.to_converse_args()


@pytest.mark.promise("S0-60")
def test_b27_one_client_a_region() -> None:
    clients = FakeClients(then="x")
    llm = manager(clients, retry={"region_order": "rotate"})
    for _ in range(20):
        llm.converse([message()])
    assert clients.made == {EAST: 1, WEST: 1}
