"""Whatever is handed in wrongly gets an error that names the value and the remedy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import (
    AllModelsFailedError,
    BreakerPolicy,
    Budget,
    CircuitBreaker,
    ConfigurationError,
    ConnectionPool,
    InvalidResponseError,
    LLMError,
    LLMManager,
    Message,
    PoolExhaustedError,
    ProviderError,
    ProviderTimeoutError,
    RateLimits,
    RetryPolicy,
    UnknownModelError,
)


def echo(prompt: str, kwargs: dict[str, Any]) -> str:
    return prompt


@pytest.fixture
def llm() -> Iterator[LLMManager]:
    with LLMManager(cache="memory", retry=RetryPolicy(max_attempts=1)) as manager:
        manager.register_model("echo", echo)
        yield manager


@pytest.mark.promise("A16")
@pytest.mark.parametrize("name", ["set_active_model", "get_model_info", "reset_circuit_breaker",
                                  "unregister_model", "health"])  # fmt: skip
def test_an_unknown_name_is_met_with_the_closest_one(llm: LLMManager, name: str) -> None:
    with pytest.raises(UnknownModelError, match="did you mean 'echo'"):
        getattr(llm, name)("ecco")


@pytest.mark.parametrize("prompt", ["", "  \n", b"bytes", None, 3, {"role": "user"}, [], [3],
                                    [{"role": "user"}], [{"role": "unknown", "content": "x"}],
                                    [{"role": "user", "content": "x", "hue": 1}]])  # fmt: skip
def test_an_invalid_prompt_is_rejected_before_anything_is_sent(
    llm: LLMManager, prompt: Any
) -> None:
    with pytest.raises(LLMError) as caught:
        llm.complete(prompt)
    assert caught.value.hint
    assert llm.get_metrics()["total_requests"] == 0
    with pytest.raises(type(caught.value)):
        asyncio.run(llm.acomplete(prompt))


@pytest.mark.parametrize(
    "field", ["base_delay", "multiplier", "max_delay", "jitter", "max_retry_after"]
)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", None, True])
def test_a_retry_policy_names_the_bad_value(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=field):
        RetryPolicy(**{field: value})


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (LLMManager, {"budget": 1}, "budget must be a Budget, got 1.*Budget\\(usd="),
        (LLMManager, {"retry": 3}, "retry must be a RetryPolicy, got 3.*max_attempts="),
        (LLMManager, {"max_retrys": 3}, "LLMManager has no argument max_retrys=.*max_retries="),
        (LLMManager, {"shade": 3}, "no argument shade=.*its arguments are max_retries, "),
        (RetryPolicy, {"max_retries": 3}, "argument max_retries=.*did you mean max_attempts="),
        (Budget, {"cost": 1}, "Budget has no argument cost=.*did you mean usd="),
        (BreakerPolicy, {"failure_treshold": 1}, "did you mean failure_threshold="),
        (RateLimits, {"rpm": 1}, "did you mean requests_per_minute="),
        (ConnectionPool, {"keys": ["k"]}, "did you mean api_keys="),
        (ConnectionPool, {"api_keys": None}, "a list of strings, got NoneType.*variable of the k"),
        (ConnectionPool, {"api_keys": "a,b", "models": "m"}, "models must be a list, got 'm'"),
        (Budget, {"usd": 1, "per": "weekly"}, "or 'month', got 'weekly'.*did you mean 'week'"),
        (LLMManager, {"on_fleet_loss": "x"}, "'stop' or 'open', got 'x'.*such as 'share'"),
        (LLMManager, {"cache": "redis://:hunter2@host"}, "a store, got a URL.*as fleet="),
    ],
)
def test_a_wrong_argument_is_named_with_its_remedy(
    cls: type, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s){message}") as caught:
        cls(**options)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("options", [{"retry": 3}, {"budget": 1}])
def test_a_call_names_the_policy_that_is_a_number(llm: LLMManager, options: Any) -> None:
    message = f"{next(iter(options))} must be a"
    with pytest.raises(ConfigurationError, match=message):
        llm.complete("x", **options)
    with pytest.raises(ConfigurationError, match=message):
        llm.generate("x", **options)
    with pytest.raises(ConfigurationError, match=message):
        llm.stream("x", **options)
    assert llm.get_metrics()["total_requests"] == 0


@pytest.mark.promise("A16")
@pytest.mark.parametrize("value", [0, -3, 1.5, "3", None, True])
def test_zero_attempts_are_refused_with_the_remedy(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="1 is a single attempt"):
        LLMManager(max_retries=value)
    with pytest.raises(ConfigurationError, match="it counts attempts"):
        LLMManager(max_retries=value)
    with pytest.raises(ConfigurationError, match="1 is a single attempt"):
        RetryPolicy(max_attempts=value)


def test_two_contradicting_ways_to_say_attempts_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="contradicts"):
        LLMManager(max_retries=5, retry=RetryPolicy(max_attempts=2))
    LLMManager(max_retries=5, retry=RetryPolicy(max_attempts=5))


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"first_token_timeout": "1"},
     {"max_concurrency": 0}, {"retry": 3}, {"breaker": "on"}, {"retry_on": "all"},
     {"metadata": "gpt"}, {"metadata": {"context_window": -5}}, {"limits": 5},
     {"pool": ["sk-hunter2"]}],
)  # fmt: skip
def test_a_registration_with_a_bad_value_leaves_nothing_behind(options: dict[str, Any]) -> None:
    llm = LLMManager(cache="memory")
    with pytest.raises(ConfigurationError) as caught:
        llm.register_model("m", echo, **options)
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)
    assert llm.list_models() == []


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_model_needs_a_name(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        LLMManager(cache="memory").register_model(name, echo)


@pytest.mark.promise("A16", "S2-09")
def test_a_taken_name_needs_replace(llm: LLMManager) -> None:
    with pytest.raises(ConfigurationError, match="replace=True"):
        llm.register_model("echo", echo)
    llm.register_model("echo", lambda prompt, kwargs: "new", replace=True)
    assert llm.generate("x") == "new"


@pytest.mark.parametrize("thing", [None, 3, object()])
def test_what_cannot_be_called_is_refused(llm: LLMManager, thing: Any) -> None:
    with pytest.raises(ConfigurationError, match="not callable"):
        llm.register_model("x", thing)


@pytest.mark.parametrize(
    "fn", [lambda: "x", lambda prompt: "x", lambda prompt, kwargs, more: "x",
           lambda *, prompt, kwargs: "x"],
)  # fmt: skip
def test_a_wrong_number_of_parameters_is_found_at_registration(llm: LLMManager, fn: Any) -> None:
    with pytest.raises(ConfigurationError, match="f\\(prompt, kwargs\\)"):
        llm.register_model("x", fn)


@pytest.mark.parametrize("chain", [[], "echo", None, [""], [3]])
def test_a_chain_must_be_a_list_of_names(llm: LLMManager, chain: Any) -> None:
    with pytest.raises(ConfigurationError):
        llm.set_fallback_chain(chain)


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), "5", True])
def test_a_deadline_is_a_positive_number_of_seconds(llm: LLMManager, deadline: Any) -> None:
    with pytest.raises(ConfigurationError, match="deadline"):
        llm.complete("x", deadline=deadline)
    with pytest.raises(ConfigurationError, match="deadline"):
        LLMManager(deadline=deadline)


def test_an_unknown_way_to_interrupt_is_refused(llm: LLMManager) -> None:
    with pytest.raises(ConfigurationError, match="on_interrupt"):
        llm.stream("x", on_interrupt="ignore")  # type: ignore[arg-type]


def test_restart_cannot_be_read_as_text(llm: LLMManager) -> None:
    with pytest.raises(LLMError, match="restart"):
        list(llm.stream("x", on_interrupt="restart"))


@pytest.mark.parametrize("policy", [{"failure_threshold": 0}, {"failure_rate": 0},
                                    {"failure_rate": 1.1}, {"window": -1}, {"minimum_calls": 0},
                                    {"slow_call_duration": -1}, {"listeners": 3}])  # fmt: skip
def test_a_breaker_policy_names_the_bad_value(policy: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(policy))):
        BreakerPolicy(**policy)


@pytest.mark.promise("A3")
@pytest.mark.parametrize("answer", [None, b"bytes", 3, ["x"], {"text": "x"}, object()])
def test_an_answer_of_another_type_is_a_failure_that_names_the_type(
    llm: LLMManager, answer: Any
) -> None:
    llm.register_model("odd", lambda prompt, kwargs: answer)
    with pytest.raises(InvalidResponseError, match="instead of"):
        llm.complete("x", model="odd")
    assert llm.get_model_info("odd")["stats"]["failures"] == 1


def test_a_coroutine_from_a_plain_function_is_explained(llm: LLMManager) -> None:
    async def inner() -> str:
        return "x"

    llm.register_model("odd", lambda prompt, kwargs: inner())
    with pytest.raises(InvalidResponseError, match=r"async def"):
        llm.complete("x", model="odd")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes_through_and_does_not_count_as_a_failure(
    llm: LLMManager, stop: type[BaseException]
) -> None:
    def interrupted(prompt: str, kwargs: dict[str, Any]) -> str:
        raise stop

    llm.register_model("m", interrupted)
    for _ in range(10):
        with pytest.raises(stop):
            llm.complete("x", model="m")
    assert llm.get_model_info("m")["circuit_breaker_state"] == "closed"
    assert llm.get_model_info("m")["stats"]["failures"] == 0


def test_stop_iteration_from_a_callable_is_a_failure_like_any_other(llm: LLMManager) -> None:
    def empty(prompt: str, kwargs: dict[str, Any]) -> str:
        return next(iter(()))

    llm.register_model("m", empty)
    with pytest.raises(ProviderError):
        llm.complete("x", model="m")


def test_a_callable_that_never_returns_is_abandoned(llm: LLMManager) -> None:
    released = threading.Event()

    def stuck(prompt: str, kwargs: dict[str, Any]) -> str:
        released.wait()
        return "late"

    llm.register_model("stuck", stuck, timeout=0.05)
    with pytest.raises(ProviderTimeoutError, match=r"0\.05 s"):
        llm.complete("x", model="stuck")
    assert llm.get_metrics()["stuck_calls"] == 1
    released.set()


def test_with_every_worker_stuck_the_next_model_answers_at_once() -> None:
    released = threading.Event()

    def stuck(prompt: str, kwargs: dict[str, Any]) -> str:
        released.wait()
        return "late"

    with LLMManager(cache="memory", max_workers=2, retry=RetryPolicy(max_attempts=1)) as llm:
        llm.register_model("stuck", stuck, timeout=0.05, breaker=False)
        llm.register_model("echo", echo)
        for _ in range(2):
            with pytest.raises(ProviderTimeoutError):
                llm.complete("x", model="stuck")
        reply = llm.complete("x", model=["stuck", "echo"])
        assert reply.text == "x"
        assert reply.ledger[0].error == PoolExhaustedError.__name__
        released.set()


def test_a_model_may_ask_its_own_manager_the_same_question(llm: LLMManager) -> None:
    """The inner call does not wait for the shared call around it."""
    depth = []

    def recursive(prompt: str, kwargs: dict[str, Any]) -> str:
        depth.append(prompt)
        return "done" if len(depth) == 3 else llm.generate(prompt)

    llm.register_model("recursive", recursive)
    llm.set_active_model("recursive")
    assert llm.generate("again") == "done"


def test_an_answer_of_50_megabytes_is_complete(llm: LLMManager) -> None:
    llm.register_model("big", lambda prompt, kwargs: "x" * 50_000_000)
    assert len(llm.complete("x", model="big").text) == 50_000_000


def test_a_parameter_that_cannot_be_written_bypasses_the_response_cache(llm: LLMManager) -> None:
    reply = llm.complete("x", callback=object())
    assert (reply.text, reply.ledger.cache) == ("x", "bypass")


def test_a_closed_manager_says_so_and_closing_twice_is_fine() -> None:
    llm = LLMManager(cache="memory")
    llm.register_model("echo", echo)
    llm.close()
    assert llm.close() == []
    with pytest.raises(ConfigurationError, match="closed"):
        llm.generate("x")


def test_a_message_of_an_unknown_role_lists_the_roles() -> None:
    with pytest.raises(LLMError, match="system, user, assistant, tool"):
        Message("unknown", "x")


def test_middleware_must_be_a_generator_function() -> None:
    with pytest.raises(ConfigurationError, match="generator function"):
        LLMManager(cache="memory", middleware=[echo])


def test_a_shared_breaker_opens_for_both_of_its_models(llm: LLMManager) -> None:
    shared = CircuitBreaker(failure_threshold=1)

    def down(prompt: str, kwargs: dict[str, Any]) -> str:
        raise ConnectionError

    llm.register_model("a", down, breaker=shared)
    llm.register_model("b", echo, breaker=shared)
    with pytest.raises(AllModelsFailedError):
        llm.complete("x", model=["a", "b"])


@pytest.mark.parametrize("priority", [float("nan"), float("inf"), 10**400, "1", None, True])
def test_an_invalid_priority_is_refused(llm: LLMManager, priority: Any) -> None:
    with pytest.raises(ConfigurationError, match="priority"):
        llm.complete("x", priority=priority)
    assert llm.get_metrics()["total_requests"] == 0


@pytest.mark.parametrize("number", [0, -1, 1.5, None, True])
def test_the_number_of_workers_is_checked(number: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_workers"):
        LLMManager(max_workers=number)


@pytest.mark.parametrize("seconds", [1e9, 1e10, 1e300, 10**10])
def test_a_very_long_time_limit_works(seconds: float) -> None:
    with LLMManager(enable_caching=False) as llm:
        llm.register_model("m", echo, timeout=seconds)
        assert llm.complete("x", model="m", deadline=seconds).text == "x"
        assert asyncio.run(llm.acomplete("x", model="m", deadline=seconds)).text == "x"
