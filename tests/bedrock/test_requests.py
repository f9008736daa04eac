"""What is sent to the service, and what becomes of its answers."""

from __future__ import annotations

import asyncio
import copy
import logging
from typing import Any

import pytest

from agentkit import bedrock
from agentkit.bedrock import (
    AuthConfig,
    AuthenticationError,
    RetryExhaustedError,
    RetryStrategy,
    create_assistant_message,
    create_user_message,
)
from tests.bedrock.runtime import (
    HAIKU,
    SONNET,
    FakeClients,
    answer,
    manager,
    message,
    refused,
    throttled,
)
from tests.telemetry.observing import Observed

EAST, WEST = "us-east-1", "us-west-2"
DEAD = refused("ServiceUnavailableException", status=503)


@pytest.mark.promise("S0-24")
def test_history_is_sent_as_it_is_and_left_unchanged() -> None:
    history = [
        create_user_message().add_text("one").build(),
        {"role": "assistant", "content": [{"text": "two"}]},
        create_user_message().add_text("three").build(),
    ]
    before = copy.deepcopy(history)
    clients = FakeClients("x")
    manager(clients).converse(messages=history)
    assert clients.asked[0][1]["messages"] == before == history


@pytest.mark.promise("S0-27")
def test_every_field_reaches_the_service() -> None:
    """The fake checks each request with botocore's own validator."""
    guard = {"guardrailIdentifier": "gr-1", "guardrailVersion": "1", "trace": "enabled"}
    tools = [{"toolSpec": {"name": "t", "inputSchema": {"json": {"type": "object"}}}}]
    clients = FakeClients("x")
    manager(clients).converse(
        messages=[message()],
        system=[{"text": "s"}],
        inference_config={"maxTokens": 1},
        additional_model_request_fields={"top_k": 1},
        additional_model_response_field_paths=["/stop_sequence"],
        guardrail_config=guard,
        tool_config={"tools": tools, "toolChoice": {"auto": {}}},
        request_metadata={"who": "me"},
        prompt_variables={"name": {"text": "value"}},
    )
    ((_, sent),) = clients.asked
    assert sent["guardrailConfig"] == guard
    assert sent["toolConfig"]["tools"] == tools
    assert sent["promptVariables"] == {"name": {"text": "value"}}
    assert set(sent) == {
        "modelId",
        "messages",
        "system",
        "inferenceConfig",
        "additionalModelRequestFields",
        "additionalModelResponseFieldPaths",
        "guardrailConfig",
        "toolConfig",
        "requestMetadata",
        "promptVariables",
    }


