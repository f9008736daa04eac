"""Newer SDKs of Anthropic write a span for each call: ours keeps it off, a user's keeps it on."""

from __future__ import annotations

import json

import pytest

from tests.programs import run

pytestmark = pytest.mark.wire

PROGRAM = """
import asyncio, inspect, json
import anthropic
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from agentkit import LLMManager
from agentkit.providers.registry import provider_for
from agentkit.testing import WireServer

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)

def written():
    names = [span.name for span in spans.get_finished_spans() if "agentkit." not in span.name]
    spans.clear()
    return names

with WireServer(reply="Paris.") as server:
    model = provider_for("anthropic:claude-x", api_key="k", base_url=server.anthropic_url)
    with LLMManager(cache=None) as llm:
        llm.register_model("smart", model)
        llm.complete("hi")
        with llm.stream("hi") as stream:
            list(stream)
        asyncio.run(llm.acomplete("hi"))
    model.close()
    ours = written()
    with anthropic.Anthropic(api_key="k", base_url=server.anthropic_url) as client:
        message = {"role": "user", "content": "hi"}
        client.messages.create(model="claude-x", max_tokens=5, messages=[message])
    known = "open_telemetry" in inspect.signature(anthropic.Anthropic).parameters
    print(json.dumps({"ours": ours, "own": len(written()), "known": known}))
"""


def test_each_attempt_has_one_span_and_a_users_own_client_keeps_its_own() -> None:
    found = json.loads(run(PROGRAM))
    assert found["ours"] == ["chat claude-x"] * 3
    assert found["own"] == int(found["known"])
