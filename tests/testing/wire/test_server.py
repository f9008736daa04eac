"""The local server speaks the vendors' protocols: their own SDKs understand it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import anthropic
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.testing import WireServer, faults
from agentkit.testing.wire.server import words
from agentkit.types import Response, ToolCall, Usage
from tests.testing.wire.sdks import ASKED, MODEL, Client, every_client, streaming_or_not

pytestmark = pytest.mark.wire

WEATHER = ToolCall("call_1", "weather", {"city": "Paris", "days": 3})
FINISH = {"openai": "stop", "anthropic": "end_turn"}


@every_client
@streaming_or_not
def test_each_sdk_reads_the_answer(client: Client, stream: bool) -> None:
    with WireServer(reply="Paris, of course.\n") as server:
        heard = client.ask(server, stream=stream)
    assert heard.error is None
    assert heard.text == "Paris, of course.\n"
    assert heard.finish == FINISH[client.sdk]


@every_client
@streaming_or_not
def test_each_call_is_recorded(client: Client, stream: bool) -> None:
    with WireServer() as server:
        client.ask(server, stream=stream, api_key="key-7")
        (request,) = server.requests
    assert (request.number, request.provider) == (1, client.sdk)
    assert (request.model, request.stream) == (MODEL, stream)
    assert request.body["messages"] == ASKED["messages"]
    key = request.headers.get("x-api-key") or request.headers["authorization"]
    assert "key-7" in key
    assert "key-7" not in repr(request)


@every_client
def test_a_stream_has_one_piece_for_each_word(client: Client) -> None:
    with WireServer(reply="one two  three") as server:
        assert client.ask(server, stream=True).pieces == ["one", " two", "  three"]


@every_client
def test_the_pieces_and_their_delay_can_be_chosen(client: Client) -> None:
    with WireServer(reply="abc", chunks=list, chunk_delay=0.001) as server:
        assert client.ask(server, stream=True).pieces == ["a", "b", "c"]


@given(st.text())
def test_words_lose_nothing(text: str) -> None:
    assert "".join(words(text)) == text
    assert all(words(text))


@every_client
def test_any_text_arrives_as_it_was(client: Client) -> None:
    text = 'Größe 漢字 🙂 "quoted" \\ \u2028 data: [DONE]'
    with WireServer(reply=text) as server:
        assert [client.ask(server, stream=stream).text for stream in (False, True)] == [text] * 2


def test_openai_gets_usage_ids_and_tool_calls() -> None:
    reply: Response[Any] = Response(
        "", usage=Usage(11, 7, cache_read_tokens=5), tool_calls=(WEATHER,)
    )
    with (
        WireServer(reply=reply) as server,
        openai.OpenAI(base_url=server.openai_url, api_key="any") as client,
    ):
        answer = client.chat.completions.create(**ASKED)
        stream = client.chat.completions.create(
            **ASKED, stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = stream
    assert answer.id == "chatcmpl-1"
    assert answer._request_id == "req_1"
    assert answer.model == MODEL
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert (call.id, call.function.name) == ("call_1", "weather")
    assert json.loads(call.function.arguments) == WEATHER.arguments

    deltas = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or ()]
    arguments = "".join(d.function.arguments or "" for d in deltas if d.function)
    assert json.loads(arguments) == WEATHER.arguments
    assert len(deltas) == 2, "arguments come in pieces, as they do from a model"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert all(chunk.usage is None for chunk in chunks)
    assert last.usage == answer.usage
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 7)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 5


def test_openai_gets_no_usage_chunk_unless_requested() -> None:
    with (
        WireServer() as server,
        openai.OpenAI(base_url=server.openai_url, api_key="any") as client,
    ):
        chunks = list(client.chat.completions.create(**ASKED, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_anthropic_gets_usage_ids_and_tool_calls() -> None:
    usage = Usage(11, 7, cache_read_tokens=5, cache_write_tokens=2)
    reply: Response[Any] = Response("Let me see.", usage=usage, tool_calls=(WEATHER,))
    asked: Any = {**ASKED, "max_tokens": 100}
    with (
        WireServer(reply=reply) as server,
        anthropic.Anthropic(base_url=server.anthropic_url, api_key="any") as client,
    ):
        answer = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
    assert (answer.id, answer._request_id, streamed.id) == ("msg_1", "req_1", "msg_2")
    for message in (answer, streamed):
        assert (message.model, message.stop_reason) == (MODEL, "tool_use")
        text, call = (block.to_dict() for block in message.content)
        assert (text["type"], text["text"]) == ("text", "Let me see.")
        assert (call["type"], call["id"], call["name"]) == ("tool_use", "call_1", "weather")
        assert call["input"] == WEATHER.arguments
        counts = message.usage
        assert (counts.input_tokens, counts.output_tokens) == (4, 7)
        assert (counts.cache_read_input_tokens, counts.cache_creation_input_tokens) == (5, 2)


@pytest.mark.parametrize(
    ("reason", "openais", "anthropics"),
    [("length", "length", "max_tokens"), ("content_filter", "content_filter", "refusal")],
)
@every_client
@streaming_or_not
def test_each_provider_has_its_own_finish_reasons(
    client: Client, stream: bool, reason: str, openais: str, anthropics: str
) -> None:
    with WireServer(reply=Response("Par", finish_reason=reason)) as server:
        heard = client.ask(server, stream=stream)
    assert heard.finish == (openais if client.sdk == "openai" else anthropics)


def test_openai_can_list_the_models() -> None:
    with (
        WireServer() as server,
        openai.OpenAI(base_url=server.openai_url, api_key="any") as client,
    ):
        server.always("spare", model="backup")
        client.chat.completions.create(**ASKED)
        assert [model.id for model in client.models.list()] == ["backup", MODEL]
        assert len(server.requests) == 1, "only model calls are recorded"


def test_a_script_is_followed_in_order_and_then_the_default_reply() -> None:
    client = Client("openai", "sync")
    with WireServer(reply="usual") as server:
        server.script(faults.status(503), "first")
        server.script(lambda body: f"asked {body['model']}")
        heard = [client.ask(server, stream=False) for _ in range(4)]
    assert isinstance(heard[0].error, openai.InternalServerError)
    assert [each.text for each in heard[1:]] == ["first", f"asked {MODEL}", "usual"]


def test_a_models_script_comes_first_and_scripts_come_before_standing_outcomes() -> None:
    client = Client("anthropic", "sync")
    with WireServer(reply="usual") as server:
        server.always("common standing")
        server.always("own standing", model=MODEL)
        server.script("common script")
        server.script("own script", model=MODEL)
        server.script("never", model="another model")
        heard = [client.ask(server, stream=False).text for _ in range(4)]
        assert heard == ["own script", "common script", "own standing", "own standing"]
        server.clear()
        assert server.requests == ()
        assert client.ask(server, stream=False).text == "usual"


def test_one_model_fails_while_another_answers() -> None:
    with (
        WireServer(reply="backup here") as server,
        openai.OpenAI(base_url=server.openai_url, api_key="any", max_retries=0) as client,
    ):
        server.always(faults.status(503), model="primary")
        for _ in range(2):
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(**{**ASKED, "model": "primary"})
            answer = client.chat.completions.create(**{**ASKED, "model": "backup"})
            assert answer.choices[0].message.content == "backup here"
        assert [r.model for r in server.requests] == ["primary", "backup"] * 2


def test_a_function_can_decide_by_the_request() -> None:
    def by_question(body: dict[str, Any]) -> str | faults.Fault:
        return "Paris." if "France" in str(body["messages"]) else faults.status(400)

    with (
        WireServer() as server,
        openai.OpenAI(base_url=server.openai_url, api_key="any") as client,
    ):
        server.always(by_question)
        answer = client.chat.completions.create(**ASKED)
        assert answer.choices[0].message.content == "Paris."
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(**{**ASKED, "messages": []})


@pytest.mark.parametrize("nonsense", [None, 503, {"text": "Paris"}])
def test_an_invalid_step_is_refused_immediately(nonsense: Any) -> None:
    server = WireServer()
    with pytest.raises(TypeError, match="neither a reply nor a fault"):
        server.script("fine", nonsense)
    with pytest.raises(TypeError, match="neither a reply nor a fault"):
        server.always(nonsense)


@streaming_or_not
def test_a_reply_that_raises_is_reported_to_the_client(stream: bool) -> None:
    def reply(body: dict[str, Any]) -> str:
        return str(body["no such key"])

    with WireServer(reply=reply) as server:
        heard = Client("openai", "sync").ask(server, stream=stream)
    assert isinstance(heard.error, openai.InternalServerError)
    assert "KeyError('no such key')" in str(heard.error)


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v2/elsewhere", b"{}", 404, "POST /v2/elsewhere"),
        ("/v1/messages", b"[]", 400, "not a JSON object"),
        ("/v1/chat/completions", b"{", 400, "not a JSON object"),
    ],
)
def test_an_unknown_path_is_answered_with_an_error(
    path: str, body: bytes, status: int, says: str
) -> None:
    with WireServer() as server:
        request = urllib.request.Request(server.url + path, body)
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request)
        with raised.value as answer:
            assert answer.code == status
            assert says in answer.read().decode()
        assert server.requests == ()
