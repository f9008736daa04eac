"""Every span of a run passes the checks that others wrote for the conventions' users.

`pytest-genai-semconv` checks spans against the GenAI conventions; OpenInference publishes its
attributes and their values as a package.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from agentkit.agent.agent import Agent
from agentkit.errors import LLMError
from agentkit.telemetry.names import INPUT_TYPE, INPUT_VALUE, OUTPUT_TYPE, OUTPUT_VALUE, SPAN_KIND
from agentkit.types import Message, Response, Usage
from tests.agent.runs import Model, want
from tests.telemetry.observing import Observed, attributes

checks = pytest.importorskip("pytest_genai_semconv", reason="not in every environment")
openinference = pytest.importorskip("openinference.semconv.trace")

PROVIDERS = ["openai", "anthropic", "google", "bedrock", "groq", "azure", "xai", "mistral"]
USAGE = Usage(20, 10, cache_read_tokens=5, cache_write_tokens=3, reasoning_tokens=4)


def look(at: str) -> str:
    """Looks around."""
    return f"a lion at {at}"


def spans_of_runs(seen: Observed, provider: str) -> list[ReadableSpan]:
    """The spans of a run with a tool, of a streamed one, and of one that fails."""
    answer = Response("A lion.", USAGE, reasoning="Hm.", response_id="r1", model_id="lion-2026")
    model = Model(want("look", at="the door"), answer, answer, ConnectionError("no lion"))
    llm = seen.manager()
    llm.register_model("a", model, {"provider": provider, "model": "lion"}, params={"top_k": 3})
    agent = Agent(
        llm,
        instructions="Be brief.",
        tracer_provider=seen.tracers,
        meter_provider=seen.meters,
    )
    picture: list[Any] = [
        {"type": "text", "text": "What is there?"},
        {"type": "image", "data": b""},
    ]
    agent.run([Message("user", picture)], [look])
    list(agent.stream("And now?"))
    with suppress(LLMError):
        agent.run("And then?")
    return seen.spans


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("content", ["none", "both"])
@pytest.mark.parametrize("profile", ["v1.41", "next", "both"])
def test_spans_pass_the_checks_of_the_genai_conventions(
    observing: Callable[..., Observed], provider: str, content: Any, profile: Any
) -> None:
    seen = observing(content=content, profile=profile, openinference=True)
    spans = spans_of_runs(seen, provider)
    assert len(spans) > 10
    for each in spans:
        if not each.name.startswith("agentkit."):
            checks.assert_genai_span_compliant(each)
    for each in seen.named("chat "):
        checks.assert_chat_span(each, request_model="lion")
    for each in seen.named("invoke_agent"):
        checks.assert_invoke_agent_span(each)
    for each in seen.named("execute_tool"):
        checks.assert_execute_tool_span(each, tool_name="look")


def test_the_checks_find_a_flaw(observing: Callable[..., Observed]) -> None:
    (span, *_) = (each for each in spans_of_runs(observing(), "none") if "chat" in each.name)
    with pytest.raises(AssertionError, match=r"gen_ai\.provider\.name"):
        checks.assert_genai_span_compliant(span)


def test_attributes_for_viewers_are_those_of_openinference(
    observing: Callable[..., Observed],
) -> None:
    names = openinference.SpanAttributes
    assert {
        name: name for name in (SPAN_KIND, INPUT_VALUE, OUTPUT_VALUE, INPUT_TYPE, OUTPUT_TYPE)
    } == {
        names.OPENINFERENCE_SPAN_KIND: SPAN_KIND,
        names.INPUT_VALUE: INPUT_VALUE,
        names.OUTPUT_VALUE: OUTPUT_VALUE,
        names.INPUT_MIME_TYPE: INPUT_TYPE,
        names.OUTPUT_MIME_TYPE: OUTPUT_TYPE,
    }
    seen = observing(content="span", openinference=True)
    kinds, types = set(), set()
    for each in spans_of_runs(seen, "openai"):
        found = attributes(each)
        kinds.add(found[SPAN_KIND])
        types |= {found.get(INPUT_TYPE), found.get(OUTPUT_TYPE)} - {None}
    assert kinds == {"AGENT", "CHAIN", "LLM", "TOOL"}
    assert kinds <= {each.value for each in openinference.OpenInferenceSpanKindValues}
    assert types <= {each.value for each in openinference.OpenInferenceMimeTypeValues}
