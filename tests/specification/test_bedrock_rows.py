"""Rows of the Bedrock reference that no other test of the Bedrock door holds."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import logging
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agentkit.bedrock import (
    AuthConfig,
    AuthenticationError,
    BedrockModelCatalog,
    ConfigurationError,
    LLMManager,
    LLMManagerError,
    ModelAccessInfo,
    RequestValidationError,
    RetryExhaustedError,
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

EAST, WEST, EU = "us-east-1", "us-west-2", "eu-west-1"
ROOT = Path(__file__).resolve().parents[2]
DEAD = refused("ServiceUnavailableException", status=503)


@pytest.mark.promise("B30", "S0-02")
@pytest.mark.processes
def test_s0_02_models_and_regions_are_enough_and_nothing_is_asked() -> None:
    program = (
        "import sys\n"
        "from agentkit.bedrock import LLMManager\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, _: seen.append(event))\n"
        "with LLMManager(models=['Claude 3 Haiku'], regions=['us-east-1']) as manager:\n"
        "    assert not {each for each in seen if each.startswith('socket.')}\n"
        "    assert 'boto3' not in sys.modules\n"
        "    assert manager.get_model_access_info('Claude 3 Haiku', 'us-east-1')\n"
        "assert not {each for each in seen if each.startswith('socket.')}\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.promise("S0-03", "S0-39")
def test_s0_03_the_constructor_takes_what_is_printed_and_uses_it() -> None:
    names = list(inspect.signature(LLMManager).parameters)
    assert names[:2] == ["models", "regions"]
    printed = {"auth_config", "retry_config", "unified_model_manager", "default_inference_config"}
    assert {*printed, "timeout"} <= set(names)
    clients = FakeClients(then="x")
    defaults = {"maxTokens": 9}
    manager(clients, default_inference_config=defaults).converse(
        [message()], inference_config={"temperature": 0.1}
    )
    assert clients.asked[0][1]["inferenceConfig"] == {"maxTokens": 9, "temperature": 0.1}
    assert defaults == {"maxTokens": 9}
    with pytest.raises(ConfigurationError):
        manager(clients, timeout=-1)


@pytest.mark.promise("S0-19")
@pytest.mark.processes
def test_s0_19_a_consumer_is_checked_strictly(tmp_path: Path) -> None:
    (tmp_path / "consumer.py").write_text(
        "from agentkit.bedrock import BedrockResponse, LLMManager, create_user_message\n\n\n"
        "def ask(manager: LLMManager, words: str) -> str | None:\n"
        "    message = create_user_message().add_text(words).build()\n"
        "    response: BedrockResponse = manager.converse(messages=[message])\n"
        "    return response.get_content()\n"
    )
    assert (ROOT / "agentkit/py.typed").exists()
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"),
         str(tmp_path / "consumer.py")],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


@pytest.mark.promise("S0-20", "S1-25")
def test_s0_20_every_attempt_is_logged_without_content_or_secret(
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


@pytest.mark.promise("S0-24")
def test_s0_24_history_is_sent_as_it_is_and_left_alone() -> None:
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
def test_s0_27_every_field_reaches_the_service() -> None:
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
        "modelId", "messages", "system", "inferenceConfig", "additionalModelRequestFields",
        "additionalModelResponseFieldPaths", "guardrailConfig", "toolConfig", "requestMetadata",
        "promptVariables",
    }  # fmt: skip


@pytest.mark.promise("S0-28")
def test_s0_28_a_wrong_request_lists_its_problems_and_sends_nothing() -> None:
    clients = FakeClients()
    wrong: Any = [{"role": "judge", "content": "no list"}, {"role": "user", "content": []}]
    with pytest.raises(RequestValidationError) as told:
        manager(clients).converse(wrong)
    assert len(told.value.validation_errors) >= 3
    assert clients.asked == []


@pytest.mark.promise("S0-33", "S0-34")
def test_s0_33_and_34_the_lists_are_copies() -> None:
    llm = manager(FakeClients(), models=[HAIKU, SONNET])
    for listed, expected in (
        (llm.get_available_models, [HAIKU, SONNET]),
        (llm.get_available_regions, [EAST, WEST]),
    ):
        listed().clear()
        assert listed() == expected


@pytest.mark.promise("S0-35")
def test_s0_35_access_of_known_and_unknown_models_and_regions() -> None:
    llm = manager(FakeClients())
    found = llm.get_model_access_info(HAIKU, EAST)
    assert found is not None
    assert set(found) == {
        "access_methods", "model_id", "regional_cris_profile_id", "global_cris_profile_id",
        "region",
    }  # fmt: skip
    assert found["access_methods"] == ["regional_cris", "direct"]
    assert llm.get_model_access_info("Claude 9 Haiku", EAST) is None
    assert llm.get_model_access_info(HAIKU, "me-south-1") is None


@pytest.mark.promise("S0-37")
def test_s0_37_a_refresh_replaces_the_catalogue_and_a_failed_one_keeps_it(tmp_path: Path) -> None:
    from agentkit.bedrock.exceptions import APIFetchError

    class Source(BedrockModelCatalog):
        works = False

        def refresh_catalog(self) -> Any:
            if not self.works:
                raise APIFetchError("no Region answered")
            return self.get_catalog_metadata()

    source = Source(cache_directory=tmp_path, use_api=False)
    clients = FakeClients("one", "two")
    llm = manager(clients, catalog=source)
    with pytest.raises(APIFetchError):
        llm.refresh_model_data()
    assert llm.converse([message()]).get_content() == "one"
    source.works = True
    llm.refresh_model_data()
    assert llm.converse([message()]).get_content() == "two"


@pytest.mark.promise("S0-42")
def test_s0_42_two_failures_and_a_success_are_three_attempts() -> None:
    clients = FakeClients(throttled(), DEAD, "x")
    response = manager(clients, regions=[EAST, WEST, EU]).converse([message()])
    assert response.get_attempt_count() == 3
    assert [type(each.error).__name__ for each in response.attempts] == [
        "RateLimitError", "OverloadedError", "NoneType",
    ]  # fmt: skip
    winner = response.get_successful_attempt()
    assert winner is not None
    assert (winner.region_used, winner.model_used) == (EU, HAIKU)
    assert len(response.get_all_errors()) == 2


def echo(region: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return answer(f"to {arguments['messages'][-1]['content'][0]['text']}")


@pytest.mark.promise("S0-56")
def test_s0_56_one_manager_serves_32_threads() -> None:
    llm = manager(FakeClients(then=echo))
    with ThreadPoolExecutor(32) as threads:
        told = list(threads.map(lambda n: llm.converse([message(f"{n}")]), range(320)))
    assert [each.get_content() for each in told] == [f"to {n}" for n in range(320)]


@pytest.mark.promise("S0-57")
def test_s0_57_one_failing_question_of_three_is_told() -> None:
    def step(region: str, arguments: dict[str, Any]) -> Any:
        return DEAD if "two" in str(arguments["messages"]) else echo(region, arguments)

    llm = manager(FakeClients(then=step))
    results: list[str | Exception] = []
    for question in ("one", "two", "three"):
        try:
            results.append(str(llm.converse([message(question)]).get_content()))
        except LLMManagerError as error:
            results.append(error)
    assert results[::2] == ["to one", "to three"]
    assert isinstance(results[1], RetryExhaustedError)


@pytest.mark.promise("S0-58")
def test_s0_58_the_printed_memory_keeps_the_last_turns_in_their_order() -> None:
    document = (Path(__file__).parent / "bedrock_reference.md").read_text("utf-8")
    recipe = next(each for each in document.split("```") if "class ConversationMemory" in each)
    space: dict[str, Any] = {
        "manager": manager(FakeClients(then=echo)),
        "create_user_message": create_user_message,
    }
    exec(recipe.removeprefix("python"), space)
    memory = space["ConversationMemory"](space["manager"], max_history=5)
    for turn in range(6):
        assert memory.get_response(f"{turn}") == f"to {turn}"
    assert len(memory.messages) == 5
    roles = [each["role"] for each in memory.messages]
    assert all(one != other for one, other in pairwise(roles))


@pytest.mark.promise("S0-61")
def test_s0_61_closing_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    llm = LLMManager([HAIKU], [EAST])
    own = llm._clients
    llm._clients = fake = FakeClients(then="x")  # type: ignore[assignment]
    for target in llm._targets.converse.values():
        target._clients = fake  # type: ignore[assignment]
    with llm:
        asyncio.run(llm.aconverse([message()]))
        llm.converse([message()], timeout=5)
    own.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive(), thread.name
    llm.close()


@pytest.mark.promise("S0-63")
def test_s0_63_a_thousand_requests_leave_nothing_behind() -> None:
    clients = FakeClients(then="x")
    llm = manager(clients)

    def ask(count: int) -> int:
        for _ in range(count):
            llm.converse([message()])
        clients.asked.clear()
        gc.collect()
        return len(gc.get_objects())

    ask(50)
    first = ask(50)
    assert ask(1000) - first < 200


@pytest.mark.promise("S0-67")
def test_s0_67_a_request_is_checked_before_a_target_is_chosen_and_its_client_opened() -> None:
    clients = FakeClients(throttled(), "x")
    order: list[str] = []
    whole = clients.runtime

    def runtime(region: str) -> Any:
        order.append(f"client of {region}")
        return whole(region)

    clients.runtime = runtime  # type: ignore[method-assign]
    llm = manager(clients)
    assert order == []
    with pytest.raises(RequestValidationError):
        llm.converse([])
    assert order == []
    response = llm.converse([message()])
    assert order == [f"client of {EAST}", f"client of {WEST}"]
    assert response.get_content() == "x"


@pytest.mark.promise("S0-68")
def test_s0_68_any_object_that_knows_access_can_be_injected() -> None:
    class Stub:
        refreshed = 0

        def get_model_access_info(self, model_name: str, region: str) -> ModelAccessInfo | None:
            if model_name != "My Model" or region != EAST:
                return None
            return ModelAccessInfo(region, model_name, "maker.mine-v1:0", True, None, None, True)

        def refresh_unified_data(self) -> None:
            self.refreshed += 1

    clients, stub = FakeClients("x"), Stub()
    llm = manager(clients, models=["My Model"], unified_model_manager=stub)
    assert llm.converse([message()]).region_used == EAST
    assert clients.asked[0][1]["modelId"] == "maker.mine-v1:0"
    assert llm.validate_configuration()["model_region_combinations"] == 1
    llm.refresh_model_data()
    assert stub.refreshed == 1
    with pytest.raises(ConfigurationError):
        manager(clients, models=["Another"], unified_model_manager=stub)


@pytest.mark.promise("S0-69")
def test_s0_69_the_floor_of_python_is_declared() -> None:
    """3.9 and 3.10, which the documents name, end of life: the floor is chosen deliberately."""
    declared = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'requires-python = ">=3.11"' in declared
    for version in ("3.11", "3.12", "3.13"):
        assert f"Python :: {version}" in declared


@pytest.mark.promise("S0-65")
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (refused("AccessDeniedException", status=403), AuthenticationError),
        (throttled(), RetryExhaustedError),
        (DEAD, RetryExhaustedError),
        (refused("ValidationException"), LLMManagerError),
    ],
)
def test_s0_65_each_failure_has_its_class(fault: Exception, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        manager(FakeClients(then=fault), regions=[EAST]).converse([message()])


@pytest.mark.promise("S0-30")
def test_s0_30_credentials_that_are_none_are_told_unwrapped() -> None:
    class Nobody(FakeClients):
        def runtime(self, region: str) -> Any:
            raise AuthenticationError("no credentials", hint="configure them")

    with pytest.raises(AuthenticationError, match="no credentials"):
        manager(Nobody()).converse([message()])
    told = manager(Nobody()).validate_configuration()
    assert (told["valid"], told["auth_status"]) == (False, "failed")


@pytest.mark.promise("S0-60")
def test_s0_60_a_hundred_requests_open_one_client_a_region() -> None:
    clients = FakeClients(then="x")
    llm = manager(clients, retry={"region_order": "rotate"})
    for _ in range(100):
        llm.converse([message()])
    assert clients.made == {EAST: 1, WEST: 1}
    assert Counter(clients.order) == {EAST: 50, WEST: 50}
