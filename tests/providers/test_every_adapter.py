"""What holds for every adapter alike, over real sockets with the real SDKs."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
import warnings
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit import LLMManager
from agentkit.errors import ConfigurationError, InvalidRequestError, LLMError
from agentkit.testing import WireServer, faults
from agentkit.types import Quota, Response, TextDelta, Usage
from tests.providers.asking import CALL, CONVERSATION, asking, either_way, every_way
from tests.providers.contract import ADAPTERS, ANSWER, MODEL, PROVIDERS

pytestmark = pytest.mark.wire

KEY = "sk-very-secret-0123456789"
every_provider = pytest.mark.parametrize("provider", ADAPTERS)


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


class City(BaseModel):
    name: str
    people: int = 0


@pytest.mark.promise("S2-08")
@every_provider
@every_way
def test_a_complete_answer_has_every_field(provider: str, way: str) -> None:
    cached = Usage(11, 7, cache_read_tokens=5)
    reply: Response[Any] = Response(ANSWER, usage=cached, reasoning="Let me think.")
    with WireServer(reply=reply) as server, asking(ADAPTERS[provider].make(server)) as asker:
        reply = asker.ask(way)
    assert (reply.text, reply.reasoning, reply.finish_reason) == (ANSWER, "Let me think.", "stop")
    assert reply.usage == cached
    assert reply.model == "only"
    assert reply.model_id == MODEL
    assert reply.response_id
    assert reply.tool_calls == ()


@every_provider
@every_way
def test_tools_make_the_round_trip(provider: str, way: str) -> None:
    with (
        WireServer(reply=Response("Looking.", tool_calls=(CALL,))) as server,
        asking(ADAPTERS[provider].make(server)) as asker,
    ):
        reply = asker.ask(way, CONVERSATION, tools=[weather], tool_choice="weather")
        assert [(each.name, each.arguments) for each in reply.tool_calls] == [
            (CALL.name, CALL.arguments)
        ]
        assert reply.tool_calls[0].id
        assert reply.finish_reason == "tool_calls"
        body = server.requests[0].body
    choice = body.get("tool_choice") or body["toolConfig"]
    assert "weather" in str(choice)
    assert "The weather of a city." in str(body["tools"])


@every_provider
@either_way
def test_structured_output_uses_the_providers_own_option(provider: str, way: str) -> None:
    with (
        WireServer(reply='{"name": "Paris", "people": 2}') as server,
        asking(ADAPTERS[provider].make(server)) as asker,
    ):
        reply = asker.ask(way, response_model=City)
        body = server.requests[0].body
    assert reply.parsed == City(name="Paris", people=2)
    fields = ("response_format", "text", "output_config", "generationConfig")
    (asked,) = (body[name] for name in fields if name in body)
    assert "schema" in str(asked).lower()
    assert "people" in str(asked)


@pytest.mark.promise("N10", "S4-25")
@every_provider
@either_way
def test_a_temperature_of_zero_is_sent_and_none_leaves_a_default_out(
    provider: str, way: str
) -> None:
    with WireServer() as server:
        adapter = ADAPTERS[provider].make(server, temperature=0.7, top_p=0.5)
        with asking(adapter) as asker:
            asker.ask(way, temperature=0, top_p=None)
        body = server.requests[0].body
    sent = {**body, **body.get("generationConfig", {})}
    assert sent["temperature"] == 0
    assert not {"top_p", "topP"} & set(sent)


@every_provider
def test_parameters_unknown_to_the_sdk_are_sent_in_the_body(provider: str) -> None:
    with WireServer() as server, asking(ADAPTERS[provider].make(server)) as asker:
        asker.ask("sync", top_k_of_the_house=3)
        assert server.requests[0].body["top_k_of_the_house"] == 3


@every_provider
@either_way
def test_a_parameter_that_is_not_json_is_an_invalid_request(provider: str, way: str) -> None:
    with WireServer() as server, asking(ADAPTERS[provider].make(server)) as asker:
        with pytest.raises(InvalidRequestError, match="JSON serializable"):
            asker.ask(way, option_of_the_house={"when": object()})
        assert server.requests == ()


@pytest.mark.promise("S4-32")
@every_provider
@either_way
def test_no_key_is_in_anything_that_is_printed(
    provider: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "agentkit")
    with WireServer() as server:
        server.always(faults.status(401, message=f"Incorrect API key provided: {KEY[:8]}***"))
        with asking(ADAPTERS[provider].make(server, api_key=KEY)) as asker:
            with pytest.raises(LLMError) as caught:
                asker.ask(way)
            printed = [repr(asker.adapter), repr(asker.llm), caplog.text, str(caught.value)]
        sent = server.requests[0].headers
    assert KEY in str(dict(sent)), "it did travel"
    printed += [repr(caught.value), "".join(traceback.format_exception(caught.value))]
    assert KEY not in "".join(printed)


@every_provider
@either_way
@pytest.mark.parametrize("key", [f"{KEY}\nx: y", f"{KEY}é", f"{KEY} {KEY}", " "])
def test_a_key_that_cannot_be_sent_is_rejected_unprinted(provider: str, way: str, key: str) -> None:
    with WireServer() as server:
        if provider == "compatible" and not key.strip():
            return
        adapter = ADAPTERS[provider].make(server)
        with asking(adapter.with_key(key)) as asker:
            with pytest.raises(ConfigurationError, match="API key") as caught:
                asker.ask(way)
            assert server.requests == ()
    assert KEY not in "".join(traceback.format_exception(caught.value))


@every_provider
def test_one_adapter_serves_two_event_loops_and_sync_callers(provider: str) -> None:
    with WireServer(reply=ANSWER) as server, asking(ADAPTERS[provider].make(server)) as asker:
        ways = ("async", "sync", "astream", "async", "stream")
        assert [asker.ask(way).text for way in ways] == [ANSWER] * 5


@every_provider
def test_after_close_the_next_call_opens_a_new_connection(provider: str) -> None:
    with WireServer(reply=ANSWER) as server, asking(ADAPTERS[provider].make(server)) as asker:
        asker.ask("sync")
        asker.adapter.close()
        server.wait_until(lambda each: each.connections == 0)
        assert asker.ask("sync").text == ANSWER


@every_provider
def test_a_closed_manager_leaves_no_connection_behind(provider: str, small_heap: None) -> None:
    """Of models that it made itself, sync and async; a socket left open would warn."""

    async def main(llm: LLMManager) -> None:
        async with llm:
            await llm.acomplete("capital?")
            await asyncio.to_thread(llm.complete, "capital?")

    with WireServer(reply=ANSWER) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        adapter = ADAPTERS[provider].make(server)
        llm = LLMManager(enable_caching=False)
        llm.register_model("only", adapter)

        async def all_of_it() -> None:
            await main(llm)
            await adapter.aclose()

        asyncio.run(all_of_it())
        server.wait_until(lambda each: each.connections == 0)
        gc.collect()


@pytest.mark.promise("S4-26")
@every_provider
@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_that_is_abandoned_closes_its_connection(provider: str, way: str) -> None:
    with (
        WireServer(reply="word " * 5000, chunk_delay=0.001) as server,
        asking(ADAPTERS[provider].make(server)) as asker,
    ):
        if way == "stream":
            with asker.llm.stream("capital?") as stream:
                assert next(iter(stream))
            server.wait_until(lambda each: each.connections == 0)
            return

        async def main() -> None:
            async with asker.llm.astream("capital?") as stream:
                async for _ in stream:
                    break
            await asyncio.to_thread(server.wait_until, lambda each: each.connections == 0)
            await asker.adapter.aclose()

        asyncio.run(main())


@pytest.mark.parametrize("provider", PROVIDERS)
def test_stream_events_carry_the_sdks_own_events(provider: str) -> None:
    with (
        WireServer(reply=ANSWER) as server,
        asking(ADAPTERS[provider].make(server)) as asker,
        asker.llm.stream("capital?") as stream,
    ):
        texts = [each for each in stream.events() if isinstance(each, TextDelta)]
    modules = {type(each.raw).__module__.partition(".")[0] for each in texts}
    assert len(modules) == 1
    assert not modules & {"agentkit", "builtins"}


@every_provider
def test_with_key_keeps_the_settings(provider: str) -> None:
    with WireServer() as server:
        adapter = ADAPTERS[provider].make(server, temperature=0.25).with_key("another-key")
        with asking(adapter) as asker:
            asker.ask("sync")
        (request,) = server.requests
    assert "'temperature': 0.25" in str(request.body)
    assert request.model == MODEL
    assert "another-key" in str(dict(request.headers))


@pytest.mark.parametrize("provider", sorted(set(ADAPTERS) - {"google", "google, native"}))
def test_the_id_of_another_providers_tool_call_is_shortened(provider: str) -> None:
    long = "call_" + "x" * 90
    messages = [
        *CONVERSATION[:2],
        type(CONVERSATION[2])("assistant", "", tool_calls=(type(CALL)(long, "weather"),)),
        type(CONVERSATION[3])("tool", "rain", tool_call_id=long),
    ]
    with WireServer() as server, asking(ADAPTERS[provider].make(server)) as asker:
        asker.ask("sync", messages)
        body = str(server.requests[0].body)
    assert long not in body


def test_rate_limits_are_read_from_the_headers() -> None:
    from agentkit.providers.response_fields import quota_from_headers

    openais = {"x-ratelimit-limit-requests": "500", "x-ratelimit-limit-tokens": "30000"}
    assert quota_from_headers(openais) == Quota(requests_per_minute=500, tokens_per_minute=30000)
    assert quota_from_headers(openais, daily_requests=True) == Quota(tokens_per_minute=30000)
    anthropics = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-output-tokens-limit": "8000",
    }
    assert quota_from_headers(anthropics) == Quota(50, 40000, 8000)
    odd = {"x-ratelimit-limit-requests": "-1", "x-ratelimit-limit-tokens": "many"}
    assert quota_from_headers(odd) is None
