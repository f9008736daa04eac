"""Converse and ConverseStream over real sockets: answers, ways, and connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import Response
from agentkit import errors as e
from agentkit.providers.bedrock.clients import Clients
from agentkit.providers.bedrock.converse import ConverseTarget
from agentkit.providers.bedrock.sessions import open_session
from agentkit.testing import WireServer, faults
from agentkit.types import End, Message, RawEvent, ReasoningDelta, TextDelta, ToolCall, Usage
from tests.helpers import until
from tests.providers.bedrock.wired import (
    ANSWER,
    DIRECT,
    MODEL,
    MODES,
    PROFILE,
    REGION,
    REGIONAL,
    ask,
    bodies,
    clients_at,
    details_of,
    given,
    heard,
    manager,
    region_of,
    target,
)

pytestmark = [pytest.mark.wire, pytest.mark.usefixtures("transport")]

CALLS = (ToolCall("t1", "weather", {"city": "Zürich"}), ToolCall("t2", "clock", {}))
RICH: Response[Any] = Response(
    "It depends.",
    Usage(input_tokens=30, output_tokens=7, cache_read_tokens=10, cache_write_tokens=15),
    finish_reason="tool_calls",
    tool_calls=CALLS,
    reasoning="Think first.",
)
NEEDS_PROFILE = faults.status(
    400,
    message=f"Invocation of model ID {MODEL} with on-demand throughput isn't supported. Retry your "
    "request with the ID or ARN of an inference profile that contains this model.",
)

every_way = pytest.mark.parametrize(
    ("mode", "stream"), [(mode, stream) for mode in MODES for stream in (False, True)]
)
modes = pytest.mark.parametrize("mode", MODES)

through_the_sdk = pytest.mark.parametrize("transport", ["sdk"], indirect=True)


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer(reply=ANSWER) as running:
        yield running


@pytest.fixture
def clients(server: WireServer) -> Iterator[Clients]:
    with clients_at(server.bedrock_url) as made:
        yield made


@every_way
def test_an_answer_with_everything_arrives_text_of(
    clients: Clients, server: WireServer, mode: str, stream: bool
) -> None:
    server.always(RICH)
    with manager(target(clients)) as llm:
        reply = ask(llm, mode, stream=stream)
    assert (reply.text, reply.reasoning) == (RICH.text, RICH.reasoning)
    assert reply.tool_calls == CALLS
    assert reply.usage == RICH.usage
    assert (reply.finish_reason, reply.response_id) == ("tool_calls", "req_1")
    (asked,) = server.requests
    assert (asked.provider, asked.model, asked.stream) == ("bedrock", MODEL, stream)


@pytest.mark.promise("B12")
@modes
def test_b12_reasoning_and_tool_use_stand_apart_from_the_text(
    clients: Clients, server: WireServer, mode: str
) -> None:
    server.always(RICH)
    with manager(target(clients)) as llm:
        events, _ = heard(llm, mode)
    texts = [each for each in events if isinstance(each, TextDelta)]
    assert [each.text for each in texts] == ["It", " depends."]
    assert [each.text for each in events if isinstance(each, ReasoningDelta)] == ["Think first."]
    raw = [each.raw for each in events if isinstance(each, RawEvent)]
    starts = [each["contentBlockStart"] for each in raw if "contentBlockStart" in each]
    assert [each["start"]["toolUse"]["name"] for each in starts] == ["weather", "clock"]
    assert isinstance(events[-1], End)
    assert events[-1].tool_calls == CALLS


def test_the_words_of_the_core_become_those_of_converse(
    clients: Clients, server: WireServer
) -> None:
    def weather(city: str) -> str:
        """The weather in a city."""
        return city

    messages = [
        Message("system", "Be brief."),
        Message("user", "And now?"),
        Message("assistant", "", tool_calls=(CALLS[0],)),
        Message("tool", "sunny", tool_call_id="t1"),
    ]
    with manager(target(clients)) as llm:
        llm.complete(
            messages, tools=[weather], temperature=0, max_tokens=50, top_p=0.5, stop="END", top_k=3
        )
    (body,) = bodies(server)
    assert body["system"] == [{"text": "Be brief."}]
    assert [each["role"] for each in body["messages"]] == ["user", "assistant", "user"]
    assert body["inferenceConfig"] == {
        "temperature": 0,
        "maxTokens": 50,
        "topP": 0.5,
        "stopSequences": ["END"],
    }
    assert body["additionalModelRequestFields"] == {"top_k": 3}
    (tool,) = body["toolConfig"]["tools"]
    assert tool["toolSpec"]["name"] == "weather"
    assert tool["toolSpec"]["inputSchema"]["json"]["required"] == ["city"]


def test_every_field_of_converse_is_sent_as_given(clients: Clients, server: WireServer) -> None:
    guard = {"guardrailIdentifier": "g1", "guardrailVersion": "1", "trace": "enabled"}
    fields: dict[str, Any] = {
        "guardrailConfig": guard,
        "performanceConfig": {"latency": "optimized"},
        "requestMetadata": {"team": "a"},
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
        "promptVariables": {"name": {"text": "x"}},
    }
    with manager(target(clients)) as llm:
        llm.complete("capital?", **given(**fields))
    (body,) = bodies(server)
    assert {name: body[name] for name in fields} == fields


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.maker.model-v1:0",
        "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc123",
    ],
)
def test_model_ids_with_colons_and_slashes_arrive_as_they_are(
    clients: Clients, server: WireServer, arn: str
) -> None:
    adapter = target(clients, DIRECT._replace(model_id=arn), region="eu-west-1")
    with manager(adapter) as llm:
        assert ask(llm, "sync").text == ANSWER
        assert ask(llm, "sync", stream=True).text == ANSWER
    assert {each.model for each in server.requests} == {arn}
    assert {region_of(each) for each in server.requests} == {"eu-west-1"}


@every_way
def test_a_request_that_is_malformed_is_never_sent(
    clients: Clients, server: WireServer, mode: str, stream: bool
) -> None:
    wrong = given(inferenceConfig={"temperature": "very secret"}, unheard={"of": 1})
    refused = pytest.raises(e.RequestValidationError, match="nothing was sent")
    with manager(target(clients), attempts=3) as llm, refused as raised:
        ask(llm, mode, stream=stream, **wrong)
    assert len(raised.value.validation_errors) == 2
    assert "temperature" in str(raised.value.validation_errors)
    assert "very secret" not in f"{raised.value} {raised.value.validation_errors}"
    assert server.requests == ()


class TestTheWayToAModel:
    @every_way
    def test_is_chosen_inside_one_attempt_and_remembered(
        self, clients: Clients, server: WireServer, mode: str, stream: bool
    ) -> None:
        server.always(NEEDS_PROFILE, model=MODEL)
        with manager(target(clients, DIRECT, REGIONAL)) as llm:
            reply = ask(llm, mode, stream=stream, **given())
            again = ask(llm, mode, stream=stream)
        assert (reply.text, len(reply.ledger.sent)) == (ANSWER, 1)
        assert again.text == ANSWER
        assert [each.model for each in server.requests] == [MODEL, PROFILE, PROFILE]
        assert details_of(reply) == [
            {
                "model": "Model",
                "region": REGION,
                "model_id": PROFILE,
                "access_method": "regional_cris",
                "omitted": (),
                "parameters_removed": (),
            }
        ]

    def test_is_an_error_when_there_is_no_other(self, clients: Clients, server: WireServer) -> None:
        server.always(NEEDS_PROFILE)
        with manager(target(clients)) as llm, pytest.raises(e.InvalidRequestError) as raised:
            ask(llm, "sync", **given())
        assert len(server.requests) == 1
        (details,) = details_of(raised.value)
        assert details is not None
        assert isinstance(details["error"], e.InvalidRequestError)

    def test_is_not_changed_for_another_error(self, clients: Clients, server: WireServer) -> None:
        server.always(faults.status(400, message="messages: on no account"))
        llm = manager(target(clients, DIRECT, REGIONAL))
        with llm, pytest.raises(e.InvalidRequestError):
            ask(llm, "sync")
        assert [each.model for each in server.requests] == [MODEL]


@every_way
def test_the_sdk_retries_nothing(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, mode: str, stream: bool
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "4")
    monkeypatch.setenv("AWS_RETRY_MODE", "legacy")
    for fault in (faults.status(503), faults.status(429), faults.reset()):
        server.clear()
        server.always(fault)
        with (
            clients_at(server.bedrock_url, session_factory=open_session) as clients,
            manager(target(clients)) as llm,
            pytest.raises(e.ProviderError),
        ):
            ask(llm, mode, stream=stream)
        assert len(server.requests) == 1


def test_many_threads_share_one_client(clients: Clients, server: WireServer) -> None:
    adapter = target(clients)
    replies: list[str] = []
    with manager(adapter) as llm:
        start = threading.Barrier(4)

        def work() -> None:
            start.wait()
            for number in range(5):
                reply = ask(llm, "sync", stream=bool(number % 2))
                replies.append(reply.text)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert replies == [ANSWER] * 20
    assert server.connections <= 4


@modes
def test_a_connection_is_kept_for_the_next_request(
    clients: Clients, server: WireServer, mode: str, transport: str
) -> None:
    with manager(target(clients)) as llm:
        for stream in (False, True, True, False):
            assert ask(llm, mode, stream=stream).text == ANSWER
    if mode == "async" and transport == "native":  # they end with their event loop
        server.wait_until(lambda at: at.connections == 0)
    else:
        assert server.connections == 1


def test_leaving_a_stream_early_closes_its_connection(server: WireServer) -> None:
    server.always(faults.stalled_stream(2))
    with clients_at(server.bedrock_url) as clients, manager(target(clients)) as llm:
        with llm.stream("capital?") as opened:
            assert next(iter(opened)) == "The"
        server.wait_until(lambda at: at.connections == 0)


def test_leaving_an_async_stream_early_frees_connection_and_thread(
    server: WireServer,
) -> None:
    server.always(faults.stalled_stream(2))

    async def main(clients: Clients) -> None:
        with manager(target(clients)) as llm:
            async with llm.astream("capital?") as opened:
                async for text in opened:
                    assert text == "The"
                    break
            await asyncio.to_thread(server.wait_until, lambda at: at.connections == 0)

    with clients_at(server.bedrock_url) as clients:
        asyncio.run(main(clients))
        assert_all_threads_are_free(clients)


@pytest.mark.parametrize("fault", [faults.silence(), faults.stalled_stream(0)], ids=repr)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
def test_a_cancelled_call_cuts_its_connection_and_frees_its_thread(
    server: WireServer, stream: bool, fault: faults.Fault
) -> None:
    server.always(fault)

    async def main(clients: Clients) -> None:
        with manager(target(clients)) as llm:
            task = asyncio.create_task(_text_of(llm, stream, **given()))
            await asyncio.to_thread(server.wait_until, lambda at: len(at.requests) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(server.wait_until, lambda at: at.connections == 0)

    with clients_at(server.bedrock_url) as clients:
        asyncio.run(main(clients))
        assert_all_threads_are_free(clients)


@through_the_sdk
def test_closing_the_clients_ends_a_stream_that_waits_for_a_thread(server: WireServer) -> None:
    server.always(faults.silence())

    async def main(clients: Clients) -> None:
        with manager(target(clients)) as llm:
            waiting = [asyncio.create_task(_text_of(llm, True)) for _ in range(clients.concurrency)]
            busy = clients.concurrency
            await asyncio.to_thread(server.wait_until, lambda at: len(at.requests) == busy)
            late = asyncio.create_task(_text_of(llm, True, **given()))
            await asyncio.sleep(0)
            clients.close()
            with pytest.raises(e.LLMError, match="closed"):
                await asyncio.wait_for(late, 10)
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    with clients_at(server.bedrock_url) as clients:
        asyncio.run(main(clients))


@through_the_sdk
def test_a_stream_that_was_cancelled_before_its_turn_is_never_requested(server: WireServer) -> None:
    server.always(faults.silence())

    async def main(clients: Clients) -> None:
        with manager(target(clients)) as llm:
            waiting = [asyncio.create_task(_text_of(llm, True)) for _ in range(clients.concurrency)]
            busy = clients.concurrency
            await asyncio.to_thread(server.wait_until, lambda at: len(at.requests) == busy)
            late = asyncio.create_task(_text_of(llm, True, **given()))
            await asyncio.sleep(0)
            for task in (late, *waiting):
                task.cancel()
            await asyncio.gather(late, *waiting, return_exceptions=True)
            await asyncio.to_thread(server.wait_until, lambda at: at.connections == 0)

    with clients_at(server.bedrock_url) as clients:
        asyncio.run(main(clients))
        assert_all_threads_are_free(clients)
        assert len(server.requests) == clients.concurrency


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
def test_a_silent_service_holds_no_thread_for_longer_than_the_attempt(
    clients: Clients, server: WireServer, stream: bool
) -> None:
    adapter = target(clients)
    with manager(adapter) as llm:
        ask(llm, "sync", stream=stream)  # to make the client takes longer than a request
    server.always(faults.stalled_stream(1))
    with manager(adapter, timeout=0.2) as llm:
        with pytest.raises((e.ProviderTimeoutError, e.StreamInterruptedError)):
            ask(llm, "sync", stream=stream)
        server.wait_until(lambda at: at.connections == 0)
        until(lambda: llm.get_metrics()["stuck_calls"] == 0)


def test_a_connection_of_another_request_is_never_cut(clients: Clients, server: WireServer) -> None:
    adapter = target(clients)

    async def main() -> None:
        with manager(adapter) as llm:
            for _ in range(5):
                async with llm.astream("capital?") as opened:
                    async for _ in opened.events():
                        pass
                assert (await llm.acomplete("capital?")).text == ANSWER
            assert server.connections == 1

    asyncio.run(main())
    assert len(server.requests) == 10


def assert_all_threads_are_free(clients: Clients) -> None:
    """As many tasks as there are threads can meet."""
    meeting = threading.Barrier(clients.concurrency)
    for done in [clients.executor.submit(meeting.wait, 5) for _ in range(clients.concurrency)]:
        done.result()


async def _text_of(llm: Any, stream: bool, **params: Any) -> str:
    if not stream:
        return str((await llm.acomplete("capital?", **params)).text)
    async with llm.astream("capital?", **params) as opened:
        return "".join([text async for text in opened])


def test_a_target_names_itself_without_its_credentials(clients: Clients) -> None:
    adapter: ConverseTarget = target(clients)
    assert repr(adapter) == "<ConverseTarget Model in us-east-1>"


@every_way
def test_the_tokens_of_a_withheld_answer_are_billed(
    clients: Clients, server: WireServer, mode: str, stream: bool
) -> None:
    server.script(Response("", Usage(70, 3), finish_reason="content_filter"))
    with manager(target(clients)) as llm, pytest.raises(e.ContentFilterError) as caught:
        ask(llm, mode, stream=stream)
    assert caught.value.usage == Usage(70, 3)
    assert caught.value.ledger is not None
    (entry,) = caught.value.ledger.sent
    assert (entry.input_tokens, entry.output_tokens) == (70, 3)
