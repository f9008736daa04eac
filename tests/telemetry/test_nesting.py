"""Spans of user code nest under their attempt, and nothing is current outside of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult

from agentkit.testing import overloaded
from tests.telemetry.observing import Observed, id_of, parent_of

Options = dict[str, Any]


def nothing_is_current() -> bool:
    return not trace.get_current_span().get_span_context().is_valid


class Models:
    """Model functions of each kind that make a span called ``inner``."""

    def __init__(self, seen: Observed) -> None:
        self.tracer = seen.tracers.get_tracer("mine")
        self.threads: set[int] = set()

    def inner(self) -> Any:
        self.threads.add(threading.get_ident())
        return self.tracer.start_as_current_span("inner")

    def plain(self, prompt: str, options: Options) -> str:
        with self.inner():
            return "fine"

    async def coroutine(self, prompt: str, options: Options) -> str:
        with self.inner():
            await asyncio.sleep(0)
            return "fine"

    def generator(self, prompt: str, options: Options) -> Iterator[str]:
        for piece in ("fi", "ne"):
            with self.inner():
                pass
            yield piece

    async def agenerator(self, prompt: str, options: Options) -> AsyncIterator[str]:
        for piece in ("fi", "ne"):
            with self.inner():
                await asyncio.sleep(0)
            yield piece


def generate(llm: Any) -> str:
    return str(llm.generate("hi"))


def agenerate(llm: Any) -> str:
    async def main() -> str:
        answer = str(await llm.agenerate("hi"))
        assert nothing_is_current()
        return answer

    return asyncio.run(main())


def stream(llm: Any) -> str:
    text = ""
    with llm.stream("hi") as pieces:
        for piece in pieces:
            assert nothing_is_current(), "between two pieces"
            text += piece
    return text


def astream(llm: Any) -> str:
    async def main() -> str:
        text = ""
        async with llm.astream("hi") as pieces:
            async for piece in pieces:
                assert nothing_is_current(), "between two pieces"
                text += piece
        assert nothing_is_current()
        return text

    return asyncio.run(main())


each_way = pytest.mark.parametrize("ask", [generate, agenerate, stream, astream])
each_kind = pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "agenerator"])
Ask = Callable[[Any], str]


@each_way
@each_kind
@pytest.mark.parametrize("timeout", [None, 30.0])
def test_a_models_own_spans_belong_to_the_attempt(
    seen: Observed, ask: Ask, kind: str, timeout: float | None
) -> None:
    models = Models(seen)
    llm = seen.manager(("a", getattr(models, kind)))
    if timeout is not None:
        llm.register_model("a", getattr(models, kind), timeout=timeout, replace=True)
    assert ask(llm) == "fine"
    (attempt,) = seen.attempts
    inner = seen.named("inner")
    assert len(inner) == (2 if "gen" in kind else 1)
    assert {parent_of(span) for span in inner} == {id_of(attempt)}
    assert nothing_is_current()
    if timeout is not None and ask is generate and kind in ("plain", "generator"):
        assert threading.get_ident() not in models.threads, "it ran on a worker"


@pytest.mark.parametrize("ask", [generate, agenerate, stream, astream])
def test_each_attempt_has_its_own(seen: Observed, ask: Ask) -> None:
    models = Models(seen)
    failures = [overloaded(), None]

    def model(prompt: str, options: Options) -> str:
        answer = models.plain(prompt, options)
        if failures.pop(0) is not None:
            raise ConnectionError
        return answer

    ask(seen.manager(("a", model)))
    assert [parent_of(span) for span in seen.named("inner")] == [id_of(a) for a in seen.attempts]
    assert len(seen.attempts) == 2


def test_requests_that_interleave_keep_their_spans_apart(seen: Observed) -> None:
    tracer = seen.tracers.get_tracer("mine")

    async def main() -> None:
        meeting = asyncio.Barrier(2)

        async def model(prompt: str, options: Options) -> str:
            await meeting.wait()
            with tracer.start_as_current_span(f"inner {prompt}"):
                await meeting.wait()
            return prompt

        async def one(name: str) -> None:
            with tracer.start_as_current_span(f"task {name}"):
                await llm.agenerate(name)

        llm = seen.manager(("a", model))
        await asyncio.gather(one("x"), one("y"))

    asyncio.run(main())
    by_id = {id_of(span): span for span in seen.spans}
    for name in "xy":
        (span,) = seen.named(f"inner {name}")
        chain = []
        while (above := parent_of(span)) is not None:
            span = by_id[above]
            chain.append(span.name)
        assert chain == ["chat a", "agentkit.generate default", f"task {name}"]


class _NotTheRequest(Sampler):
    """Drops requests; keeps whatever else begins a trace."""

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, *rest: Any, **more: Any
    ) -> SamplingResult:
        dropped = name.startswith("agentkit.")
        return SamplingResult(Decision.DROP if dropped else Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "not the request"


@each_way
def test_inside_a_request_that_is_not_sampled_nothing_is(
    observing: Callable[..., Observed], ask: Ask
) -> None:
    """Or else each span inside would begin a trace of its own."""
    seen = observing(sampler=ParentBased(_NotTheRequest()))
    assert ask(seen.manager(("a", Models(seen).plain))) == "fine"
    assert [span.name for span in seen.spans] == []


class Held:
    """A stream that keeps a span open, and current, from piece to piece."""

    end_mark = False

    def __init__(self, seen: Observed) -> None:
        self.tracer = seen.tracers.get_tracer("mine")

    def stream(self, request: Any) -> Iterator[str]:
        with self.tracer.start_as_current_span("inner"):
            yield "one"
            yield "two"

    async def astream(self, request: Any) -> AsyncIterator[str]:
        with self.tracer.start_as_current_span("inner"):
            yield "one"
            yield "two"


def test_a_stream_that_holds_a_span_open_does_not_leak_it(seen: Observed) -> None:
    llm = seen.manager(("a", Held(seen)))
    assert stream(llm) == astream(llm) == "onetwo"
    assert nothing_is_current()


def test_nor_when_it_is_left_early(seen: Observed) -> None:
    def leave() -> None:
        with seen.manager(("a", Held(seen))).stream("hi") as pieces:
            next(pieces)
        assert nothing_is_current()

    async def aleave() -> None:
        async with seen.manager(("a", Held(seen))).astream("hi") as pieces:
            await anext(pieces)
        assert nothing_is_current()

    copy_context().run(leave)
    asyncio.run(aleave())


class Opening:
    """A provider whose client sends the request when the stream is opened."""

    end_mark = False

    def __init__(self, seen: Observed) -> None:
        self.tracer = seen.tracers.get_tracer("mine")

    def stream(self, request: Any) -> Iterator[str]:
        with self.tracer.start_as_current_span("inner"):
            return iter(["one"])


def test_opening_a_stream_is_part_of_the_attempt(seen: Observed) -> None:
    stream(seen.manager(("a", Opening(seen))))
    (inner,) = seen.named("inner")
    assert parent_of(inner) == id_of(seen.attempts[0])


@each_way
def test_other_instrumentations_of_models_are_off_during_an_attempt(
    seen: Observed, ask: Ask
) -> None:
    key = "suppress_language_model_instrumentation"
    found: list[Any] = []

    def model(prompt: str, options: Options) -> str:
        found.append((context.get_value(key), context.get_value("mine")))
        return "fine"

    llm = seen.manager(("a", model))
    ask(llm)
    token = context.attach(context.set_value("mine", "kept"))
    try:
        ask(llm)
    finally:
        context.detach(token)
    assert found == [(True, None), (True, "kept")]
    assert context.get_value(key) is None