@pytest.mark.promise("S1-86")
def test_a_tool_round_trip_is_two_requests() -> None:
    use = {"toolUse": {"toolUseId": "u1", "name": "look", "input": {"at": "sky"}}}
    wants = answer(
        "", output={"message": {"role": "assistant", "content": [use]}}, stopReason="tool_use"
    )
    clients = FakeClients(wants, "It is blue.")
    llm = manager(clients)
    tools = {"tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}]}
    asked = message("How is the sky?")
    first = llm.converse([asked], tool_config=tools)
    (call,) = first.get_tool_uses()
    assert (call.name, dict(call.input)) == ("look", {"at": "sky"})
    turn = create_assistant_message().add_tool_use(call.tool_use_id, call.name, call.input)
    result = create_user_message().add_tool_result(call.tool_use_id, "blue", "success").build()
    second = llm.converse([asked, turn.build(), result], tool_config=tools)
    assert second.get_content() == "It is blue."


@pytest.mark.promise("S1-20", "S1-21")
@pytest.mark.parametrize("strategy", [RetryStrategy.REGION_FIRST, RetryStrategy.MODEL_FIRST])
def test_both_orders_of_two_models_in_three_regions(strategy: RetryStrategy) -> None:
    clients = FakeClients(then=DEAD)
    regions = [EAST, WEST, "us-east-2"]
    llm = manager(
        clients,
        models=[HAIKU, SONNET],
        regions=regions,
        raise_on_failure=False,
        retry={"max_attempts": 6, "retry_strategy": strategy},
    )
    response = llm.converse([message()])
    places = [(each.model_used, each.region_used) for each in response.attempts]
    by_region = [
        (model, region) for model in (HAIKU, SONNET) for region in (EAST, WEST, "us-east-2")
    ]
    by_model = [
        (model, region) for region in (EAST, WEST, "us-east-2") for model in (HAIKU, SONNET)
    ]
    assert places == (by_region if strategy is RetryStrategy.REGION_FIRST else by_model)


@pytest.mark.promise("S1-26", "S1-84")
def test_a_failure_can_be_a_response() -> None:
    clients = FakeClients(then=DEAD)
    llm = manager(clients, models=[HAIKU, SONNET], raise_on_failure=False)
    response = llm.converse([message()])
    assert not response.success
    assert {attempt.model_used for attempt in response.attempts} == {HAIKU, SONNET}
    assert {attempt.region_used for attempt in response.attempts} == {EAST, WEST}
    assert type(response.get_last_error()).__name__ == "OverloadedError"
    with pytest.raises(RetryExhaustedError) as caught:
        llm.converse([message()], raises=True)
    assert caught.value.regions_tried == [EAST, WEST]  # type: ignore[attr-defined]


@pytest.mark.promise("S0-30")
def test_missing_credentials_are_an_error_of_their_own() -> None:
    class WithoutCredentials(FakeClients):
        def runtime(self, region: str) -> Any:
            raise AuthenticationError("no credentials", hint="configure them")

    with pytest.raises(AuthenticationError, match="no credentials"):
        manager(WithoutCredentials()).converse([message()])
    caught = manager(WithoutCredentials()).validate_configuration()
    assert (caught["valid"], caught["auth_status"]) == (False, "failed")


@pytest.mark.promise("B32")
def test_everything_has_an_async_twin() -> None:
    async def main() -> list[str | None]:
        llm = manager(FakeClients(then="x"))
        request = bedrock.BedrockConverseRequest([message()])
        many = await asyncio.gather(*[llm.aconverse([message()]) for _ in range(20)])
        one = await llm.aconverse_with_request(request)
        stream = llm.aconverse_stream([message()])
        text = "".join([chunk async for chunk in stream])
        await llm.aclose()
        return [*(each.get_content() for each in many), one.get_content(), text]

    assert asyncio.run(main()) == ["x"] * 22


@pytest.mark.promise("S0-20", "S1-25")
def test_every_attempt_is_logged_without_content_or_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "agentkit")
    clients = FakeClients(throttled(), "the confidential answer")
    auth = AuthConfig("credentials", access_key="AKIDEXAMPLE", secret_key="do-not-log")
    manager(clients, auth_config=auth).converse([message("the confidential question")])
    attempts = [each.getMessage() for each in caplog.records if "attempt 1" in each.getMessage()]
    assert len(attempts) == 2
    assert EAST in attempts[0]
    assert WEST in attempts[1]
    for word in ("confidential", "do-not-log", "AKIDEXAMPLE"):
        assert word not in caplog.text


@pytest.mark.promise("B30")
def test_no_logger_is_changed_and_no_rejected_answer_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loggers = [logging.getLogger(name) for name in (None, "agentkit", "agentkit.bedrock")]
    before = [each.level for each in loggers]
    config = bedrock.ResponseValidationConfig(lambda response: "long" in response.get_content())
    with caplog.at_level(logging.INFO):
        levels = [each.level for each in loggers]
        llm = manager(FakeClients("the confidential draft", "long"), log_level=logging.DEBUG)
        response = llm.converse([message()], response_validation_config=config)
        assert [each.level for each in loggers] == levels
    assert response.had_validation_failures()
    assert "confidential" not in caplog.text
    assert [each.level for each in loggers] == before


@pytest.mark.promise("S1-80")
def test_requests_and_errors_are_counted_by_opentelemetry() -> None:
    observed = Observed()
    try:
        clients = FakeClients(throttled(), "x")
        with manager(clients, telemetry=observed.telemetry) as llm:
            llm.converse([message()])
        assert len(observed.attempts) == 2
        regions = [str((span.attributes or {})["agentkit.model"]) for span in observed.attempts]
        assert any(EAST in name for name in regions)
        assert any(WEST in name for name in regions)
        assert observed.metrics()
    finally:
        observed.close()
