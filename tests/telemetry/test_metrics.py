"""What dashboards read: names, units and labels of every metric."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, exception_attributes

from agentkit import errors as e
from agentkit.policy.breaker import BreakerPolicy
from agentkit.telemetry import names
from agentkit.telemetry.otel import Telemetry
from agentkit.testing import HTTPStatusError, ScriptedModel, overloaded, rate_limited
from agentkit.testing.faults import Status
from agentkit.types import Response, Usage
from tests.telemetry.observing import Observed, attributes

ANSWER: Response[Any] = Response("fine", Usage(7, 3, 2, 1, 1))
SECRET = "canary-4711"
STATE = "agentkit.circuit_breaker.state"
A_CALL = {"gen_ai.operation.name": "chat"}
AT_A = {"gen_ai.provider.name": "p-a", "agentkit.model": "a"}
AT_B = {"gen_ai.provider.name": "p-b", "agentkit.model": "b"}
OF_A = A_CALL | AT_A | {"gen_ai.request.model": "a"}
OF_B = A_CALL | AT_B | {"gen_ai.request.model": "b"}


def an_outage(seen: Observed) -> None:
    """A miss over retry, an opening breaker and fallback; a rejection and a hit; a rejection."""
    slow = ScriptedModel((2.0, overloaded()), (3.0, rate_limited()), clock=seen.clock)
    llm = seen.manager(
        ("a", slow),
        ("b", ScriptedModel(then=ANSWER)),
        breaker=BreakerPolicy(failure_threshold=2),
        cache="memory",
    )
    llm.generate("hi")
    llm.generate("hi")
    llm.generate("again")


@pytest.mark.promise("S3-41", "S4-44")
def test_an_outage_in_numbers(seen: Observed) -> None:
    an_outage(seen)
    assert seen.points("gen_ai.client.operation.duration") == [
        (OF_A | {"error.type": "529"}, (1, 2.0)),
        (OF_A | {"error.type": "429"}, (1, 3.0)),
        (OF_B, (2, 0.0)),
    ]
    assert seen.points("gen_ai.client.token.usage") == [
        (OF_B | {"gen_ai.token.type": "input"}, (2, 14)),
        (OF_B | {"gen_ai.token.type": "output"}, (2, 6)),
    ]
    manager = {"agentkit.manager.name": "default"}
    counted = {
        labels["agentkit.outcome"]: value
        for labels, value in seen.points("agentkit.generate.duration")
    }
    assert counted == {"fallback_success": (2, 6.0), "cache_hit": (1, 0.0)}
    assert seen.one("agentkit.generate.attempts") == (
        manager | {"agentkit.outcome": "fallback_success"},
        (2, 4),
    )
    assert seen.one("agentkit.retries") == (AT_A | {"error.type": "529"}, 1)
    assert seen.one("agentkit.retry.delay")[1] == (1, 1.0)
    moved = {"agentkit.fallback.from": "a", "agentkit.fallback.to": "b"}
    assert sorted(seen.points("agentkit.fallbacks"), key=str) == [
        (moved | {"agentkit.fallback.reason": "circuit_open"}, 2),
        (moved | {"agentkit.fallback.reason": "rate_limited"}, 1),
    ]
    breaker = {"agentkit.circuit_breaker.name": "p-a/a"}
    assert seen.one("agentkit.circuit_breaker.transitions") == (
        breaker | {STATE: "open", "agentkit.circuit_breaker.previous_state": "closed"},
        1,
    )
    assert seen.one("agentkit.circuit_breaker.rejections") == (breaker, 2)
    asked = {p[0]["agentkit.cache.result"]: p[1] for p in seen.points("agentkit.cache.requests")}
    assert asked == {"hit": 1, "miss": 5}


@pytest.mark.parametrize("profile", ["v1.41", "next", "both"])
def test_names_and_units_are_the_documented_ones(
    observing: Callable[..., Observed], profile: Any
) -> None:
    seen = observing(profile=profile)
    an_outage(seen)
    declared = {
        each.name: each.unit
        for each in [*vars(names).values(), *names.USAGE_COUNTERS.values()]
        if isinstance(each, names.Metric)
    }
    found = {name: metric.unit for name, metric in seen.metrics().items()}
    assert found.items() <= declared.items()
    standard = {name for name in found if name.startswith("gen_ai.")}
    old = {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    new = {"gen_ai.client.inference.duration"}
    new |= {each.name for each in names.USAGE_COUNTERS.values()}
    new |= {names.INPUT_PER_CALL.name, names.OUTPUT_PER_CALL.name}
    assert standard == {"v1.41": old, "next": new, "both": old | new}[profile]
    written = attributes(seen.attempts[-1])
    creation = "gen_ai.usage.cache_creation.input_tokens" in written
    write = "gen_ai.usage.cache_write.input_tokens" in written
    assert (creation, write) == (profile != "next", profile != "v1.41")
    if profile != "v1.41":
        modal = OF_B | {"gen_ai.token.modality": "unknown"}
        assert seen.one("gen_ai.client.inference.usage.cache_read.input_tokens") == (modal, 4)
        assert seen.one("gen_ai.client.inference.operation.input_tokens") == (OF_B, (2, 14))


def test_the_first_chunk_of_a_stream_is_measured(observing: Callable[..., Observed]) -> None:
    seen = observing(profile="both")
    model = ScriptedModel([(1.5, "one"), " two"], clock=seen.clock).as_stream()
    model.end_mark = False
    with seen.manager(("a", model)).stream("hi") as pieces:
        assert "".join(pieces) == "one two"
    for metric in (names.OLD_FIRST_CHUNK, names.NEW_FIRST_CHUNK):
        assert seen.one(metric.name) == (OF_A, (1, 1.5))


class Odd(e.ProviderError):
    error_type = SECRET


FAULTS: list[tuple[Exception, str]] = [
    (Odd(SECRET), "_OTHER"),
    (RuntimeError(SECRET), "_OTHER"),
    (e.ProviderError("x", status=SECRET), "_OTHER"),  # type: ignore[arg-type]
    (HTTPStatusError(Status(418)), "_OTHER"),
    (HTTPStatusError(Status(503)), "503"),
    (HTTPStatusError(Status(429)), "429"),
    (HTTPStatusError(Status(401)), "401"),
    (TimeoutError(SECRET), "timeout"),
    (ConnectionError(SECRET), "connection_error"),
    (e.ContentFilterError(SECRET), "content_filter"),
    (e.ContextLengthError(SECRET), "context_length_exceeded"),
    (e.InvalidResponseError(SECRET), "invalid_response"),
]


@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=[type(f).__name__ for f, _ in FAULTS])
def test_error_types_are_a_closed_list(seen: Observed, fault: Exception, kind: str) -> None:
    llm = seen.manager(("a", ScriptedModel(then=fault)))
    with pytest.raises(e.LLMError):
        llm.generate(SECRET)
    error_types = {p[0].get("error.type") for p in seen.points("gen_ai.client.operation.duration")}
    error_types |= {p[0].get("error.type") for p in seen.points("agentkit.generate.duration")}
    error_types |= {attributes(span).get("error.type") for span in seen.spans}
    assert error_types == {kind}
    assert kind in names.ERROR_TYPES
    assert SECRET not in seen.everything()


def test_every_error_of_the_tree_has_a_listed_type() -> None:
    pending: list[type[e.LLMError]] = [e.LLMError]
    while pending:
        kind = pending.pop()
        if kind.__module__ == e.__name__:
            assert kind.error_type in names.ERROR_TYPES, kind
            pending += kind.__subclasses__()


def test_labels_do_not_grow_with_what_is_asked(seen: Observed) -> None:
    llm = seen.manager(("a", ScriptedModel(then=ANSWER)))
    llm.generate("first")
    before = {name: len(seen.points(name)) for name in seen.metrics()}
    for number in range(20):
        llm.generate(f"{SECRET} {number}", user=SECRET, session=number)
    assert {name: len(seen.points(name)) for name in seen.metrics()} == before
    assert seen.one("gen_ai.client.operation.duration")[1][0] == 21


def test_active_requests_return_to_zero(seen: Observed) -> None:
    during: list[Any] = []

    def model(prompt: str, options: dict[str, Any]) -> str:
        during.append(seen.one("agentkit.generate.active")[1])
        if prompt == "fail":
            raise ConnectionError
        return "fine"

    async def cancel() -> None:
        task = asyncio.ensure_future(llm.agenerate("hi", use_cache=False))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    llm = seen.manager(("a", model))
    llm.generate("hi")
    with pytest.raises(e.NetworkError):
        llm.generate("fail")
    asyncio.run(cancel())
    assert set(during) == {1}
    assert seen.one("agentkit.generate.active") == ({"agentkit.manager.name": "default"}, 0)


def test_a_stream_that_is_never_read_is_not_active(seen: Observed) -> None:
    seen.manager(("a", ScriptedModel("fine"))).stream("hi").close()
    assert seen.one("agentkit.generate.active")[1] == 0


def states(seen: Observed) -> dict[tuple[str, str], int]:
    return {(p[0]["agentkit.manager.name"], p[0][STATE]): p[1] for p in seen.points(STATE)}


def test_a_breaker_is_one_series_a_state(seen: Observed) -> None:
    llm = seen.manager(
        ("a", ScriptedModel(overloaded())), breaker=BreakerPolicy(failure_threshold=1)
    )
    assert [states(seen)["default", each] for each in names.BREAKER_STATES] == [1, 0, 0]
    with pytest.raises(e.OverloadedError):
        llm.generate("hi")
    assert [states(seen)["default", each] for each in names.BREAKER_STATES] == [0, 1, 0]
    assert seen.one("agentkit.circuit_breaker.failure_rate")[1] == 1.0


def test_a_breaker_has_one_name_in_all_metrics(seen: Observed) -> None:
    seen.manager(("a", ScriptedModel("fine")))
    assert {p[0]["agentkit.circuit_breaker.name"] for p in seen.points(STATE)} == {"p-a/a"}


def test_breakers_go_with_their_manager(seen: Observed) -> None:
    seen.manager(("a", ScriptedModel("fine")), name="stays")
    seen.manager(("a", ScriptedModel("fine")), name="goes")
    assert {manager for manager, _ in states(seen)} == {"stays", "goes"}
    seen.managers.pop().close()
    gc.collect()
    assert {manager for manager, _ in states(seen)} == {"stays"}


def test_managers_share_the_instruments_of_a_provider(
    seen: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    profiles: tuple[Any, ...] = ("v1.41", "v1.41", "next", "both")
    for number, profile in enumerate(profiles):
        telemetry = Telemetry(
            tracer_provider=seen.tracers, meter_provider=seen.meters, profile=profile
        )
        model = ("a", ScriptedModel("fine"))
        seen.manager(model, name=f"m{number}", telemetry=telemetry).generate("hi")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert {manager for manager, _ in states(seen)} == {"m0", "m1", "m2", "m3"}
    assert len(seen.points("agentkit.generate.duration")) == 4


@pytest.mark.promise("S2-40", "S3-35", "S3-41")
def test_cost_is_counted_where_a_price_is_known(seen: Observed) -> None:
    llm = seen.manager(("a", ScriptedModel(then=ANSWER)), ("b", ScriptedModel(then=ANSWER)))
    llm.register_model(
        "a",
        ScriptedModel(then=ANSWER),
        {"provider": "p-a", "cost_per_1k_tokens": 0.5},
        replace=True,
    )
    llm.generate("hi")
    llm.complete("hi", model="b")
    labels, price = seen.one("agentkit.cost")
    assert labels == OF_A | {"agentkit.cost.estimated": True}, "no rate for tokens of a cache"
    assert price == pytest.approx(10 * 0.5 / 1000)
    assert seen.metrics()["agentkit.cost"].unit == "{USD}"


def test_strings_are_those_of_the_installed_conventions() -> None:
    known = {
        value
        for module in (gen_ai_attributes, gen_ai_metrics, error_attributes, exception_attributes)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    }
    newer = {
        names.TOKEN_MODALITY,
        names.NEW_CACHE_WRITE_TOKENS,
        names.DETAILS,
        names.NEW_DURATION.name,
        names.NEW_FIRST_CHUNK.name,
        names.INPUT_PER_CALL.name,
        names.OUTPUT_PER_CALL.name,
        names.INVOKE_AGENT_DURATION.name,
        names.EXECUTE_TOOL_DURATION.name,
        *(each.name for each in names.USAGE_COUNTERS.values()),
    }
    ours = [each for each in vars(names).values() if isinstance(each, str)]
    ours += [each.name for each in vars(names).values() if isinstance(each, names.Metric)]
    ours += names.NUMBERS.values()
    standard = {each for each in ours if each.startswith(("gen_ai.", "error.", "exception."))}
    assert len(standard) > 30
    assert standard - newer <= known
    assert not newer & known, "what the installed package has by now is to be compared with it"


def test_a_request_that_bypasses_the_cache_is_counted_as_such(seen: Observed) -> None:
    llm = seen.manager(("a", ScriptedModel(then=ANSWER)), cache="memory")
    llm.generate("hi")
    llm.generate("hi", use_cache=False)
    counted = {p[0]["agentkit.cache.result"]: p[1] for p in seen.points("agentkit.cache.requests")}
    assert counted == {"miss": 1, "bypass": 1}
