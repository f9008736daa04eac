"""Content is recorded where it is asked for, and nowhere else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import LLMManager
from agentkit import errors as e
from agentkit.telemetry.capture import CAPTURE_VARIABLE
from agentkit.telemetry.otel import Telemetry
from agentkit.testing import ScriptedModel
from agentkit.types import Message, Request, Response, ToolCall, ToolSpec, Usage
from tests.telemetry.observing import Observed, attributes, event, messages

CANARY = "canary-4711"
TOOLS = [{"name": "look", "description": f"{CANARY} tool"}]
PARAMS: dict[str, Any] = {"user": CANARY, "stop": [CANARY], "temperature": CANARY}


class Talkative:
    """Fails twice with what it must not tell, then answers."""

    capabilities = frozenset({"tools", "messages"})

    def __init__(self) -> None:
        self.steps: list[Exception | Response[Any]] = [
            RuntimeError(f"{CANARY} refused"),
            e.ServerError(f"{CANARY} broke", hint=CANARY),
            Response(
                f"{CANARY} answer",
                Usage(3, 4),
                tool_calls=(ToolCall("1", "look", {"at": f"{CANARY} argument"}),),
            ),
        ]

    def send(self, request: Request) -> Response[Any]:
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


def talk(seen: Observed) -> None:
    """A request with the canary in all that may hold it, over failure, retry and fallback."""
    model = Talkative()
    llm = seen.manager(("a", model), ("b", model), cache="memory")
    conversation = [
        Message("system", f"{CANARY} system"),
        Message("user", [{"type": "text", "text": f"{CANARY} prompt"}, {"image": CANARY}]),
        Message("tool", f"{CANARY} result", tool_call_id="1"),
    ]
    assert CANARY in llm.complete(conversation, tools=TOOLS, **PARAMS).text


def fail(seen: Observed, error: Exception) -> None:
    llm = seen.manager(("a", ScriptedModel(then=error)), ("b", ScriptedModel(then=error)))
    with pytest.raises(e.LLMError):
        llm.generate(CANARY)
    with pytest.raises(e.LLMError):
        asyncio.run(llm.agenerate(CANARY))
    with pytest.raises(e.LLMError), llm.stream(CANARY) as pieces:
        list(pieces)


def raise_canary(prompt: str, options: dict[str, Any]) -> str:
    raise ValueError(CANARY)


@pytest.mark.parametrize(
    ("word", "content", "named"),
    [
        (None, None, True),
        ("", None, True),
        ("true", None, True),
        ("NO_CONTENT", "span", True),
        (None, "none", False),
        ("true", "none", False),
        ("NO_CONTENT", None, False),
        ("nonsense", None, False),
    ],
)
@pytest.mark.parametrize("model", [raise_canary, ScriptedModel(then=ValueError(CANARY))])
def test_an_error_has_the_text_of_an_exception_unless_content_is_excluded(
    monkeypatch: pytest.MonkeyPatch, word: str | None, content: Any, named: bool, model: Any
) -> None:
    if word is not None:
        monkeypatch.setenv(CAPTURE_VARIABLE, word)
    with LLMManager(telemetry=Telemetry(content=content), cache=None) as llm:
        llm.register_model("a", model)
        with pytest.raises(e.LLMError) as caught:
            llm.complete("hi")
    assert (CANARY in str(caught.value)) is named


@pytest.mark.parametrize(
    ("word", "content"),
    [(None, None), (None, "none"), ("true", "none"), ("NO_CONTENT", None), ("nonsense", None)],
)
@pytest.mark.parametrize("profile", ["v1.41", "next", "both"])
def test_by_default_no_content_is_recorded(
    observing: Callable[..., Observed],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    word: str | None,
    content: Any,
    profile: str,
) -> None:
    caplog.set_level(logging.DEBUG, logger="agentkit")
    if word is not None:
        monkeypatch.setenv(CAPTURE_VARIABLE, word)
    seen = observing(content=content, profile=profile, openinference=True)
    talk(seen)
    fail(seen, RuntimeError(CANARY))
    fail(seen, e.RateLimitError(CANARY, hint=CANARY))
    recorded = seen.everything()
    assert "agentkit.fallback" in recorded, "it is looked for in what was really recorded"
    assert CANARY not in recorded
    assert caplog.records
    for record in caplog.records:
        assert CANARY not in str(vars(record))


@pytest.mark.parametrize("where", ["span", "event", "both"])
@pytest.mark.parametrize("from_the_environment", [False, True])
def test_content_is_recorded_where_it_is_asked_for(
    observing: Callable[..., Observed],
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    from_the_environment: bool,
) -> None:
    if from_the_environment:
        words = {"span": "span_only", "event": "EVENT_ONLY", "both": "SPAN_AND_EVENT"}
        monkeypatch.setenv(CAPTURE_VARIABLE, words[where])
    seen = observing(content=None if from_the_environment else where)
    talk(seen)
    answered = seen.attempts[-1]
    on_span = attributes(answered)
    details = "gen_ai.client.inference.operation.details"
    on_event = event(answered, details) if where != "span" else {}
    for recorded, wanted in ((on_span, where != "event"), (on_event, where != "span")):
        if not wanted:
            assert CANARY not in str(recorded)
            continue
        assert messages(recorded["gen_ai.input.messages"]) == [
            {"role": "system", "parts": [{"type": "text", "content": f"{CANARY} system"}]},
            {
                "role": "user",
                "parts": [{"type": "text", "content": f"{CANARY} prompt"}, {"type": "generic"}],
            },
            {
                "role": "tool",
                "parts": [
                    {"type": "tool_call_response", "id": "1", "response": f"{CANARY} result"}
                ],
            },
        ]
        definition = {"type": "function"} | TOOLS[0] | {"parameters": {"type": "object"}}
        assert messages(recorded["gen_ai.tool.definitions"]) == [definition]
        (answer,) = messages(recorded["gen_ai.output.messages"])
        assert answer["role"] == "assistant"
        assert [part["type"] for part in answer["parts"]] == ["text", "tool_call"]
        assert answer["parts"][1]["arguments"] == {"at": f"{CANARY} argument"}
        assert "agentkit.content.truncated" not in recorded
    failed = event(seen.attempts[1], "exception")
    assert CANARY in failed["exception.message"]
    assert CANARY not in str(attributes(seen.wrapper))


@pytest.mark.parametrize("where", ["span", "event"])
def test_a_redactor_sees_the_complete_text_before_truncation(
    observing: Callable[..., Observed], where: Any
) -> None:
    asked: list[str] = []

    def redact(text: str) -> str:
        asked.append(text)
        return text.replace(CANARY, "[gone]")

    seen = observing(content=where, redactor=redact, max_content_chars=4, openinference=True)
    talk(seen)
    assert f"{CANARY} prompt" in asked
    assert CANARY[:4] not in seen.everything(), "cut first, it would not be recognised"
    answered = seen.attempts[-1]
    recorded = attributes(answered) if where == "span" else attributes(answered.events[-1])
    assert "[gon" in recorded["gen_ai.output.messages"]
    assert recorded["agentkit.content.truncated"] is True


def refuse(text: str) -> str:
    raise ValueError(text)


def wrong_type(text: str) -> Any:
    return Unprintable()


class Unprintable:
    def __str__(self) -> str:
        raise TypeError(CANARY)


@pytest.mark.parametrize("redactor", [refuse, wrong_type])
@pytest.mark.parametrize("where", ["span", "event", "both"])
def test_a_redactor_that_raises_loses_the_content_and_nothing_else(
    observing: Callable[..., Observed],
    caplog: pytest.LogCaptureFixture,
    redactor: Any,
    where: Any,
) -> None:
    plain, seen = observing(content="none"), observing(content=where, redactor=redactor)
    talk(plain)
    talk(seen)
    assert CANARY not in seen.everything()
    assert CANARY not in caplog.text
    assert [span.name for span in seen.spans] == [span.name for span in plain.spans]
    for span, usual in zip(seen.spans, plain.spans, strict=True):
        assert attributes(span) == attributes(usual)
        assert span.status.status_code is usual.status.status_code
        named = [each.name for each in span.events if "details" not in each.name]
        assert named == [each.name for each in usual.events]


def test_openinference_attributes_hold_content_only_when_it_is_wanted(
    observing: Callable[..., Observed],
) -> None:
    silent, seen = observing(openinference=True), observing(openinference=True, content="span")
    for each in (silent, seen):
        each.manager(("a", ScriptedModel("fine"))).generate("hi")
        assert attributes(each.wrapper)["openinference.span.kind"] == "CHAIN"
        assert attributes(each.attempts[0])["openinference.span.kind"] == "LLM"
    assert attributes(seen.attempts[0])["input.value"] == "hi"
    assert attributes(seen.attempts[0])["output.value"] == "fine"
    assert not {"input.value", "output.value"} & set(attributes(silent.attempts[0]))


def test_a_value_without_a_json_form_is_named_by_its_class(
    observing: Callable[..., Observed],
) -> None:
    seen = observing(content="span")
    model = Talkative()
    del model.steps[:2]
    seen.manager(("a", model)).complete("hi", tools=[ToolSpec("t", "", {"x": Unprintable()})])
    assert attributes(seen.attempts[0])["gen_ai.tool.definitions"] == (
        '[{"type":"function","name":"t","description":"","parameters":{"x":"Unprintable"}}]'
    )


@pytest.mark.parametrize("bad", [{"content": "all"}, {"profile": "v0"}, {"max_content_chars": 0}])
def test_settings_that_cannot_work_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(e.ConfigurationError):
        Telemetry(**bad)
