"""Blocking or async, function or stream: the same outage, the same story."""

from __future__ import annotations

import asyncio

import pytest

from agentkit import (
    AllModelsFailedError,
    AuthenticationError,
    CircuitOpenError,
    ContentFilterError,
    DeadlineExceededError,
    InvalidRequestError,
    LLMManager,
    NetworkError,
    OverloadedError,
    ProviderError,
    ProviderTimeoutError,
    Response,
    RetryPolicy,
    StreamInterruptedError,
    StructuredOutputError,
)
from agentkit.testing import (
    ScriptedModel,
    faults,
    overloaded,
    rate_limited,
    server_error,
    timeout,
    unauthorized,
)
from agentkit.types import End, Restart, TextDelta
from tests.engine.drivers.scenarios import (
    BREAKER_OF_TWO,
    EMPTY_BUDGET,
    ONCE,
    SHAPES,
    Ask,
    Scenario,
    Shape,
    acomplete,
    astream,
    complete,
    live,
    shaped,
    stream,
)

DOWN = ConnectionError("down")

COMPLETE = [
    Scenario("a healthy model", {"a": ["Paris."]}, "Paris.", {"a": 1}),
    Scenario(
        "a model without any deadline", {"a": ["Paris."]}, "Paris.", {"a": 1},
        manager={"deadline": None},
    ),
    Scenario("a response object", {"a": [Response("Paris.")]}, "Paris.", {"a": 1}),
    Scenario(
        "options reach the model", {"a": ["Paris."]}, "Paris.", {"a": 1},
        request={"temperature": 0.0, "max_tokens": 5},
    ),
    Scenario(
        "messages reach it as one text", {"a": ["Paris."]}, "Paris.", {"a": 1},
        prompt=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    ),
    Scenario(
        "a hiccup", {"a": [DOWN, "Paris."]}, "Paris.", {"a": 2}, sleeps=(1.0,),
    ),
    Scenario(
        "a model that cancels itself", {"a": [asyncio.CancelledError(), "Paris."]}, "Paris.",
        {"a": 2}, sleeps=(1.0,),
    ),
    Scenario(
        "a model that cancels itself each time",
        {"a": [asyncio.CancelledError()] * 3, "b": ["Paris."]}, "Paris.", {"a": 3, "b": 1},
        sleeps=(1.0, 2.0),
    ),
    Scenario(
        "every attempt fails", {"a": [overloaded()] * 3}, OverloadedError, {"a": 3},
        sleeps=(1.0, 2.0),
    ),
    Scenario(
        "five attempts", {"a": [server_error()] * 4 + ["at last"]}, "at last", {"a": 5},
        manager={"max_retries": 5, "retry": None}, sleeps=(1.0, 2.0, 4.0, 8.0),
    ),
    Scenario(
        "the fallback answers", {"a": [server_error()] * 3, "b": ["Paris."]}, "Paris.",
        {"a": 3, "b": 1}, sleeps=(1.0, 2.0),
    ),
    Scenario(
        "a timeout moves on immediately", {"a": [timeout()], "b": ["Paris."]}, "Paris.",
        {"a": 1, "b": 1},
    ),
    Scenario(
        "a wrong key moves on immediately", {"a": [unauthorized()], "b": ["Paris."]}, "Paris.",
        {"a": 1, "b": 1},
    ),
    Scenario("a wrong key alone", {"a": [unauthorized()]}, AuthenticationError, {"a": 1}),
    Scenario(
        "an invalid request ends it", {"a": [faults.status(400)], "b": ["never"]},
        InvalidRequestError, {"a": 1, "b": 0},
    ),
    Scenario(
        "an invalid request may change providers", {"a": [faults.status(400)], "b": ["Paris."]},
        "Paris.", {"a": 1, "b": 1}, manager={"fallback_on_invalid": True},
        register={"a": {"metadata": {"provider": "x"}}, "b": {"metadata": {"provider": "y"}}},
    ),
    Scenario(
        "a refusal by policy ends it", {"a": [faults.status(400, kind="content_filter")]},
        ContentFilterError, {"a": 1},
    ),
    Scenario(
        "a short Retry-After is kept", {"a": [rate_limited(retry_after=2), "Paris."]}, "Paris.",
        {"a": 2}, sleeps=(2.25,), manager={"retry": RetryPolicy()},
    ),
    Scenario(
        "a long one moves on", {"a": [rate_limited(retry_after=60)], "b": ["Paris."]}, "Paris.",
        {"a": 1, "b": 1},
    ),
    Scenario(
        "and is remembered", {"a": [rate_limited(retry_after=60)], "b": ["one", "two"]}, "two",
        {"a": 1, "b": 2}, times=2,
    ),
    Scenario(
        "all are throttled", {"a": [rate_limited(retry_after=9)], "b": [rate_limited()] * 3},
        AllModelsFailedError, {"a": 1, "b": 3}, sleeps=(1.0, 2.0),
    ),
    Scenario(
        "a bug in the callable moves on", {"a": [TypeError("bug")], "b": ["Paris."]}, "Paris.",
        {"a": 1, "b": 1},
    ),
    Scenario(
        "a breaker opens and ends the loop", {"a": [DOWN, DOWN]}, NetworkError, {"a": 2},
        manager={"breaker": BREAKER_OF_TWO}, sleeps=(1.0,),
    ),
    Scenario(
        "an open breaker sends nothing", {"a": [DOWN, DOWN]}, CircuitOpenError, {"a": 2},
        manager={"breaker": BREAKER_OF_TWO}, times=2, sleeps=(1.0,),
    ),
    Scenario(
        "an open breaker makes way", {"a": [DOWN, DOWN], "b": ["one", "two"]}, "two",
        {"a": 2, "b": 2}, manager={"breaker": BREAKER_OF_TWO}, times=2, sleeps=(1.0,),
    ),
    Scenario(
        "an empty retry budget", {"a": [DOWN], "b": ["Paris."]}, "Paris.", {"a": 1, "b": 1},
        manager={"retry": EMPTY_BUDGET},
    ),
    Scenario(
        "a wait that does not fit", {"a": [DOWN]}, DeadlineExceededError, {"a": 1},
        request={"deadline": 0.5},
    ),
    Scenario(
        "a name that is not registered", {"b": ["Paris."]}, "Paris.", {"b": 1},
        chain=("ghost", "b"),
    ),
    Scenario(
        "retry_on a type", {"a": [ValueError("flaky"), "Paris."]}, "Paris.", {"a": 2},
        register={"*": {"retry_on": (ValueError,)}}, sleeps=(1.0,),
    ),
    Scenario(
        "one model by name", {"a": ["never"], "b": ["Paris."]}, "Paris.", {"a": 0, "b": 1},
        request={"model": "b"},
    ),
    Scenario(
        "asked twice, answered once", {"a": ["Paris."]}, "Paris.", {"a": 1},
        manager={"enable_caching": True, "cache": "memory"}, times=2,
    ),
    Scenario(
        "use_cache=False asks twice", {"a": ["one", "two"]}, "two", {"a": 2},
        manager={"enable_caching": True, "cache": "memory"}, times=2,
        request={"use_cache": False},
    ),
    Scenario(
        "a failure is not kept", {"a": [unauthorized(), "Paris."]}, "Paris.", {"a": 2},
        manager={"enable_caching": True, "cache": "memory"}, times=2,
    ),
    Scenario(
        "tools pass a plain callable", {"a": ["never"]}, AllModelsFailedError, {"a": 0},
        chain=("a", "ghost"), request={"tools": [{"name": "t"}]},
        only=("function", "coroutine function"),
    ),
    Scenario(
        "silence times out and moves on", {"a": [faults.silence()], "b": ["Paris."]}, "Paris.",
        {"a": 1, "b": 1}, register={"a": {"timeout": 0.05}},
    ),
    Scenario(
        "the deadline ends silence", {"a": [faults.silence()], "b": ["never"]},
        DeadlineExceededError, {"a": 1, "b": 0}, register={"a": {"timeout": 10.0}},
        request={"deadline": 0.05},
    ),
    Scenario(
        "silence alone", {"a": [faults.silence()]}, ProviderTimeoutError, {"a": 1},
        register={"a": {"timeout": 0.05, "retry": ONCE}},
    ),
]  # fmt: skip

