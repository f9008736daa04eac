"""Settings: both spellings, true waits, the caller's own table, and nothing that is ignored."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import bedrock
from agentkit.bedrock import (
    BedrockModelCatalog,
    CacheConfig,
    ConfigurationError,
    LLMManager,
    MessageBuilder,
    ModelSpecificConfig,
    ParallelProcessingConfig,
    ResponseValidationConfig,
    RetryConfig,
    RetryExhaustedError,
    RetryStrategy,
    ValidationResult,
)
from agentkit.errors import InvalidRequestError, LLMError
from tests.bedrock.runtime import FakeClients, manager, message, refused, throttled

EAST = "us-east-1"
WAYS = (RetryStrategy.EXPONENTIAL_BACKOFF, RetryStrategy.LINEAR_BACKOFF, RetryStrategy.FIXED_DELAY)


def waits(count: int = 4, **how: Any) -> list[float]:
    policy = RetryConfig(jitter=False, **how).policy()
    return [policy.backoff(retry) for retry in range(1, count + 1)]


@pytest.mark.promise("S1-19")
def test_the_defaults_are_the_documented_ones() -> None:
    retry = RetryConfig()
    assert (retry.max_attempts, retry.max_retries) == (4, 3)
    assert (retry.base_delay, retry.max_delay, retry.backoff_multiplier) == (1.0, 60.0, 2.0)
    assert retry.retry_strategy is RetryStrategy.REGION_FIRST
    assert retry.strategy is RetryStrategy.EXPONENTIAL_BACKOFF
    assert retry.enable_feature_fallback
    assert "max_attempts=4" in repr(retry)


@pytest.mark.promise("S0-16")
def test_waits_grow_as_the_strategy_says() -> None:
    assert waits() == [1, 2, 4, 8]
    assert waits(base_delay=0.5, backoff_multiplier=3.0) == [0.5, 1.5, 4.5, 13.5]
    assert waits(strategy="fixed_delay", retry_delay=2.0) == [2, 2, 2, 2]
    linear: dict[str, Any] = {"strategy": RetryStrategy.LINEAR_BACKOFF, "backoff_multiplier": 3.0}
    assert waits(**linear) == [1, 4, 7, 10]
    assert waits(max_retry_delay=3.0) == [1, 2, 3, 3]


@pytest.mark.promise("S0-15")
@given(
    way=st.sampled_from(WAYS),
    base=st.floats(0, 100),
    cap=st.floats(0, 50),
    jitter=st.floats(0, 1),
    retry=st.integers(1, 200),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_no_wait_is_longer_than_the_cap(
    way: RetryStrategy, base: float, cap: float, jitter: float, retry: int, chance: float
) -> None:
    config = RetryConfig(strategy=way, base_delay=base, max_delay=cap, jitter=jitter)
    assert 0 <= config.policy().backoff(retry, lambda: chance) <= cap


@pytest.mark.promise("S0-14")
def test_one_target_is_asked_again_after_each_of_these_waits() -> None:
    clients = FakeClients(then=throttled())
    retry = {"max_attempts": 5, "base_delay": 0.001, "jitter": 0.0}
    with pytest.raises(RetryExhaustedError) as raised:
        manager(clients, regions=[EAST], retry=retry).converse([message()])
    assert raised.value.ledger is not None
    delays = [entry.delay for entry in raised.value.ledger.sent]
    assert delays == pytest.approx([0, 0.001, 0.002, 0.004, 0.008], abs=5e-4)


@pytest.mark.promise("S1-22")
def test_the_wait_begins_once_every_target_was_asked() -> None:
    clients = FakeClients(*[throttled()] * 3, "x")
    retry = {"max_attempts": 5, "base_delay": 0.05, "jitter": 0.0}
    response = manager(clients, retry=retry).converse([message()])
    assert [entry.delay > 0 for entry in response.ledger.sent][:3] == [False, False, True]


@pytest.mark.promise("S0-17")
@pytest.mark.parametrize("given_as", ["retryable_exceptions", "retryable_errors"])
@pytest.mark.parametrize("name", ["ResourceNotFoundException", "resourcenotfound"])
def test_names_of_the_caller_are_retried_besides(given_as: str, name: str) -> None:
    fault = refused("ResourceNotFoundException", status=404)
    for listed, sent in (([], 1), ([name], 3)):
        clients = FakeClients(then=fault)
        retry = {"max_attempts": 3, given_as: listed}
        with pytest.raises(LLMError):
            manager(clients, regions=[EAST], retry=retry).converse([message()])
        assert len(clients.asked) == sent


def test_classes_and_names_that_are_not_retried() -> None:
    class Odd(Exception):
        pass

    for fault, listed in ((throttled(), "ThrottlingException"), (Odd("x"), Odd)):
        clients = FakeClients(then=fault)
        retry = {"max_attempts": 3, "non_retryable_exceptions": [listed]}
        with pytest.raises(LLMError):
            manager(clients, regions=[EAST], retry=retry).converse([message()])
        assert len(clients.asked) == 1


@pytest.mark.promise("S1-25")
def test_what_is_retried_is_counted_in_the_statistics() -> None:
    llm = manager(
        FakeClients(),
        retry={
            "max_retries": 5,
            "retryable_errors": ["A", "B"],
            "retry_strategy": "model_first",
            "enable_feature_fallback": False,
        },
    )
    assert llm.get_retry_stats() == {
        "max_retries": 5,
        "retry_strategy": "model_first",
        "enable_feature_fallback": False,
        "retryable_error_count": 2,
        "access_error_count": 0,
        "non_retryable_error_count": 0,
    }


@pytest.mark.promise("S1-19")
@pytest.mark.parametrize(
    "wrong",
    [
        {"strategy": RetryStrategy.CUSTOM},
        {"strategy": "sideways"},
        {"retry_strategy": RetryStrategy.FIXED_DELAY},
        {"max_attempts": 0},
        {"base_delay": -1.0},
        {"jitter": 2.0},
        {"backoff_multiplier": 0.5},
        {"max_delay": float("nan")},
        {"max_delay": 1.0, "max_retry_delay": 2.0},
        {"access_method_preference": []},
        {"circuit_breaker_threshold": 0},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RetryConfig(**wrong)


@pytest.mark.promise("S0-52", "S1-74")
def test_both_spellings_of_a_validation_are_one() -> None:
    def check(response: Any) -> bool:
        return True

    one = ResponseValidationConfig(check, 2, 0.5)
    other = ResponseValidationConfig(
        validation_function=check, max_validation_attempts=3, validation_retry_delay=0.5
    )
    assert (one.function, one.retries, one.delay) == (other.function, other.retries, other.delay)
    assert (ResponseValidationConfig(check).retries, ResponseValidationConfig(check).delay) == (
        3,
        0,
    )
    wrongs: list[dict[str, Any]] = [
        {},
        {"validation_function": "check"},
        {"validation_function": check, "max_validation_attempts": 0},
        {"validation_function": check, "response_validation_retries": -1},
        {"validation_function": check, "validation_retry_delay": -0.5},
        {"validation_function": check, "response_validation_function": print},
        {
            "validation_function": check,
            "max_validation_attempts": 3,
            "response_validation_retries": 3,
        },
    ]
    for wrong in wrongs:
        with pytest.raises(ConfigurationError):
            ResponseValidationConfig(**wrong)


@pytest.mark.promise("S0-52", "S1-78")
@pytest.mark.parametrize(
    ("result", "accepted"),
    [
        (True, True),
        (None, True),
        ("words", True),
        (False, False),
        ("", False),
        (0, False),
        (ValidationResult(True), True),
        (ValidationResult(False, "no"), False),
        (ValueError("no"), False),
    ],
)
def test_a_validator_speaks_in_any_of_these_ways(result: Any, accepted: bool) -> None:
    def check(response: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    validation = ResponseValidationConfig(check).check(object())
    assert validation.success is accepted
    assert accepted or validation.error_message


def test_a_rejected_answer_waits_as_configured() -> None:
    clients = FakeClients("bad", "good")
    config = ResponseValidationConfig(
        lambda response: response.get_content() == "good", response_validation_delay=0.002
    )
    response = manager(clients).converse([message()], response_validation_config=config)
    assert response.total_duration_ms >= 2
    assert len(clients.asked) == 2


def test_model_fields_are_merged_and_the_requests_own_win() -> None:
    clients = FakeClients(then="x")
    own = ModelSpecificConfig(enable_extended_context=True, custom_fields={"top_k": 5, "a": 1})
    manager(clients, model_specific_config=own).converse(
        [message()], additional_model_request_fields={"top_k": 9}
    )
    (_, sent) = clients.asked[0]
    fields = sent["additionalModelRequestFields"]
    assert (fields["top_k"], fields["a"]) == (9, 1)
    assert fields["anthropic_beta"]


def test_a_validation_error_is_the_callers_whatever_is_retried_besides() -> None:
    """Naming a class of the service retries it; the others keep their place in the table."""
    clients = FakeClients(then=refused("ValidationException", "messages: wrong"))
    with pytest.raises(InvalidRequestError):
        manager(clients, retry={"retryable_errors": ["ThrottlingException"]}).converse([message()])
    assert len(clients.asked) == 1


DOOR = Path(bedrock.__file__).parent
ADAPTER = DOOR.parent / "providers" / "bedrock"


def read_names() -> set[str]:
    """Every attribute and variable that the Bedrock door reads."""
    found: set[str] = set()
    for path in (*DOOR.rglob("*.py"), *ADAPTER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found.add(node.id)
    return found


@pytest.mark.promise("B18")
@pytest.mark.parametrize(
    ("kind", "ignored"),
    [
        (CacheConfig, set()),
        (ParallelProcessingConfig, set()),
        (RetryConfig, set()),
        (MessageBuilder.add_text, set()),
        (BedrockModelCatalog, set()),
        (LLMManager, {"log_level"}),
    ],
)
def test_every_setting_is_read(kind: Any, ignored: set[str]) -> None:
    """`log_level` says itself that it has no effect: levels belong to the application."""
    settings = set(inspect.signature(kind).parameters) - {"self", "args", "kwargs"}
    assert settings - read_names() == ignored
