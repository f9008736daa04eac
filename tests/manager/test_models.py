"""What a manager keeps of its models: their order, their figures and their circuit breakers."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import pytest

from agentkit import (
    CircuitBreaker,
    ConfigurationError,
    LLMError,
    LLMManager,
    RetryPolicy,
    UnknownModelError,
)
from agentkit.policy.route import Route
from agentkit.testing import FakeClock, ScriptedModel
from tests.helpers import failing, is_collected, manager_of, until

METRICS = {
    "total_requests",
    "successful_requests",
    "failed_requests",
    "cache_hits",
    "total_retries",
    "total_tokens",
    "success_rate",
    "cache_hit_rate",
    "active_model",
    "fallback_chain",
    "stuck_calls",
}
STATS = {
    "requests",
    "successes",
    "failures",
    "total_latency",
    "avg_latency",
    "p50_latency",
    "p95_latency",
}


def state(llm: LLMManager, name: str) -> str:
    return str(llm.get_model_info(name)["circuit_breaker_state"])


def open_breaker(llm: LLMManager, name: str) -> None:
    while state(llm, name) != "open":
        with pytest.raises(LLMError):
            llm.complete("hi", model=name)


@pytest.mark.promise("S3-01")
def test_attempts_and_caching_are_the_first_two_arguments() -> None:
    log: list[str] = []
    for llm in (
        LLMManager(2, False, clock=FakeClock()),
        LLMManager(max_retries=2, enable_caching=False, clock=FakeClock()),
    ):
        log.clear()
        llm.register_model("m", failing(OSError, log))
        with pytest.raises(LLMError):
            llm.generate("hi")
        assert len(log) == 2


@pytest.mark.promise("S3-02")
def test_metadata_is_kept_as_given() -> None:
    llm = manager_of()
    metadata = {"provider": "openai", "max_tokens": 8192, "cost_per_1k_tokens": 0.03, "x": [1]}
    llm.register_model(name="gpt-4", inference_fn=ScriptedModel(), metadata=metadata)
    assert llm.get_model_info("gpt-4")["metadata"] == metadata


@pytest.mark.promise("A3")
def test_without_a_model_or_with_an_unknown_one_it_raises() -> None:
    llm = manager_of()
    with pytest.raises(ConfigurationError, match="no model"):
        llm.generate("hi")
    with pytest.raises(UnknownModelError):
        llm.complete("hi", model="unknown")


@pytest.mark.promise("S3-04")
def test_the_active_model_is_asked_first() -> None:
    llm = manager_of()
    for name in "ab":
        llm.register_model(name, ScriptedModel(then=name))
    llm.set_active_model("b")
    assert llm.generate("hi") == "b"
    with pytest.raises(UnknownModelError):
        llm.set_active_model("c")


@pytest.mark.promise("S3-05")
def test_the_chain_follows_the_active_model_without_duplicates() -> None:
    log: list[str] = []
    llm = manager_of(retry=RetryPolicy(max_attempts=1))
    for name in "abc":
        llm.register_model(name, failing(OSError, log, name))
    llm.set_active_model("b")
    llm.set_fallback_chain(["a", "b", "a", "c"])
    with pytest.raises(LLMError):
        llm.generate("hi")
    assert log == ["b", "a", "c"]


@pytest.mark.promise("S3-26", "A16")
def test_a_chain_may_name_an_unregistered_model() -> None:
    llm = manager_of()
    llm.register_model("b", ScriptedModel(then="b"))
    with pytest.warns(UserWarning, match="'gpt-3.5' is not registered") as caught:
        llm.set_fallback_chain(["gpt-3.5", "b"])
    assert caught[0].filename == __file__
    reply = llm.complete("hi")
    assert (reply.text, reply.ledger[0].model) == ("b", "gpt-3.5")
    assert reply.ledger[0].reason == "not_registered"


def test_a_typo_in_a_chain_is_met_with_the_closest_name() -> None:
    llm = manager_of()
    llm.register_model("backup", ScriptedModel(then="b"))
    with pytest.warns(UserWarning, match="did you mean 'backup'"):
        llm.set_fallback_chain(["bakcup"])


@pytest.mark.promise("A16")
def test_a_strict_manager_refuses_an_unregistered_model() -> None:
    with pytest.raises(UnknownModelError):
        LLMManager(strict=True).set_fallback_chain(["gpt-5"])


@pytest.mark.promise("S3-09")
def test_the_keys_of_a_models_information() -> None:
    llm = manager_of(ScriptedModel("x"))
    llm.generate("hi")
    info = llm.get_model_info("m0")
    assert set(info) == {"name", "metadata", "stats", "circuit_breaker_state"}
    assert set(info["stats"]) == STATS


@pytest.mark.promise("S3-10")
def test_the_keys_of_the_metrics_before_and_after_a_call() -> None:
    llm = manager_of()
    before = llm.get_metrics()
    assert set(before) == METRICS
    assert before["success_rate"] == 1.0
    assert not any(before[key] for key in METRICS - {"success_rate"})
    llm.register_model("m", ScriptedModel("x"))
    llm.generate("hi")
    assert set(llm.get_metrics()) == METRICS


@pytest.mark.promise("A17")
def test_the_metrics_are_a_copy() -> None:
    llm = manager_of(ScriptedModel())
    llm.get_metrics()["fallback_chain"].append("junk")
    assert llm.get_metrics()["fallback_chain"] == ["m0"]


@pytest.mark.promise("A17")
@pytest.mark.threads
def test_every_request_of_many_threads_is_counted() -> None:
    llm = manager_of(lambda prompt, kwargs: "x")
    threads = [
        threading.Thread(target=lambda: [llm.generate("hi") for _ in range(100)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert llm.get_metrics()["total_requests"] == 800


@pytest.mark.promise("A14", "S3-36")
def test_hits_of_the_response_cache_are_successes() -> None:
    llm = manager_of(ScriptedModel("x"), enable_caching=True, cache="memory")
    for _ in range(10):
        llm.generate("same")
    metrics = llm.get_metrics()
    assert (metrics["success_rate"], metrics["cache_hits"]) == (1.0, 9)
    assert metrics["cache_hit_rate"] == pytest.approx(0.9)


@pytest.mark.promise("S3-12")
def test_models_are_listed_in_the_order_of_registration() -> None:
    llm = manager_of()
    for name in ("z", "a", "m"):
        llm.register_model(name, ScriptedModel())
    assert llm.list_models() == ["z", "a", "m"]


@pytest.mark.promise("S3-18")
def test_each_model_has_a_breaker_of_its_own() -> None:
    llm = manager_of(failing(OSError, []), ScriptedModel("fine"))
    open_breaker(llm, "m0")
    assert state(llm, "m1") == "closed"
    assert llm.complete("hi", model="m1").text == "fine"


@pytest.mark.promise("S3-19", "S3-20")
def test_five_failures_open_a_breaker_and_each_state_is_visible() -> None:
    clock = FakeClock()
    outcomes: list[Any] = [OSError()] * 5
    states: list[str] = []

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        if outcomes:
            raise outcomes.pop()
        states.append(state(llm, "m0"))
        return "x"

    llm = manager_of(model, clock=clock, max_retries=1)
    for _ in range(5):
        states.append(state(llm, "m0"))
        with pytest.raises(LLMError):
            llm.generate("hi")
    states.append(state(llm, "m0"))
    clock.advance(60)
    llm.generate("hi")
    assert [*states, state(llm, "m0")] == ["closed"] * 5 + ["open", "half-open", "closed"]


@pytest.mark.promise("S3-11")
def test_a_breaker_can_be_reset() -> None:
    llm = manager_of(failing(OSError, []))
    open_breaker(llm, "m0")
    llm.reset_circuit_breaker("m0")
    assert state(llm, "m0") == "closed"


def test_a_shared_breaker_does_not_keep_a_manager_alive() -> None:
    shared = CircuitBreaker()
    llm = LLMManager(enable_caching=False)
    llm.register_model("m", ScriptedModel("x"), breaker=shared)
    gone = weakref.ref(llm.registry)
    llm.close()
    del llm
    until(lambda: is_collected(gone))


@pytest.mark.parametrize("change", ["replaced", "unregistered"])
def test_a_route_that_is_built_beside_a_change_does_not_survive_it(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = LLMManager(enable_caching=False)
    llm.register_model("m", ScriptedModel(then="old"))

    def change_it() -> None:
        if change == "replaced":
            llm.register_model("m", ScriptedModel(then="new"), replace=True)
        else:
            llm.unregister_model("m")

    changing = threading.Thread(target=change_it)

    def slow_route(stops: Any) -> Route:
        if not changing.ident:
            changing.start()
            changing.join(0.2)
        return Route(stops)

    monkeypatch.setattr("agentkit.manager.registry.Route", slow_route)
    llm.registry.route("m")
    changing.join()
    if change == "replaced":
        assert llm.complete("x", model="m").text == "new"
    else:
        with pytest.raises(UnknownModelError):
            llm.complete("x", model="m")


@pytest.mark.parametrize("limit", [None, 1])
def test_a_function_that_was_replaced_is_not_kept(limit: int | None) -> None:
    llm = LLMManager(enable_caching=False)
    models = [ScriptedModel(then="old"), ScriptedModel(then="new")]
    gone = weakref.ref(models[0])
    for model in models:
        llm.register_model("m", model, max_concurrency=limit, replace=True)
        llm.complete("x", model="m")
    del model, models
    until(lambda: is_collected(gone))


def test_models_replaced_by_many_threads_are_each_closed_once() -> None:
    llm = LLMManager(enable_caching=False)
    faults: list[BaseException] = []

    def swap() -> None:
        try:
            for _ in range(50):
                llm.register_model("m", ScriptedModel(then="x"), max_concurrency=1, replace=True)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=swap) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert llm.complete("x", model="m").text == "x"