STRUCTURED = [
    Scenario(
        "an answer of a type", {"a": ["[1, 2]"]}, "[1, 2]", {"a": 1},
        request={"response_model": list[int]},
    ),
    Scenario(
        "asked again with the violations", {"a": ['["x"]', "[1]"]}, "[1]", {"a": 2},
        request={"response_model": list[int]},
    ),
    Scenario(
        "never in shape", {"a": ["no"] * 3}, StructuredOutputError, {"a": 3},
        request={"response_model": list[int]},
    ),
]  # fmt: skip

CUT = faults.cut_stream(1, reply="Paris is it.")
STREAMED = [
    Scenario(
        "a stream that breaks", {"a": [CUT], "b": ["never"]}, StreamInterruptedError,
        {"a": 1, "b": 0}, only=("stream",),
    ),
    Scenario(
        "one that starts again", {"a": [CUT], "b": ["Paris."]}, "Paris.", {"a": 1, "b": 1},
        request={"on_interrupt": "restart"}, only=("stream",),
    ),
    Scenario(
        "one that continues", {"a": [CUT], "b": [" is it."]}, "Paris is it.", {"a": 1, "b": 1},
        request={"on_interrupt": "continue"}, only=("stream",),
    ),
    Scenario(
        "one without its end mark", {"a": [faults.missing_end()]}, StreamInterruptedError,
        {"a": 1}, only=("stream",),
    ),
    Scenario(
        "one that stalls", {"a": [faults.stalled_stream(1)]}, StreamInterruptedError, {"a": 1},
        register={"a": {"timeout": 0.05}}, only=("stream",),
    ),
    Scenario(
        "a malformed chunk before content", {"a": [faults.malformed_chunk(0), "Paris."]}, "Paris.",
        {"a": 2}, sleeps=(1.0,), only=("stream",),
    ),
    Scenario(
        "no first token in time", {"a": [faults.silence()], "b": ["Paris."]}, "Paris.",
        {"a": 1, "b": 1}, register={"a": {"first_token_timeout": 0.05}}, only=("stream",),
    ),
]  # fmt: skip


