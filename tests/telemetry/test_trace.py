"""One request is one INTERNAL span over one CLIENT span an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode

from agentkit import errors as e
from agentkit.policy.breaker import BreakerPolicy
from agentkit.policy.retry import RetryPolicy
from agentkit.providers.registry import PROVIDERS_BY_KEY
from agentkit.telemetry import names
from agentkit.telemetry.otel import Telemetry
from agentkit.testing import ScriptedModel, overloaded, rate_limited, timeout, unauthorized
from agentkit.types import Request, Response, Usage
from tests.helpers import Ask, agenerate, astream, each_way, generate, stream
from tests.telemetry.observing import Observed, attributes, event, events, id_of, parent_of

ANSWER: Response[Any] = Response(
    "fine", Usage(7, 3, 2, 1, 1), finish_reason="stop", response_id="r-1"
)


@pytest.mark.promise("S4-44")
@each_way
def test_a_recovered_request_reads_as_the_documented_tree(seen: Observed, ask: Ask) -> None:
    first = ScriptedModel(rate_limited(), timeout())
    llm = seen.manager(("a", first), ("b", ScriptedModel(ANSWER)), name="main")
    assert ask(llm) == "fine"

    wrapper = seen.wrapper
    assert (wrapper.name, wrapper.kind) == ("agentkit.generate main", SpanKind.INTERNAL)
    assert wrapper.status.status_code is StatusCode.UNSET
    assert wrapper.parent is None
    assert attributes(wrapper) == {
        "agentkit.manager.name": "main",
        "agentkit.route.models": ("a", "b"),
        "agentkit.outcome": "fallback_success",
        "agentkit.attempts": 3,
        "agentkit.selected.model": "b",
        "agentkit.selected.provider": "p-b",
    }
    spans = seen.attempts
    assert [span.name for span in spans] == ["chat a", "chat a", "chat b"]
    assert {span.kind for span in spans} == {SpanKind.CLIENT}
    assert {parent_of(span) for span in spans} == {id_of(wrapper)}
    recorded = [attributes(span) for span in spans]
    assert [each.get("error.type") for each in recorded] == ["429", "timeout", None]
    assert [each["agentkit.attempt.number"] for each in recorded] == [1, 2, 1]
    assert [each["agentkit.route.index"] for each in recorded] == [0, 0, 1]
    assert [span.status.status_code for span in spans] == [
        StatusCode.ERROR,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    assert all(span.status.description is None for span in spans)
    assert len(seen.spans) == 4


@pytest.mark.parametrize("ask", [generate, agenerate])
def test_an_attempt_says_what_the_conventions_ask(seen: Observed, ask: Ask) -> None:
    llm = seen.manager(("a", ScriptedModel(ANSWER)))
    ask(llm, temperature=0.5, max_tokens=9, top_p=1, seed=4, logit_bias={"x": 1}, top_k=True)
    (span,) = seen.attempts
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "p-a",
        "gen_ai.request.model": "a",
        "agentkit.model": "a",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.top_p": 1,
        "gen_ai.request.seed": 4,
        "gen_ai.response.id": "r-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.cache_creation.input_tokens": 1,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "agentkit.attempt.number": 1,
        "agentkit.attempt.outcome": "success",
        "agentkit.route.index": 0,
    }
    assert not [key for key in attributes(seen.wrapper) if key.startswith("gen_ai.")]


@pytest.mark.parametrize("ask", [stream, astream])
def test_a_stream_says_so_and_when_it_began_to_speak(seen: Observed, ask: Ask) -> None:
    model = ScriptedModel([(1.5, "one"), (2.0, " two")], clock=seen.clock)
    llm = seen.manager(("a", model.as_stream()))
    with pytest.raises(e.StreamInterruptedError):
        ask(llm)
    (span,) = seen.attempts
    recorded = attributes(span)
    assert recorded["gen_ai.request.stream"] is True
    assert recorded["gen_ai.response.time_to_first_chunk"] == 1.5
    assert recorded["error.type"] == "invalid_response"
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(seen.wrapper)["agentkit.outcome"] == "error"


@each_way
def test_retry_and_fallback_are_events_of_the_request(seen: Observed, ask: Ask) -> None:
    llm = seen.manager(
        ("a", ScriptedModel(overloaded(), rate_limited(retry_after=2.0), overloaded())),
        ("b", ScriptedModel("fine")),
        retry=RetryPolicy(max_attempts=3, jitter=0.0),
    )
    ask(llm)
    retried = {"agentkit.model": "a"}
    assert events(seen.wrapper) == [
        (
            "agentkit.retry.scheduled",
            retried
            | {
                "agentkit.attempt.number": 2,
                "agentkit.retry.delay": 1.0,
                "error.type": "529",
                "agentkit.retry.reason": "backoff",
            },
        ),
        (
            "agentkit.retry.scheduled",
            retried
            | {
                "agentkit.attempt.number": 3,
                "agentkit.retry.delay": 2.0,
                "error.type": "429",
                "agentkit.retry.reason": "retry_after",
            },
        ),
        (
            "agentkit.fallback",
            {
                "agentkit.fallback.from": "a",
                "agentkit.fallback.to": "b",
                "agentkit.fallback.reason": "retries_exhausted",
            },
        ),
    ]


@each_way
def test_a_breaker_that_opens_and_then_rejects_is_reported(seen: Observed, ask: Ask) -> None:
    llm = seen.manager(
        ("a", ScriptedModel(overloaded())),
        ("b", ScriptedModel(then="fine")),
        breaker=BreakerPolicy(failure_threshold=1),
    )
    ask(llm)
    ask(llm)
    opened, refused = seen.named("agentkit.generate")
    assert event(opened, "agentkit.circuit_breaker.state_change") == {
        "agentkit.circuit_breaker.name": "p-a/a",
        "agentkit.circuit_breaker.previous_state": "closed",
        "agentkit.circuit_breaker.state": "open",
    }
    assert events(refused) == [
        ("agentkit.circuit_breaker.rejected", {"agentkit.circuit_breaker.name": "p-a/a"}),
        (
            "agentkit.fallback",
            {
                "agentkit.fallback.from": "a",
                "agentkit.fallback.to": "b",
                "agentkit.fallback.reason": "circuit_open",
            },
        ),
    ]
    assert attributes(refused)["agentkit.attempts"] == 1
    assert [span.name for span in seen.attempts] == ["chat a", "chat b", "chat b"]


@each_way
def test_a_probe_that_closes_the_breaker_is_reported(seen: Observed, ask: Ask) -> None:
    llm = seen.manager(
        ("a", ScriptedModel(overloaded(), "fine")), breaker=BreakerPolicy(failure_threshold=1)
    )
    with pytest.raises(e.OverloadedError):
        ask(llm)
    seen.clock.advance(61.0)
    assert ask(llm) == "fine"
    moved = event(seen.named("agentkit.generate")[1], "agentkit.circuit_breaker.state_change")
    assert moved["agentkit.circuit_breaker.previous_state"] == "half_open"
    assert moved["agentkit.circuit_breaker.state"] == "closed"


@each_way
def test_a_hit_of_the_response_cache_is_a_request_without_attempts(
    seen: Observed, ask: Ask
) -> None:
    llm = seen.manager(("a", ScriptedModel(ANSWER)), cache="memory")
    assert ask(llm) == ask(llm) == "fine"
    missed, hit = seen.named("agentkit.generate")
    assert event(missed, "agentkit.cache")["agentkit.cache.result"] == "miss"
    assert attributes(missed)["agentkit.cache.result"] == "miss"
    assert events(hit) == [
        ("agentkit.cache", {"agentkit.model": "a", "agentkit.cache.result": "hit"})
    ]
    recorded = attributes(hit)
    assert recorded["agentkit.outcome"] == "cache_hit"
    assert recorded["agentkit.cache.result"] == "hit"
    assert recorded["agentkit.attempts"] == 0
    assert not [key for key in recorded if "gen_ai" in key or "token" in key]
    assert len(seen.attempts) == 1


def test_a_request_that_goes_past_the_response_cache_says_so(seen: Observed) -> None:
    llm = seen.manager(("a", ScriptedModel(ANSWER)), cache="memory")
    llm.generate("hi", use_cache=False)
    assert attributes(seen.wrapper)["agentkit.cache.result"] == "bypass"


@each_way
def test_when_all_failed_the_request_is_the_error(seen: Observed, ask: Ask) -> None:
    llm = seen.manager(
        ("a", ScriptedModel(unauthorized())), ("b", ScriptedModel(then=overloaded()))
    )
    with pytest.raises(e.AllModelsFailedError):
        ask(llm)
    assert seen.wrapper.status.status_code is StatusCode.ERROR
    recorded = attributes(seen.wrapper)
    assert (recorded["agentkit.outcome"], recorded["error.type"]) == ("error", "all_models_failed")
    assert "agentkit.selected.model" not in recorded
    kinds = [attributes(span)["error.type"] for span in seen.attempts]
    assert kinds == ["401", "529", "529"]
    assert event(seen.wrapper, "exception") == {"exception.type": "AllModelsFailedError"}
    assert [event(span, "exception")["exception.type"] for span in seen.attempts] == [
        "AuthenticationError",
        "OverloadedError",
        "OverloadedError",
    ]


def test_a_cancelled_request_is_not_an_error(seen: Observed) -> None:
    async def main() -> None:
        entered = asyncio.Event()

        async def model(prompt: str, options: dict[str, Any]) -> str:
            entered.set()
            await asyncio.Event().wait()
            return "never"

        task = asyncio.ensure_future(seen.manager(("a", model)).agenerate("hi"))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (attempt,) = seen.attempts
    assert attributes(seen.wrapper)["agentkit.outcome"] == "cancelled"
    assert attributes(attempt)["agentkit.attempt.outcome"] == "abandoned"
    assert attributes(attempt)["agentkit.attempt.reason"] == "cancelled"
    for span in seen.spans:
        assert span.status.status_code is StatusCode.UNSET
        assert "error.type" not in attributes(span)
        assert not [name for name, _ in events(span)]


def leave(llm: Any) -> None:
    with llm.stream("hi") as pieces:
        assert next(pieces) == "one"


def aleave(llm: Any) -> None:
    async def main() -> None:
        async with llm.astream("hi") as pieces:
            assert await anext(pieces) == "one"

    asyncio.run(main())


@pytest.mark.parametrize("read", [leave, aleave])
def test_a_stream_left_early_is_aborted_not_failed(
    seen: Observed, read: Callable[[Any], None]
) -> None:
    read(seen.manager(("a", ScriptedModel("one two three").as_stream())))
    (attempt,) = seen.attempts
    assert attributes(attempt)["agentkit.stream.aborted"] is True
    assert attributes(attempt)["agentkit.attempt.outcome"] == "abandoned"
    assert attributes(seen.wrapper)["agentkit.outcome"] == "cancelled"
    assert {span.status.status_code for span in seen.spans} == {StatusCode.UNSET}


def test_a_span_above_is_the_parent_of_the_request(seen: Observed) -> None:
    llm = seen.manager(("a", ScriptedModel("fine")))
    with seen.tracers.get_tracer("mine").start_as_current_span("above") as above:
        llm.generate("hi")
    assert parent_of(seen.wrapper) == above.get_span_context().span_id


class Named:
    """A provider that calls its model by another name than the one it is registered under."""

    provider = "google"
    model = "gemini-x"

    def send(self, request: Request) -> Response[Any]:
        return replace(ANSWER, model_id="gemini-x-001")


@pytest.mark.parametrize("ask", [generate, agenerate])
def test_a_model_has_its_providers_name_and_the_registered_one(seen: Observed, ask: Ask) -> None:
    llm = seen.manager()
    llm.register_model("smart", Named())
    ask(llm)
    (span,) = seen.attempts
    recorded = attributes(span)
    assert span.name == "chat gemini-x"
    assert recorded["gen_ai.request.model"] == "gemini-x"
    assert recorded["gen_ai.response.model"] == "gemini-x-001"
    assert recorded["gen_ai.provider.name"] == "gcp.gemini"
    assert recorded["agentkit.model"] == "smart"
    assert attributes(seen.wrapper)["agentkit.selected.model"] == "smart"
    (labels, _), *_ = seen.points("gen_ai.client.operation.duration")
    assert labels["gen_ai.request.model"] == "gemini-x"
    assert labels["agentkit.model"] == "smart"
    assert "gen_ai.response.model" not in labels, "a server could mint series"
    assert llm.get_model_info("smart")["stats"]["requests"] == 1


def test_the_cost_is_on_the_spans(seen: Observed) -> None:
    llm = seen.manager()
    llm.register_model("a", ScriptedModel(overloaded(), ANSWER), {"cost_per_1k_tokens": 1.0})
    llm.set_prices({})
    generate(llm)
    failed, answered = (attributes(each) for each in seen.attempts)
    assert (failed["agentkit.cost.usd"], failed["agentkit.cost.estimated"]) == (0.0, False)
    assert answered["agentkit.cost.usd"] == pytest.approx(0.01)
    assert attributes(seen.wrapper)["agentkit.request.cost.usd"] == pytest.approx(0.01)


def test_the_tokens_of_a_refusal_are_on_its_span_and_counted(seen: Observed) -> None:
    refusal = e.ContentFilterError("a declined")
    refusal.usage = Usage(7, 3)
    llm = seen.manager(("a", ScriptedModel(refusal)))
    with pytest.raises(e.ContentFilterError):
        generate(llm)
    (span,) = seen.attempts
    assert attributes(span)["gen_ai.usage.input_tokens"] == 7
    assert attributes(span)["gen_ai.usage.output_tokens"] == 3
    counted = seen.points("gen_ai.client.token.usage")
    assert sorted(value for _, value in counted) == [(1, 3), (1, 7)]


def test_provider_names_are_those_of_the_conventions() -> None:
    listed = getattr(gen_ai_attributes, "GenAiProviderNameValues", None)
    if listed is None:
        pytest.skip("this release of the conventions lists no providers")
    known = {each.value for each in listed}
    assert set(names.PROVIDERS.values()) <= known
    assert {names.provider_name(each) for each in PROVIDERS_BY_KEY} <= known


def of_attempts() -> Observed:
    return Observed(spans="attempt")


@each_way
def test_one_attempt_may_be_one_span(ask: Ask) -> None:
    seen = of_attempts()
    assert ask(seen.manager(("a", ScriptedModel(ANSWER)), name="main")) == "fine"
    (span,) = seen.spans
    assert (span.name, span.kind, span.parent) == ("chat a", SpanKind.CLIENT, None)
    assert attributes(span)["agentkit.manager.name"] == "main"
    assert attributes(span)["agentkit.attempt.outcome"] == "success"
    seen.close()


@each_way
def test_more_than_one_attempt_has_the_span_of_its_request(ask: Ask) -> None:
    seen = of_attempts()
    llm = seen.manager(("a", ScriptedModel(then=overloaded())), ("b", ScriptedModel(ANSWER)))
    assert ask(llm) == "fine"
    wrapper, (first, *others) = seen.wrapper, seen.attempts
    assert first.parent is None
    assert [link.context.span_id for link in wrapper.links] == [id_of(first)]
    assert {parent_of(span) for span in others} == {id_of(wrapper)}
    assert wrapper.start_time is not None
    assert first.start_time is not None
    assert wrapper.start_time <= first.start_time
    assert attributes(wrapper)["agentkit.attempts"] == 3
    assert attributes(wrapper)["agentkit.outcome"] == "fallback_success"
    names_of_events = [name for name, _ in events(wrapper)]
    assert names_of_events == ["agentkit.retry.scheduled", "agentkit.fallback"]
    seen.close()


@each_way
def test_a_request_that_sent_nothing_has_a_span_of_its_own(ask: Ask) -> None:
    seen = of_attempts()
    llm = seen.manager(("a", ScriptedModel(ANSWER)), cache="memory")
    assert [ask(llm), ask(llm)] == ["fine", "fine"]
    assert [span.name for span in seen.spans][:1] == ["chat a"]
    assert attributes(seen.wrapper)["agentkit.outcome"] == "cache_hit"
    seen.close()


def test_spans_are_of_requests_or_attempts() -> None:
    with pytest.raises(e.ConfigurationError, match="spans='none'"):
        Telemetry(spans="none")  # type: ignore[arg-type]
