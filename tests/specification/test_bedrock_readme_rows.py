"""Rows of the Bedrock readme that no other test of the Bedrock door holds."""

from __future__ import annotations

import timeit
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentkit import bedrock
from agentkit.bedrock import (
    BedrockModelCatalog,
    BedrockResponse,
    CacheMode,
    LLMManager,
    LLMManagerError,
    ParallelLLMManager,
    ResponseValidationConfig,
    RetryConfig,
    RetryExhaustedError,
    RetryStrategy,
    ValidationResult,
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

EAST, WEST, EU = "us-east-1", "us-west-2", "eu-west-1"
ROOT = Path(__file__).resolve().parents[2]
DEAD = refused("ServiceUnavailableException", status=503)


@pytest.mark.promise("S1-20", "S1-21")
@pytest.mark.parametrize("strategy", [RetryStrategy.REGION_FIRST, RetryStrategy.MODEL_FIRST])
def test_s1_20_and_21_both_orders_of_two_models_in_three_regions(strategy: RetryStrategy) -> None:
    clients = FakeClients(then=DEAD)
    regions = [EAST, WEST, "us-east-2"]
    llm = manager(
        clients, models=[HAIKU, SONNET], regions=regions, raise_on_failure=False,
        retry={"max_attempts": 6, "retry_strategy": strategy},
    )  # fmt: skip
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
def test_s1_26_and_84_a_failure_is_read_without_an_exception() -> None:
    clients = FakeClients(then=DEAD)
    llm = manager(clients, models=[HAIKU, SONNET], raise_on_failure=False)
    response = llm.converse([message()])
    assert not response.success
    assert {attempt.model_used for attempt in response.attempts} == {HAIKU, SONNET}
    assert {attempt.region_used for attempt in response.attempts} == {EAST, WEST}
    assert type(response.get_last_error()).__name__ == "OverloadedError"
    with pytest.raises(RetryExhaustedError) as told:
        llm.converse([message()], raises=True)
    assert told.value.regions_tried == [EAST, WEST]  # type: ignore[attr-defined]


@pytest.mark.promise("S1-44")
def test_s1_44_a_parallel_manager_takes_what_a_manager_takes() -> None:
    llm = ParallelLLMManager(
        models=[HAIKU], regions=[EAST], retry_config=RetryConfig(max_retries=1), timeout=9
    )
    with llm:
        assert llm.get_available_models() == [HAIKU]
        assert llm.get_parallel_config().max_concurrent_requests == 5
        assert llm.get_retry_stats()["max_retries"] == 1


@pytest.mark.promise("S1-70")
def test_s1_70_the_catalogues_options_are_the_managers(tmp_path: Path) -> None:
    with LLMManager(
        [HAIKU], [EAST], catalog_cache_mode=CacheMode.FILE, catalog_cache_directory=tmp_path
    ) as llm:
        path = llm._catalog.cache_file_path
        assert path is not None
        assert path.parent == tmp_path
    with LLMManager([HAIKU], [EAST], catalog_cache_mode=CacheMode.NONE) as llm:
        assert llm._catalog.cache_mode is CacheMode.NONE


@pytest.mark.promise("S1-75")
def test_s1_75_what_a_validator_says_is_on_the_response() -> None:
    details = {"flagged_content": "short"}
    config = ResponseValidationConfig(
        lambda response: ValidationResult(False, "too short", details)
        if response.get_content() == "short" else ValidationResult(True),
        response_validation_retries=1,
    )  # fmt: skip
    response = manager(FakeClients("short", "long")).converse(
        [message()], response_validation_config=config
    )
    (error,) = response.get_validation_errors()
    assert (error["error_message"], error["error_details"]) == ("too short", details)


@pytest.mark.promise("S1-78")
def test_s1_78_json_is_checked_by_the_callers_own_function() -> None:
    import json

    def is_json(response: BedrockResponse) -> bool:
        json.loads(response.get_content() or "")
        return True

    clients = FakeClients("{broken", '{"a": 1}')
    response = manager(clients).converse(
        [message()], response_validation_config=ResponseValidationConfig(is_json)
    )
    assert response.get_structured_output() == {"a": 1}
    assert len(clients.asked) == 2


@pytest.mark.promise("S1-80")
def test_s1_80_requests_and_errors_are_counted_by_opentelemetry() -> None:
    observed = Observed()
    try:
        clients = FakeClients(throttled(), "x")
        with manager(clients, telemetry=observed.telemetry) as llm:
            llm.converse([message()])
        assert len(observed.attempts) == 2
        regions = [span.name for span in observed.attempts]
        assert any(EAST in name for name in regions)
        assert any(WEST in name for name in regions)
        assert observed.metrics()
    finally:
        observed.close()


@pytest.mark.promise("S1-82")
def test_s1_82_a_document_without_a_name_gets_one_the_service_takes(tmp_path: Path) -> None:
    path = tmp_path / "q3.report_final.pdf"
    path.write_bytes(b"%PDF-1.7\n" + b"0" * 32)
    built = create_user_message().add_text("?").add_local_document(path).build()
    name = built["content"][1]["document"]["name"]
    assert "." not in name
    clients = FakeClients("x")
    assert manager(clients).converse([built]).success


@pytest.mark.promise("S1-85")
def test_s1_85_every_error_of_the_door_is_an_llm_manager_error() -> None:
    errors = [
        found for name in bedrock.__all__
        if isinstance(found := getattr(bedrock, name), type) and issubclass(found, BaseException)
    ]  # fmt: skip
    assert len(errors) > 8
    assert all(issubclass(each, LLMManagerError) for each in errors)


@pytest.mark.promise("S1-86")
def test_s1_86_a_tool_round_trip_is_two_requests() -> None:
    use = {"toolUse": {"toolUseId": "u1", "name": "look", "input": {"at": "sky"}}}
    wants = answer("", output={"message": {"role": "assistant", "content": [use]}},
                   stopReason="tool_use")  # fmt: skip
    clients = FakeClients(wants, "It is blue.")
    llm = manager(clients)
    tools = {"tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}]}
    asked = message("How is the sky?")
    first = llm.converse([asked], tool_config=tools)
    (call,) = first.get_tool_uses()
    assert (call.name, dict(call.input)) == ("look", {"at": "sky"})
    said = create_assistant_message().add_tool_use(call.tool_use_id, call.name, call.input).build()
    result = create_user_message().add_tool_result(call.tool_use_id, "blue", "success").build()
    second = llm.converse([asked, said, result], tool_config=tools)
    assert second.get_content() == "It is blue."


@pytest.mark.promise("S1-72")
def test_s1_72_a_warm_catalogue_is_quick_and_small(tmp_path: Path) -> None:
    """The best of five: a busy machine must not decide."""
    first = BedrockModelCatalog(cache_directory=tmp_path, use_api=False)
    assert first._cache is not None
    first._cache.save(replace(first._snapshot(), time=datetime.now(UTC)))

    def warm() -> BedrockModelCatalog:
        made = BedrockModelCatalog(cache_directory=tmp_path, use_api=False)
        assert made.get_catalog_metadata().source.value == "CACHE"
        assert made.routes(HAIKU, EAST)
        return made

    assert min(timeit.repeat(warm, number=1, repeat=5)) < 0.1
    tracemalloc.start()
    try:
        kept = warm()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 10_000_000
    assert kept.cache_file_path is not None
    assert kept.cache_file_path.stat().st_size < 1_000_000