def cases(scenarios: list[Scenario]) -> list[object]:
    return [
        pytest.param(scenario, shape, id=f"{scenario.name}, {shape}")
        for scenario in scenarios
        for shape in SHAPES
        if shape in scenario.only
    ]


UNREGISTERED = pytest.mark.filterwarnings("ignore:fallback chain")
"""Some scenarios name models that are not registered."""


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "agentkit")


@pytest.mark.promise(
    "A3",
    "A4",
    "A9",
    "A18",
    "S2-32",
    "S2-33",
    "S2-34",
    "S2-36",
    "S3-06",
    "S3-23",
    "S3-24",
    "S3-25",
    "S4-46",
    "S4-48",
)
@UNREGISTERED
@pytest.mark.parametrize(("scenario", "shape"), cases(COMPLETE + STRUCTURED))
def test_a_whole_answer_is_the_same_story_in_both_colours(scenario: Scenario, shape: Shape) -> None:
    blocking = live(scenario, shape, complete)
    assert blocking.result == scenario.result
    assert {name: len(calls) for name, calls in blocking.calls.items()} == scenario.asked
    assert blocking == live(scenario, shape, acomplete)
    if not scenario.manager.get("enable_caching"):
        assert blocking.sleeps == scenario.sleeps


@UNREGISTERED
@pytest.mark.parametrize(("scenario", "shape"), cases(COMPLETE + STREAMED))
def test_a_stream_behaves_alike_in_sync_and_async_code(scenario: Scenario, shape: Shape) -> None:
    blocking = live(scenario, shape, stream)
    assert blocking.result == scenario.result
    assert {name: len(calls) for name, calls in blocking.calls.items()} == scenario.asked
    assert blocking == live(scenario, shape, astream)


@UNREGISTERED
@pytest.mark.parametrize("scenario", COMPLETE, ids=lambda scenario: scenario.name)
def test_the_shape_of_a_model_changes_nothing_but_its_pieces(scenario: Scenario) -> None:
    first, *others = (live(scenario, shape, complete) for shape in scenario.only)
    for other in others:
        assert other == first


@pytest.mark.parametrize("ask", [stream, astream], ids=lambda ask: ask.__name__)
def test_a_restart_event_separates_the_two_beginnings(ask: Ask) -> None:
    account = live(STREAMED[1], "stream", ask)
    assert account.events == (
        TextDelta("Paris"), Restart("b", "Paris", "StreamInterruptedError"), TextDelta("Paris."),
        End(None, account.events[-1].usage),  # type: ignore[union-attr]
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "ask", [complete, acomplete, stream, astream], ids=lambda ask: ask.__name__
)
def test_a_foreign_exception_stays_as_the_cause(ask: Ask, shape: Shape) -> None:
    trouble = RuntimeError("odd")
    scenario = Scenario("odd", {}, ProviderError, {})
    with LLMManager(1, enable_caching=False) as manager:
        manager.register_model("a", shaped(ScriptedModel(trouble), shape))
        manager.set_active_model("a")
        with pytest.raises(ProviderError) as caught:
            ask(manager, scenario, [])
    assert caught.value.__cause__ is trouble
