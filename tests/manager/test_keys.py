"""Several keys behind one model: which is used, which waits, which is retired."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
from collections import Counter
from typing import Any

import pytest

from agentkit import (
    AuthenticationError,
    ConfigurationError,
    ConnectionPool,
    DeadlineExceededError,
    LLMError,
    LLMManager,
    LLMPoolExhaustedError,
    NetworkError,
    PoolConfig,
    RateLimitError,
    RateLimits,
    ServerError,
)
from agentkit.policy.limits import key_fingerprint
from agentkit.testing import FakeClock
from agentkit.types import Request, Response, Usage
from tests.manager.keyed import Keyed, answers, pooled


@pytest.mark.promise("S2-02")
def test_a_hundred_calls_are_spread_evenly() -> None:
    llm, provider = pooled(answers)
    for number in range(100):
        llm.generate(f"{number}")
    assert provider.asked == {"k1": 34, "k2": 33, "k3": 33}


@pytest.mark.promise("S4-10")
def test_the_fourth_call_cycles_back_to_the_first_key() -> None:
    llm, _ = pooled(answers)
    assert [llm.generate("x") for _ in range(4)] == ["by k1", "by k2", "by k3", "by k1"]


@pytest.mark.promise("S2-17")
def test_a_throttled_key_moves_the_same_request_to_the_next_without_waiting() -> None:
    def behave(key: str, request: Request) -> str:
        if key == "k1":
            raise RateLimitError("slow down", retry_after=30.0)
        return f"by {key}"

    clock = FakeClock()
    llm, provider = pooled(behave, clock=clock)
    response = llm.complete("x")
    assert response.text == "by k2"
    assert response.ledger.slept == response.ledger.duration == 0.0
    assert [llm.generate("x") for _ in range(4)] == ["by k3", "by k2", "by k3", "by k2"]
    assert provider.asked["k1"] == 1
    clock.advance(31.0)
    llm.generate("x")
    llm.generate("x")
    assert provider.asked["k1"] == 2


@pytest.mark.promise("N7")
def test_a_refused_key_is_dropped_with_a_warning_that_hides_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def behave(key: str, request: Request) -> str:
        if key == "secret-k1":
            raise AuthenticationError("invalid key", status=401)
        return f"by {key}"

    llm, provider = pooled(behave, ["secret-k1", "k2"])
    with caplog.at_level(logging.DEBUG):
        assert [llm.generate(f"{number}") for number in range(6)] == ["by k2"] * 6
    assert provider.asked["secret-k1"] == 1
    (warning,) = [each for each in caplog.records if each.name == "agentkit.pool"]
    assert key_fingerprint("secret-k1") in warning.getMessage()
    assert "secret-k1" not in caplog.text


def test_the_last_key_surfaces_its_own_error() -> None:
    def behave(key: str, request: Request) -> str:
        raise AuthenticationError("invalid key", status=401)

    llm, provider = pooled(behave, ["k1", "k2"])
    with pytest.raises(AuthenticationError):
        llm.generate("x")
    assert provider.asked == {"k1": 1, "k2": 1}


@pytest.mark.promise("S4-38")
def test_one_key_dying_midway_loses_no_call() -> None:
    dead = threading.Event()

    def behave(key: str, request: Request) -> str:
        if key == "k2" and dead.is_set():
            raise AuthenticationError("revoked", status=401)
        return f"by {key}"

    llm, provider = pooled(behave)
    done: list[str] = []

    def calls() -> None:
        for number in range(125):
            done.append(llm.generate(f"{number}"))
            if len(done) > 400:
                dead.set()

    threads = [threading.Thread(target=calls) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1000
    assert provider.asked.total() - 1000 <= 8


@pytest.mark.promise("N6", "S2-30")
def test_each_key_takes_five_calls_at_once() -> None:
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()

    class Slow(Keyed):
        send = None  # type: ignore[assignment]

        async def asend(self, request: Request) -> str:
            now[self.key] += 1
            most[self.key] = max(most[self.key], now[self.key])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            now[self.key] -= 1
            return "x"

    llm = LLMManager(enable_caching=False)
    llm.register_model("m", Slow(answers), pool=ConnectionPool(["k1", "k2"]))

    async def main() -> None:
        await asyncio.gather(*(llm.agenerate(f"{number}") for number in range(60)))

    asyncio.run(main())
    assert most == {"k1": 5, "k2": 5}


@pytest.mark.promise("S4-28")
def test_no_key_in_time_is_an_error_of_the_pool() -> None:
    clock = FakeClock()
    config = PoolConfig(max_size=1, acquire_timeout=2.0)
    provider = Keyed(answers)
    llm = LLMManager(enable_caching=False, clock=clock)
    llm.register_model("m", provider, pool=ConnectionPool(["k1"], config=config))
    pool = llm.registry.get("m").pool
    assert pool is not None
    from agentkit.policy.limits import Need

    held = pool.request(Need(), clock())
    with pytest.raises(LLMPoolExhaustedError, match=r"2\.0 s"):
        llm.generate("x")
    held.release(clock())
    assert llm.generate("x") == "by k1"


@pytest.mark.promise("N7", "S4-37")
def test_idle_and_old_clients_are_made_anew_and_the_old_ones_closed() -> None:
    clock = FakeClock()
    config = PoolConfig(idle_timeout=100.0, max_lifetime=250.0)
    llm, provider = pooled(answers, ["k1"], clock=clock, config=config)
    made = provider.made
    llm.generate("a")
    for _ in range(2):
        clock.advance(90.0)
        llm.generate("b")
    assert len(made) == 1
    clock.advance(100.0)
    llm.generate("c")
    assert [each.closed for each in made] == [True, False]
    for _ in range(3):
        clock.advance(90.0)
        llm.generate("d")
    assert [each.closed for each in made] == [True, True, False]
    llm.close()
    assert [each.closed for each in made] == [True, True, True]


@pytest.mark.promise("N7", "S4-36")
def test_a_failed_check_replaces_the_client_and_costs_nothing_by_default() -> None:
    clock = FakeClock()
    checked: list[str] = []

    def check(provider: Any) -> bool:
        checked.append(provider.key)
        return bool(provider.key != "k2")

    provider = Keyed(answers)
    pool = ConnectionPool(["k1", "k2"], health_check_interval=60, health_check=check)
    silent = ConnectionPool(["k9"], health_check_interval=60)
    llm = LLMManager(enable_caching=False, clock=clock)
    llm.register_model("m", provider, pool=pool)
    llm.register_model("n", Keyed(answers), pool=silent)
    llm.complete("x", model="m")
    llm.complete("x", model="m")
    assert pool.check_health(clock()) == []
    clock.advance(61.0)
    before = provider.asked.total()
    (failed,) = pool.check_health(clock())
    assert checked == ["k1", "k2"]
    assert len(failed) == 8
    assert silent.check_health(clock()) == []
    assert provider.asked.total() == before
    for _ in range(2):
        llm.complete("x", model="m")
    assert [each.key for each in provider.made] == ["k1", "k2", "k2"]


@pytest.mark.promise("S4-07")
def test_limits_hold_for_each_key() -> None:
    clock = FakeClock()
    llm, provider = pooled(
        answers, ["k1", "k2"], clock=clock, limits=RateLimits(requests_per_minute=3)
    )
    since = clock()
    for number in range(6):
        llm.generate(f"{number}")
    assert clock() == since
    llm.generate("seventh")
    assert clock() == since + 60.0
    assert provider.asked == {"k1": 4, "k2": 3}


def test_a_wait_for_quota_is_in_the_ledger_and_within_the_deadline() -> None:
    clock = FakeClock()
    llm, _ = pooled(answers, ["k1"], clock=clock, limits=RateLimits(requests_per_minute=1))
    since = clock()
    llm.generate("a")
    response = llm.complete("b")
    assert response.ledger.waited == 60.0
    with pytest.raises(DeadlineExceededError):
        llm.complete("c", deadline=30.0)
    assert clock() - since == 60.0


@pytest.mark.promise("N4", "S4-08")
def test_real_usage_gives_back_what_was_estimated_too_much() -> None:
    clock = FakeClock()

    def behave(key: str, request: Request) -> Response[Any]:
        return Response("x", Usage(5, 5))

    limits = RateLimits(output_tokens_per_minute=1000)
    llm, _ = pooled(behave, ["k1"], clock=clock, limits=limits)
    since = clock()
    for number in range(20):
        llm.complete(f"{number}", max_tokens=900)
    assert clock() == since
    assert llm.get_status()["pools"]["m"]["clients"][0]["used"]["output_tokens_per_minute"] == 100


def test_a_request_larger_than_a_minute_is_rejected_immediately() -> None:
    clock = FakeClock()
    llm, provider = pooled(
        answers, ["k1"], clock=clock, limits=RateLimits(output_tokens_per_minute=100)
    )
    with pytest.raises(LLMPoolExhaustedError, match="output_tokens_per_minute"):
        llm.complete("x", max_tokens=101)
    assert provider.asked == {}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"api_keys": []}, "at least one"),
        ({"api_keys": ["a", " "]}, "key 2 of 2 is empty"),
        ({"api_keys": ["a", "b", "a"]}, "key 3 is the same as key 1"),
        ({"api_keys": ["a"], "max_connections_per_key": 0}, "max_connections_per_key"),
        ({"api_keys": ["a", "b", "c"], "models": ["x", "y"]}, "1 value or 3, .* got 2"),
        ({"api_keys": ["a"], "health_check_interval": 0}, "health_check_interval"),
    ],
)
def test_invalid_settings_raise_an_error(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        ConnectionPool(**arguments)
    assert "'a'" not in str(caught.value)


def test_the_pool_shows_no_key() -> None:
    llm, _ = pooled(answers, ["very-secret-key"])
    llm.generate("x")
    pool = ConnectionPool(["very-secret-key"])
    assert "very-secret-key" not in repr(pool) + str(llm.get_status())
    with pytest.raises(TypeError):
        pickle.dumps(pool)


def test_a_plain_callable_takes_no_key() -> None:
    llm = LLMManager(enable_caching=False)
    with pytest.raises(ConfigurationError, match="with_key"):
        llm.register_model("m", lambda prompt, kwargs: "x", pool=ConnectionPool(["k"]))


@pytest.mark.promise("S2-16")
def test_failures_are_counted_for_each_key() -> None:
    def behave(key: str, request: Request) -> str:
        if key == "k1":
            raise ServerError("broken", status=500)
        return "x"

    llm, _ = pooled(behave, ["k1", "k2"], clock=FakeClock())
    for number in range(2):
        llm.generate(f"{number}")
    clients = llm.get_status()["pools"]["m"]["clients"]
    assert [(each["served"], each["failures"]) for each in clients] == [(2, 2), (2, 0)]


@pytest.mark.promise("S4-43")
def test_a_failing_key_is_not_used_and_the_breaker_opens_when_all_fail() -> None:
    down = {"k1"}

    def behave(key: str, request: Request) -> str:
        if key in down:
            raise ServerError("broken", status=500)
        return key

    llm, provider = pooled(behave, ["k1", "k2"], clock=FakeClock())
    assert {llm.generate(f"{number}") for number in range(20)} == {"k2"}
    assert provider.asked["k1"] == 3
    assert llm.get_model_info("m")["circuit_breaker_state"] == "closed"
    down.add("k2")
    for number in range(3):
        with pytest.raises(LLMError):
            llm.generate(f"{number}")
    assert llm.get_model_info("m")["circuit_breaker_state"] == "open"


@pytest.mark.promise("N7")
def test_the_pool_does_what_its_configuration_says() -> None:
    def down(key: str, request: Request) -> str:
        raise NetworkError("down")

    config = PoolConfig(retry_on_error=False, min_size=2)
    llm, provider = pooled(down, ["k1", "k2"], clock=FakeClock(), config=config)
    assert [each.key for each in provider.made] == ["k1", "k2"], "min_size"
    with pytest.raises(NetworkError):
        llm.generate("hi")
    assert provider.asked.total() == 1, "retry_on_error"


@pytest.mark.promise("N4")
def test_a_wait_for_quota_holds_up_no_other_model() -> None:
    async def main() -> None:
        llm, _ = pooled(answers, ["k1"], limits=RateLimits(requests_per_minute=1))
        llm.register_model("other", lambda prompt, kwargs: "free")
        client = llm.get_client("m")
        await client.chat("one")
        waiting = asyncio.create_task(client.chat("two"))
        while llm.get_status()["pools"]["m"]["waiting"] == 0:
            await asyncio.sleep(0)
        assert await llm.get_client("other").chat("hi") == "free"
        waiting.cancel()
        await asyncio.wait([waiting])
        assert llm.get_status()["pools"]["m"]["waiting"] == 0

    asyncio.run(main())
