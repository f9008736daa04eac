"""User code around requests and attempts, and answers that must have a shape."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from agentkit import errors as e
from agentkit.engine.exchange import StreamExchange
from agentkit.engine.middleware import Middleware
from agentkit.output.validation import check_for
from agentkit.policy.breaker import BreakerPolicy
from agentkit.policy.retry import RetryPolicy
from agentkit.testing import faults
from agentkit.types import End, Request, Response, TextDelta, Usage
from tests.engine.stage import Asked, Stage

pytestmark = pytest.mark.flows

Layer: TypeAlias = Generator[Request, Response[Any], Response[Any]]
DOWN = ConnectionError("down")


def at(level: str, layer: Callable[[Request], Layer]) -> Callable[[Request], Layer]:
    layer.level = level  # type: ignore[attr-defined]
    return layer


both_levels = pytest.mark.parametrize("level", ["request", "attempt"])


@both_levels
def test_it_may_change_the_request_and_the_response(level: str) -> None:
    def shout(request: Request) -> Layer:
        response = yield replace(request, prompt="HI")
        return replace(response, text=response.text.upper())

    asked = Stage().ask(Stage().target(), script={"a": "fine"}, middleware=[at(level, shout)])
    assert asked.text == "FINE"
    assert [request.prompt for _, request in asked.played.requests] == ["HI"]


@both_levels
def test_it_may_answer_itself(level: str) -> None:
    def own(request: Request) -> Layer:
        if request.prompt != "hi":
            yield request
        return Response("mine")

    asked = Stage().ask(Stage().target(), script={}, middleware=[at(level, own)])
    assert asked.text == "mine"
    assert asked.order == []
    assert asked.played.value().ledger is asked.ledger


@both_levels
def test_it_may_ask_again(level: str) -> None:
    def twice(request: Request) -> Layer:
        first = yield request
        second = yield replace(request, prompt=f"better than {first.text}?")
        return second

    asked = Stage().ask(
        Stage().target(), script={"a": ["one", "two"]}, middleware=[at(level, twice)]
    )
    assert asked.text == "two"
    assert [request.prompt for _, request in asked.played.requests] == ["hi", "better than one?"]


@both_levels
def test_the_first_one_is_outermost(level: str) -> None:
    seen = []

    def named(name: str) -> Callable[[Request], Layer]:
        def layer(request: Request) -> Layer:
            seen.append(f"{name} in")
            response = yield request
            seen.append(f"{name} out")
            return response

        return at(level, layer)

    Stage().ask(Stage().target(), script={"a": "x"}, middleware=[named("outer"), named("inner")])
    assert seen == ["outer in", "inner in", "inner out", "outer out"]


def test_a_request_layer_runs_once_and_an_attempt_layer_for_each_attempt() -> None:
    runs = {"request": 0, "attempt": 0}

    def counting(level: str) -> Callable[[Request], Layer]:
        def layer(request: Request) -> Layer:
            runs[level] += 1
            return (yield request)

        return at(level, layer)

    stage = Stage()
    stage.ask(
        stage.target("a"),
        stage.target("b"),
        script={"a": [DOWN] * 3, "b": ["fine"]},
        middleware=[counting("request"), counting("attempt")],
    )
    assert runs == {"request": 1, "attempt": 4}


def test_a_request_layer_may_catch_the_failure_and_ask_again() -> None:
    def stubborn(request: Request) -> Layer:
        try:
            return (yield request)
        except e.NetworkError:
            return (yield request)

    asked = Stage().ask(
        Stage().target(), script={"a": [*[DOWN] * 3, "fine"]}, middleware=[stubborn]
    )
    assert asked.text == "fine"
    assert len(asked.ledger.sent) == 4


def test_asking_again_starts_at_the_top_of_the_route() -> None:
    def twice(request: Request) -> Layer:
        yield request
        return (yield request)

    stage = Stage()
    asked = stage.ask(
        stage.target("a"),
        stage.target("b"),
        script={"a": [ValueError(), "first again"], "b": ["fallback"]},
        middleware=[twice],
    )
    assert asked.order == ["a", "b", "a"]
    assert asked.text == "first again"


def test_asking_again_keeps_the_deadline() -> None:
    def forever(request: Request) -> Layer:
        while True:
            yield request

    stage = Stage()
    asked = stage.ask(
        stage.target(), script={"a": [(1.0, "x")] * 9}, middleware=[forever], deadline=3.5
    )
    assert isinstance(asked.error, e.DeadlineExceededError)
    assert asked.played.duration == 3.5


def test_what_a_request_layer_raises_propagates_as_it_is() -> None:
    trouble = e.ConfigurationError("mine")

    def raising(request: Request) -> Layer:
        yield request
        raise trouble

    asked = Stage().ask(Stage().target(), script={"a": "fine"}, middleware=[raising])
    assert asked.error is trouble
    assert asked.watch.ends == ["error"]


def test_an_error_of_an_attempt_layer_does_not_count_against_the_model() -> None:
    trouble = RuntimeError("mine")

    def raising(request: Request) -> Layer:
        yield request
        raise trouble

    stage = Stage()
    target = stage.target(breaker=BreakerPolicy(failure_threshold=1))
    asked = stage.ask(
        target, stage.target("b"), script={"a": "fine"}, middleware=[at("attempt", raising)]
    )
    assert asked.error is trouble
    assert [(entry.outcome, entry.reason) for entry in asked.ledger] == [
        ("abandoned", "middleware")
    ]
    assert target.breaker_state == "closed"


def test_an_attempt_layer_may_pass_the_model_over() -> None:
    def picky(request: Request) -> Layer:
        response = yield request
        if response.text == "poor":
            raise e.PoolExhaustedError("not good enough")
        return response

    stage = Stage()
    asked = stage.ask(
        stage.target("a"), stage.target("b"), script={"a": "poor", "b": "rich"},
        middleware=[at("attempt", picky)],
    )  # fmt: skip
    assert (asked.order, asked.text) == (["a", "b"], "rich")


def test_an_attempt_layer_answers_in_the_name_of_its_model() -> None:
    def own(request: Request) -> Layer:
        if request.prompt == "hi":
            return Response("mine")
        return (yield request)

    asked = Stage().ask(Stage().target(provider="p"), script={}, middleware=[at("attempt", own)])
    answer = asked.played.value()
    assert (answer.model, answer.provider) == ("a", "p")


def test_returning_nothing_raises_an_error() -> None:
    def forgetful(request: Request) -> Generator[Request, Response[Any], None]:
        yield request

    asked = Stage().ask(Stage().target(), script={"a": "fine"}, middleware=[forgetful])
    assert isinstance(asked.error, e.ConfigurationError)
    assert "forgetful" in str(asked.error)


@both_levels
def test_a_call_closed_half_way_closes_the_layer(level: str) -> None:
    closed = []

    def careful(request: Request) -> Layer:
        try:
            return (yield request)
        finally:
            closed.append(True)

    stage = Stage()
    target = stage.target(slots=1)
    asked = stage.ask(target, script={"a": "x"}, middleware=[at(level, careful)], stop_after=0)
    assert asked.played.closed
    assert closed == [True]
    assert target.pool is not None
    assert target.pool.in_use == 0
    assert asked.watch.ends == ["cancelled"]


def streaming(*layers: Any, steps: Any = ("one",), **how: Any) -> Asked:
    stage = Stage()
    target = stage.target(stream=True, slots=1, retry=RetryPolicy(max_attempts=1))
    script = {"a": steps}
    asked = stage.ask(
        target, script=script, exchange=StreamExchange("raise"), middleware=[*layers], **how
    )
    assert target.pool is not None
    assert target.pool.in_use == 0
    return asked


class TestAroundStreams:
    def test_a_layer_sees_the_request_and_the_finished_answer(self) -> None:
        seen = []

        def watching(request: Request) -> Layer:
            response = yield replace(request, prompt="HI")
            seen.append(response.text)
            return replace(response, text=response.text.upper())

        asked = streaming(at("attempt", watching))
        assert [request.prompt for _, request in asked.played.requests] == ["HI"]
        assert (seen, asked.text) == (["one"], "ONE")

    def test_a_layer_sees_what_broke_it(self) -> None:
        seen = []

        def watching(request: Request) -> Layer:
            try:
                return (yield request)
            except Exception as error:
                seen.append(type(error))
                raise

        asked = streaming(at("attempt", watching), steps=[DOWN])
        assert seen == [e.NetworkError]
        assert isinstance(asked.error, e.NetworkError)

    def test_an_error_of_a_layer_does_not_count_against_the_model(self) -> None:
        trouble = RuntimeError("mine")

        def raising(request: Request) -> Layer:
            yield request
            raise trouble

        asked = streaming(at("attempt", raising))
        assert asked.error is trouble
        assert [entry.reason for entry in asked.ledger] == ["middleware"]

    def test_a_layer_may_answer_itself_before_any_content(self) -> None:
        def own(request: Request) -> Layer:
            if request.prompt == "hi":
                return Response("mine")
            return (yield request)

        asked = streaming(at("attempt", own))
        assert asked.text == "mine"
        assert asked.played.emitted == (TextDelta("mine"), End(usage=Usage()))
        assert asked.played.requests == ()

    def test_a_layer_may_answer_in_place_of_an_error_before_any_content(self) -> None:
        def rescuing(request: Request) -> Layer:
            try:
                return (yield request)
            except e.NetworkError:
                return Response("rescued")

        asked = streaming(at("attempt", rescuing), steps=[DOWN])
        assert asked.text == "rescued"
        assert asked.played.emitted == (TextDelta("rescued"), End(usage=Usage()))

    def test_a_layer_may_send_again_before_any_content(self) -> None:
        def twice(request: Request) -> Layer:
            try:
                return (yield request)
            except e.NetworkError:
                return (yield request)

        asked = streaming(at("attempt", twice), steps=[DOWN, "two"])
        assert asked.text == "two"
        assert len(asked.played.requests) == 2

    def test_what_was_shown_is_neither_sent_again_nor_replaced(self) -> None:
        def twice(request: Request) -> Layer:
            yield request
            return (yield request)

        def rescuing(request: Request) -> Layer:
            try:
                return (yield request)
            except e.LLMError:
                return Response("rescued")

        cut = faults.CutStream(after=1)
        for layer, step, shown in ((twice, "one", "one"), (rescuing, cut, "The")):
            asked = streaming(at("attempt", layer), steps=[step])
            assert isinstance(asked.error, e.StreamInterruptedError)
            assert isinstance(asked.error.__cause__, e.ConfigurationError)
            assert "level = 'request'" in str(asked.error.__cause__)
            assert asked.error.partial == shown

    def test_leaving_early_closes_the_layers(self) -> None:
        closed = []

        def careful(request: Request) -> Layer:
            try:
                return (yield request)
            finally:
                closed.append(True)

        asked = streaming(at("attempt", careful), stop_after=2)
        assert asked.played.closed
        assert closed == [True]


@both_levels
def test_a_class_needs_only_what_it_overrides(level: str) -> None:
    seen = []

    class Recording(Middleware):
        def process_error(self, request: Request, error: Exception) -> Response[Any]:
            seen.append(type(error).__name__)
            return Response("rescued")

    layer = Recording()
    layer.level = level  # type: ignore[misc,assignment]
    asked = Stage().ask(Stage().target(), script={"a": [DOWN] * 3}, middleware=[layer])
    assert asked.text == "rescued"
    assert seen == ["NetworkError"]


class TestStructured:
    def ask(self, *answers: str, **how: Any) -> Any:
        stage = Stage()
        check, request = check_for(list[int], Request(prompt="numbers"))
        targets = [stage.target("a"), stage.target("b")]
        script = {"a": answers, "b": ["[7]"]}
        asked = stage.ask(*targets, script=script, check=check, request=request, **how)
        return asked, targets

    def test_the_answer_is_parsed(self) -> None:
        asked, _ = self.ask("[1, 2]")
        assert asked.played.value().parsed == [1, 2]

    def test_a_rejected_answer_is_retried_immediately_with_the_violations(self) -> None:
        asked, targets = self.ask('["x"]', "[1]")
        assert asked.played.value().parsed == [1]
        assert asked.order == ["a", "a"]
        assert asked.played.sleeps == ()
        second = asked.played.requests[1][1]
        assert "$[0]" in second.messages[-1].text
        assert second.messages[-2].text == '["x"]'
        statistics = targets[0].breaker.statistics()
        assert (statistics.consecutive_failures, statistics.calls) == (0, 1), "no fault of a's"

    def test_each_round_names_only_the_last_violations(self) -> None:
        asked, _ = self.ask('["x"]', '[1, "y"]', "[1]")
        third = asked.played.requests[2][1]
        assert len(third.messages) == len(asked.played.requests[1][1].messages)
        assert "$[1]" in third.messages[-1].text

    def test_after_the_attempts_the_next_model_is_asked(self) -> None:
        asked, _ = self.ask("no", "no", "no")
        assert asked.order == ["a", "a", "a", "b"]
        assert asked.played.value().parsed == [7]

    def test_only_an_answer_that_passed_is_stored(self) -> None:
        asked, _ = self.ask("no", "[1]", cached=True)
        stored = [effect for effect in asked.played.effects if type(effect).__name__ == "Store"]
        assert [effect.response.text for effect in stored] == ["[1]"]
        loads = [effect for effect in asked.played.effects if type(effect).__name__ == "Load"]
        order = [type(effect).__name__ for effect in asked.played.effects]
        assert "Load" not in order[order.index("Send") :], "asking again never reads the cache"
        assert loads

    def test_the_error_keeps_the_last_answer(self) -> None:
        stage = Stage()
        check, request = check_for(list[int], Request(prompt="numbers"))
        asked = stage.ask(
            stage.target(), script={"a": ["one", "two", "three"]}, check=check, request=request
        )
        assert isinstance(asked.error, e.StructuredOutputError)
        assert asked.error.raw == "three"
