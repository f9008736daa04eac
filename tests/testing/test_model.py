"""The scripted model does what its script says, sync, async and streaming, and records it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentkit.testing import (
    FakeClock,
    HTTPStatusError,
    Returns,
    ScriptedModel,
    ScriptError,
    ScriptExhaustedError,
    Step,
    faults,
    overloaded,
    rate_limited,
    server_error,
    timeout,
    unauthorized,
)
from agentkit.types import End, Request, Response, TextDelta, Usage


def ask(model: ScriptedModel) -> Any:
    return model("hi", {})


def aask(model: ScriptedModel) -> Any:
    return asyncio.run(model.as_async()("hi", {}))


def stream(model: ScriptedModel) -> list[Any]:
    return list(model.as_stream().stream(Request(prompt="hi")))


def astream(model: ScriptedModel) -> list[Any]:
    async def read() -> list[Any]:
        return [event async for event in model.as_stream().astream(Request(prompt="hi"))]

    return asyncio.run(read())


sync_and_async = pytest.mark.parametrize("ask", [ask, aask], ids=["blocking", "async"])
streams = pytest.mark.parametrize("read", [stream, astream], ids=["blocking", "async"])
Ask = Callable[[ScriptedModel], Any]


@sync_and_async
def test_each_call_takes_the_next_step(ask: Ask) -> None:
    response: Response[Any] = Response("two", Usage(1, 1))
    model = ScriptedModel("one", response, ConnectionError("three"), KeyError)
    assert ask(model) == "one"
    assert ask(model) is response
    with pytest.raises(ConnectionError, match="three"):
        ask(model)
    with pytest.raises(KeyError):
        ask(model)


@sync_and_async
def test_a_script_that_is_used_up_says_so(ask: Ask) -> None:
    model = ScriptedModel("one")
    ask(model)
    with pytest.raises(ScriptExhaustedError, match=r"call 2 .* had 1"):
        ask(model)
    assert len(model.calls) == 2, "the call that failed is recorded, too"


@sync_and_async
def test_then_is_every_later_step(ask: Ask) -> None:
    model = ScriptedModel(overloaded(), then="fine")
    with pytest.raises(HTTPStatusError):
        ask(model)
    assert [ask(model) for _ in range(3)] == ["fine"] * 3


def test_a_function_gives_the_step() -> None:
    model = ScriptedModel(then=lambda prompt, kwargs: f"{prompt} at {kwargs['temperature']}")
    assert model("hi", {"temperature": 0.5}) == "hi at 0.5"


def test_more_steps_may_follow_later() -> None:
    model = ScriptedModel("one")
    model.script("two", "three")
    assert model.left == 3
    assert [ask(model) for _ in range(3)] == ["one", "two", "three"]


@pytest.mark.parametrize("step", [42, {"text": "x"}, b"bytes"])
def test_an_invalid_step_is_refused(step: Any) -> None:
    with pytest.raises(ScriptError):
        ask(ScriptedModel(step))


@pytest.mark.parametrize("value", [None, 42, {"text": "x"}])
def test_any_value_can_be_returned_on_purpose(value: object) -> None:
    assert ask(ScriptedModel(Returns(value))) == value


class TestTheRecord:
    def test_it_keeps_prompt_options_number_and_thread(self) -> None:
        model = ScriptedModel(then="x")
        options = {"temperature": 0.0}
        model("hi", options)
        options["temperature"] = 1.0
        (call,) = model.calls
        assert (call.number, call.prompt, call.kwargs) == (1, "hi", {"temperature": 0.0})
        assert call.thread == threading.current_thread().name

    def test_sync_async_and_stream_share_it(self) -> None:
        model = ScriptedModel(then="x")
        for each in (ask, aask, stream, astream):
            each(model)
        assert [call.number for call in model.calls] == [1, 2, 3, 4]

    def test_many_threads_get_each_step_once(self) -> None:
        model = ScriptedModel(*(str(number) for number in range(400)))
        start = threading.Barrier(8)
        answers: list[Any] = []

        def work() -> None:
            start.wait()
            answers.extend(ask(model) for _ in range(50))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers, key=int) == [str(number) for number in range(400)]
        assert [call.number for call in model.calls] == list(range(1, 401))

    def test_its_repr_counts_and_shows_no_prompt(self) -> None:
        model = ScriptedModel("one", "two", then="x")
        assert repr(model) == "<ScriptedModel 0 calls, 2 steps left, then always the same>"
        model("secret", {})
        assert "1 call, 1 step left" in repr(model)
        assert "secret" not in repr(model)
        assert repr(model.as_async()).startswith("<async ScriptedModel")
        assert repr(model.as_stream()).startswith("<streaming ScriptedModel")


@pytest.mark.parametrize(
    ("step", "status", "retry_after"),
    [
        (overloaded(), 529, None),
        (overloaded(retry_after=3), 529, "3"),
        (rate_limited(), 429, None),
        (rate_limited(retry_after=2), 429, "2"),
        (server_error(), 500, None),
        (unauthorized(), 401, None),
        (faults.status(503, retry_after="Fri, 31 Dec 1999 23:59:59 GMT"), 503, "Fri, 31 Dec 1999"),
    ],
)
@sync_and_async
def test_a_status_is_an_exception_as_client_libraries_raise_it(
    ask: Ask, step: Step, status: int, retry_after: str | None
) -> None:
    with pytest.raises(HTTPStatusError) as caught:
        ask(ScriptedModel(step))
    assert caught.value.status_code == status
    found = caught.value.headers.get("retry-after")
    assert found == retry_after if retry_after is None else str(found).startswith(retry_after)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (faults.reset(), ConnectionResetError),
        (faults.disconnect(), ConnectionError),
        (faults.malformed_body(), json.JSONDecodeError),
        (faults.missing_end(), json.JSONDecodeError),
        (faults.cut_stream(1), ConnectionError),
        (faults.cut_stream(1, reset=True), ConnectionResetError),
        (faults.malformed_chunk(1), json.JSONDecodeError),
        (faults.stream_error(1, status=503), HTTPStatusError),
        (timeout(), TimeoutError),
    ],
)
@sync_and_async
def test_a_fault_without_streaming(ask: Ask, step: Step, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        ask(ScriptedModel(step))


@streams
def test_an_answer_streams_word_by_word_up_to_its_end_mark(read: Ask) -> None:
    usage = Usage(3, 2)
    model = ScriptedModel(Response("one two", usage, finish_reason="stop"))
    assert read(model) == ["one", " two", End("stop", usage)]


@streams
def test_a_list_is_a_streams_events_as_they_stand(read: Ask) -> None:
    assert read(ScriptedModel(["a", TextDelta("b")])) == ["a", TextDelta("b")]
    assert read(ScriptedModel(["a", End("stop")])) == ["a", End("stop")]


@sync_and_async
def test_a_list_is_one_text_without_streaming(ask: Ask) -> None:
    assert ask(ScriptedModel(["a", TextDelta("b"), End()])) == "ab"
    with pytest.raises(KeyError):
        ask(ScriptedModel(["a", KeyError("b")]))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.cut_stream(2, reply="a b c"), ConnectionError),
        (faults.malformed_chunk(2, reply="a b c"), json.JSONDecodeError),
        (faults.stream_error(2, reply="a b c"), HTTPStatusError),
    ],
)
def test_a_fault_of_streams_strikes_after_so_many_pieces(
    fault: Step, kind: type[Exception]
) -> None:
    events = ScriptedModel(fault).as_stream().stream(Request(prompt="hi"))
    assert [next(events), next(events)] == ["a", " b"]
    with pytest.raises(kind):
        next(events)


@streams
def test_a_missing_end_is_all_but_the_end_mark(read: Ask) -> None:
    assert read(ScriptedModel(faults.missing_end(reply="a b"))) == ["a", " b"]


def test_a_fault_spoils_the_usual_answer() -> None:
    model = ScriptedModel(faults.missing_end(), then="a b")
    assert stream(model) == ["a", " b"]


class TestTime:
    @pytest.mark.parametrize("ask", [ask, aask, stream, astream])
    def test_pauses_pass_on_the_given_clock(self, ask: Ask) -> None:
        clock = FakeClock()
        model = ScriptedModel((2.0, "x"), faults.latency(3.0, "y"), latency=1.0, clock=clock)
        ask(model)
        assert clock.elapsed == 3.0
        ask(model)
        assert clock.elapsed == 7.0
        assert clock.sleeps == [], "the model took this time; no caller slept"

    @streams
    def test_a_slow_stream(self, read: Ask) -> None:
        clock = FakeClock()
        read(ScriptedModel(faults.slow_first_token(5.0, reply="a b"), clock=clock))
        assert clock.elapsed == 5.0
        read(ScriptedModel(faults.slow_chunks(2.0, reply="a b"), clock=clock))
        assert clock.elapsed == 9.0

    def test_a_silence_lasts_until_the_model_is_closed(self) -> None:
        model = ScriptedModel(faults.silence())
        ended: list[BaseException] = []

        def wait() -> None:
            try:
                ask(model)
            except ConnectionAbortedError as error:
                ended.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while not model.calls:
            thread.join(0.001)
        assert thread.is_alive()
        model.close()
        thread.join()
        assert len(ended) == 1

    def test_an_async_silence_ends_with_close_from_another_thread(self) -> None:
        model = ScriptedModel(then=faults.silence())

        async def wait() -> None:
            task = asyncio.ensure_future(model.as_async()("hi", {}))
            while not model.calls:
                await asyncio.sleep(0)
            closing = threading.Thread(target=model.close)
            closing.start()
            with pytest.raises(ConnectionAbortedError):
                await task
            closing.join()
            with pytest.raises(ConnectionAbortedError):
                await model.as_async()("hi", {})

        asyncio.run(wait())

    def test_an_async_silence_can_be_cancelled(self) -> None:
        model = ScriptedModel(faults.stalled_stream(1, reply="a b"))

        async def wait() -> list[Any]:
            shown: list[Any] = []

            async def read() -> None:
                async for event in model.as_stream().astream(Request(prompt="hi")):
                    shown.append(event)  # noqa: PERF401 - what came before the cut counts

            task = asyncio.ensure_future(read())
            while not shown:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            woken: list[Any] = []
            with pytest.MonkeyPatch.context() as patch:
                loop = asyncio.get_running_loop()
                patch.setattr(loop, "call_soon_threadsafe", lambda *each: woken.append(each))
                model.close()
            assert woken == [], "the model still holds what was cancelled"
            return shown

        assert asyncio.run(wait()) == ["a"]
