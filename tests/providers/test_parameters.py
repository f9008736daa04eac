"""What becomes of a parameter: renamed, left out with a note, refused, or sent as it is."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.errors import InvalidRequestError
from agentkit.providers import parameters as p
from agentkit.providers.bedrock.parameters import fit_to_model
from agentkit.providers.model_table import claude, gemini, groq_efforts, openai_model
from agentkit.providers.registry import provider_for
from agentkit.testing import WireServer
from agentkit.types import Message, MessageRole, Request, ToolCall, ToolSpec
from tests.providers.asking import asking, every_way

TOOL = ToolSpec("weather", "", {"type": "object", "properties": {}})
OPUS_4_5, SONNET_4_6, OPUS_5 = "claude-opus-4-5", "claude-sonnet-4-6", "claude-opus-5-5"


def encoded(
    spec: str, params: dict[str, Any], *, fixed: tuple[str, ...] = (), **request: Any
) -> tuple[dict[str, Any], list[str]]:
    """The options of a body, and what was left out of it."""
    extra: dict[str, Any] = (
        {"base_url": "http://localhost:1/v1"} if spec.startswith("compatible") else {}
    )
    adapter = provider_for(spec, api_key="made-up", **extra)
    request = {"prompt": "Hello."} | request
    if "messages" in request:
        request.pop("prompt")
    asked = Request(params=params, fixed_params=frozenset(fixed), **request)
    given = adapter.parameters(asked)
    body = dict(adapter.encode_with(asked, given))
    options = body.pop("config", body)
    left_out = ("model", "messages", "input", "contents", "store", "tools", "include")
    return {name: options[name] for name in options if name not in left_out}, given.omitted


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ("claude-3-5-haiku-20241022", {"temperature", "top_p", "top_k"}),
        ("claude-sonnet-4-20250514", {"temperature", "top_k"}),
        (OPUS_4_5, {"temperature", "top_k"}),
        (SONNET_4_6, {"temperature", "top_k"}),
        ("claude-opus-4-7", set()),
        ("claude-haiku-5-5", set()),
        ("claude-mythos-preview", set()),
        ("claude-of-the-future", set()),
        ("another-model-with-the-same-api", {"temperature", "top_p", "top_k"}),
    ],
)
def test_claude_gets_the_sampling_parameters_that_it_accepts(model: str, kept: set[str]) -> None:
    given = {"temperature": 0.5, "top_p": 0.9, "top_k": 3}
    body, omitted = encoded(f"anthropic:{model}", given)
    assert {name: value for name, value in body.items() if name in given} == {
        name: given[name] for name in kept
    }
    assert set(omitted) == set(given) - kept
    version = body.get("extra_headers", {}).get("anthropic-version")
    assert version == ("2023-06-01" if kept else None), "newer versions refuse them all"


@pytest.mark.parametrize(
    ("model_id", "kept"),
    [
        ("anthropic.claude-v2:1", {"temperature", "top_p", "top_k"}),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", {"temperature", "top_k"}),
        ("global.anthropic.claude-opus-5-5-v1:0", set()),
        ("amazon.nova-pro-v1:0", {"temperature", "top_p", "top_k"}),
    ],
)
def test_claude_on_bedrock_gets_the_sampling_parameters_that_it_accepts(
    model_id: str, kept: set[str]
) -> None:
    given = {"temperature": 0.5, "top_p": 0.9, "top_k": 3}
    request, omitted = fit_to_model(Request(prompt="Hello.", params=given), model_id)
    assert (set(request.params), set(omitted)) == (kept, set(given) - kept)


@pytest.mark.wire
@every_way
def test_what_was_left_out_is_in_the_response_and_in_the_ledger(way: str) -> None:
    with WireServer(reply="Paris.") as server:
        adapter = provider_for(
            f"anthropic:{OPUS_5}", api_key="made-up", base_url=server.anthropic_url
        )
        with asking(adapter) as asker:
            reply = asker.ask(way, temperature=0, seed=1, max_tokens=50)
    assert set(reply.omitted) == {"temperature", "seed"}
    assert reply.ledger.sent[-1].omitted == reply.omitted
    assert "without " in reply.ledger.explain()


@pytest.mark.wire
def test_the_version_header_of_the_api_is_sent_with_sampling_parameters() -> None:
    with WireServer(reply="Paris.") as server:
        adapter = provider_for(
            f"anthropic:{OPUS_4_5}", api_key="made-up", base_url=server.anthropic_url
        )
        with asking(adapter) as asker:
            asker.ask("sync", temperature=0)
            asker.ask("sync")
        first, second = (each.headers["anthropic-version"] for each in server.requests)
    assert first == "2023-06-01"
    assert second > first


@pytest.mark.parametrize(
    ("model", "effort", "is_kept"),
    [
        ("gpt-4.1", None, True),
        ("chatgpt-4o-latest", None, True),
        ("gpt-5-chat-latest", None, True),
        ("gpt-5-mini", None, False),
        ("o3-mini", None, False),
        ("gpt-5.4", None, True),
        ("gpt-5.4", "low", False),
        ("gpt-5.4-pro", None, False),
        ("gpt-6.1-terra", None, False),
        ("gpt-6.1-terra", "none", True),
        ("a-deployment", "low", True),
    ],
)
@pytest.mark.parametrize("api", ["openai", "openai-responses"])
def test_openais_models_get_a_temperature_where_they_do_not_reason(
    api: str, model: str, effort: str | None, is_kept: bool
) -> None:
    params = {"temperature": 0.5, "reasoning_effort": effort}
    body, omitted = encoded(f"{api}:{model}", params)
    assert ("temperature" in body) is is_kept
    assert ("temperature" in omitted) is not is_kept


@pytest.mark.parametrize(
    ("model", "effort", "sent", "omitted"),
    [
        ("gpt-6.1-terra", None, "none", []),
        ("gpt-6.1-terra", "high", "none", ["reasoning_effort"]),
        ("gpt-5.4", None, None, []),
        ("gpt-5.4", "high", None, ["reasoning_effort"]),
        ("gpt-5", "high", "high", []),
    ],
)
def test_chat_completions_call_tools_without_reasoning(
    model: str, effort: str | None, sent: str | None, omitted: list[str]
) -> None:
    """GPT-5.2 and later refuse tools there while they reason, and responses do not."""
    params = {"reasoning_effort": effort}
    body, left_out = encoded(f"openai:{model}", params, tools=(TOOL,))
    assert (body.get("reasoning_effort"), left_out) == (sent, omitted)
    body, left_out = encoded(f"openai-responses:{model}", params, tools=(TOOL,))
    assert (body.get("reasoning"), left_out) == ({"effort": effort} if effort else None, [])


@pytest.mark.parametrize(
    ("spec", "effort", "sent"),
    [
        ("openai:gpt-5", "none", {"reasoning_effort": "minimal"}),
        ("openai:gpt-5.1", "minimal", {"reasoning_effort": "low"}),
        ("openai:o3", "max", {"reasoning_effort": "high"}),
        ("openai-responses:gpt-6-luna", "max", {"reasoning": {"effort": "max"}}),
        ("compatible:any", "whatever", {"reasoning_effort": "whatever"}),
        ("groq:openai/gpt-oss-120b", "minimal", {"reasoning_effort": "low"}),
        ("groq:qwen/qwen3-32b", "high", {"reasoning_effort": "default"}),
        (
            f"anthropic:{OPUS_5}",
            "minimal",
            {"output_config": {"effort": "low"}, "thinking": {"type": "adaptive"}},
        ),
        (f"anthropic:{OPUS_5}", "none", {"thinking": {"type": "disabled"}}),
        (
            "anthropic:claude-fable-5",
            "none",
            {"output_config": {"effort": "low"}, "thinking": {"type": "adaptive"}},
        ),
        (
            f"anthropic:{SONNET_4_6}",
            "xhigh",
            {"output_config": {"effort": "high"}, "thinking": {"type": "adaptive"}},
        ),
        (
            f"anthropic:{OPUS_4_5}",
            "medium",
            {"thinking": {"type": "enabled", "budget_tokens": 8192}},
        ),
        (f"anthropic:{OPUS_4_5}", "none", {}),
        ("google:gemini-3.8-flash", "minimal", {"thinking_config": {"thinking_level": "low"}}),
        ("google:gemini-3-flash", "none", {"thinking_config": {"thinking_level": "minimal"}}),
        ("google:gemini-2.5-pro", "none", {"thinking_config": {"thinking_budget": 128}}),
        ("google:gemini-2.5-flash", "max", {"thinking_config": {"thinking_budget": 24576}}),
    ],
)
def test_reasoning_effort_in_the_terms_of_each_model(
    spec: str, effort: str, sent: dict[str, Any]
) -> None:
    body, omitted = encoded(spec, {"reasoning_effort": effort})
    body.pop("max_tokens", None)
    assert (body, omitted) == (sent, [])


@pytest.mark.parametrize(
    "spec",
    [
        "openai:gpt-4.1",
        "groq:llama-3.3-70b-versatile",
        "anthropic:claude-3-haiku-20240307",
        "google:gemini-2.0-flash",
    ],
)
def test_a_model_that_does_not_reason_gets_no_effort(spec: str) -> None:
    body, omitted = encoded(spec, {"reasoning_effort": "high"})
    body.pop("max_tokens", None)
    assert (body, omitted) == ({}, ["reasoning_effort"])


def test_thinking_has_room_beside_the_answer() -> None:
    spec = f"anthropic:{OPUS_4_5}"
    default, _ = encoded(spec, {})
    body, _ = encoded(spec, {"reasoning_effort": "high"})
    assert body["max_tokens"] == default["max_tokens"] + body["thinking"]["budget_tokens"]
    body, _ = encoded(spec, {"reasoning_effort": "high", "max_tokens": 4000})
    assert body["thinking"]["budget_tokens"] == 2000
    body, omitted = encoded(spec, {"reasoning_effort": "high", "max_tokens": 500})
    assert (body, omitted) == ({"max_tokens": 500}, ["reasoning_effort"])


def test_a_model_that_thinks_gets_no_other_temperature_and_no_forced_tool() -> None:
    params = {"reasoning_effort": "low", "temperature": 0.5, "top_k": 3, "top_p": 0.96}
    body, omitted = encoded(f"anthropic:{OPUS_4_5}", params)
    assert (set(omitted), body["top_p"]) == ({"temperature", "top_k"}, 0.96)
    forced = {"reasoning_effort": "low", "tool_choice": "weather"}
    body, omitted = encoded(f"anthropic:{OPUS_4_5}", forced, tools=(TOOL,))
    assert ("thinking" not in body, omitted) == (True, ["reasoning_effort"])


def test_a_budget_becomes_adaptive_thinking_where_there_is_no_budget() -> None:
    given = {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    assert encoded(f"anthropic:{OPUS_5}", given)[0]["thinking"] == {"type": "adaptive"}
    assert encoded(f"anthropic:{OPUS_4_5}", given)[0]["thinking"] == given["thinking"]
    assert (
        encoded(f"anthropic:{OPUS_5}", given, fixed=("thinking",))[0]["thinking"]
        == (given["thinking"])
    )


def test_thinking_is_not_asked_of_a_conversation_without_its_earlier_thinking() -> None:
    messages = (
        Message(MessageRole.USER, "Weather?"),
        Message(MessageRole.ASSISTANT, "", tool_calls=(ToolCall("call_1", "weather"),)),
        Message(MessageRole.TOOL, "rain", tool_call_id="call_1"),
    )
    body, omitted = encoded(
        f"anthropic:{OPUS_4_5}", {"reasoning_effort": "low"}, messages=messages, tools=(TOOL,)
    )
    assert ("thinking" not in body, omitted) == (True, ["reasoning_effort"])


@pytest.mark.parametrize(
    ("spec", "sent", "omitted"),
    [
        ("openai:gpt-4.1", {"max_completion_tokens": 5, "stop": ["a"]}, {"top_k"}),
        ("groq:some-model", {"max_completion_tokens": 5, "stop": ["a"]}, {"top_k"}),
        ("compatible:some-model", {"max_tokens": 5, "stop": ["a"], "top_k": 3}, set()),
        ("openai-responses:gpt-4.1", {"max_output_tokens": 5}, {"top_k", "stop"}),
        ("google:gemini", {"max_output_tokens": 5, "stop_sequences": ["a"], "top_k": 3}, set()),
    ],
)
@pytest.mark.parametrize("names", [("max_tokens", "stop"), ("maxOutputTokens", "stopSequences")])
def test_a_parameter_has_the_name_of_the_provider(
    spec: str, sent: dict[str, Any], omitted: set[str], names: tuple[str, str]
) -> None:
    limit, stop = names
    body, left_out = encoded(spec, {limit: 5, stop: ["a"], "top_k": 3})
    assert (body, set(left_out)) == (sent, omitted)


def test_stop_sequences_of_white_space_only_are_not_sent_to_anthropic() -> None:
    body, omitted = encoded(f"anthropic:{OPUS_5}", {"stop": ["\n", "END"]})
    assert (body["stop_sequences"], omitted) == (["END"], ["stop"])


def test_a_user_is_anthropics_metadata_and_other_metadata_is_left_out() -> None:
    body, omitted = encoded(f"anthropic:{OPUS_5}", {"user": "u", "metadata": {"team": "a"}})
    assert (body["metadata"], omitted) == ({"user_id": "u"}, ["metadata"])


@pytest.mark.parametrize("spec", ["openai:gpt-5", f"anthropic:{OPUS_5}", "google:gemini-3-flash"])
def test_what_was_set_for_the_model_itself_is_never_left_out(spec: str) -> None:
    """So that a wrong table does not matter."""
    params = {"temperature": 0.5, "verbosity": "low"}
    body, omitted = encoded(spec, params, fixed=("temperature", "verbosity"))
    assert (body["temperature"], body["verbosity"], omitted) == (0.5, "low", [])


def test_what_no_provider_knows_is_sent_as_it_is() -> None:
    for spec in ("openai:gpt-5", f"anthropic:{OPUS_5}", "google:gemini-3-flash"):
        body, omitted = encoded(spec, {"parameter_of_the_future": [1]})
        assert (body["parameter_of_the_future"], omitted) == ([1], [])


@pytest.mark.parametrize("spec", ["openai:gpt-5", "groq:qwen/qwen3-32b", f"anthropic:{OPUS_5}"])
@pytest.mark.parametrize(
    "params", [{"reasoning_effort": "huge"}, {"response_format": {"type": "json_schema"}}]
)
def test_a_value_that_cannot_be_understood_is_refused(spec: str, params: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(params))):
        encoded(spec, params)


def test_native_tools_are_sent_beside_the_callers() -> None:
    native = {"type": "web_search"}
    for api in ("openai", "openai-responses", "anthropic"):
        adapter = provider_for(f"{api}:some-model", api_key="made-up")
        body = adapter.encode(Request(prompt="a", params={"tools": [native]}, tools=(TOOL,)))
        assert body["tools"][0] == native
        assert "weather" in str(body["tools"][1])


@pytest.mark.parametrize(
    ("names", "where"),
    [
        (p.CHAT, "openai.types.chat.completion_create_params:CompletionCreateParamsNonStreaming"),
        (p.RESPONSES, "openai.types.responses.response_create_params:ResponseCreateParamsBase"),
        (p.GROQ, "groq.types.chat.completion_create_params:CompletionCreateParams"),
        (p.ANTHROPIC, "anthropic.types.message_create_params:MessageCreateParamsBase"),
        (p.GOOGLE, "google.genai.types:GenerateContentConfig"),
    ],
)
def test_the_installed_sdk_has_no_parameter_that_the_names_lack(
    names: frozenset[str], where: str
) -> None:
    from pkgutil import resolve_name

    kind = resolve_name(where)
    fields = getattr(kind, "model_fields", None) or kind.__annotations__
    given = p.Parameters(dict.fromkeys(fields, 1), own=None, fixed=frozenset())
    own = {"model", "messages", "input", "stream"}
    assert set(given.values) - own - names == set()


def test_the_versions_of_models_are_read_from_their_names() -> None:
    assert claude("claude-3-5-sonnet-20241022").version == (3, 5)
    assert claude("claude-sonnet-4-20250514").version == (4, 0)
    assert claude("anthropic/claude-opus-4.8").version == (4, 8)
    assert claude("some-model").version is None
    assert openai_model("some-model") is None
    assert openai_model("ft:gpt-4.1-mini:team") == openai_model("gpt-4o")
    assert gemini("models/gemini-2.5-pro").takes_thinking_budget
    assert gemini("some-model").takes_json_with_tools
    assert groq_efforts("qwen/qwen3.8-27b") == ("none", "low", "medium", "high")
