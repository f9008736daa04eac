"""Streams: text by default, events beside it, and nothing twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentkit.bedrock import AuthenticationError
from agentkit.errors import StreamInterruptedError
from tests.bedrock.runtime import (
    HAIKU,
    FakeClients,
    manager,
    message,
    refused,
    text_events,
    throttled,
)
from tests.helpers import until

EAST, WEST = "us-east-1", "us-west-2"
BROKEN = refused("modelStreamErrorException", "boom", 424)


def read(llm: Any, mode: str, **how: Any) -> tuple[list[str], Any]:
    if mode == "sync":
        stream = llm.converse_stream([message()], **how)
        return [str(chunk) for chunk in stream if chunk], stream

    async def main() -> tuple[list[str], Any]:
        astream = llm.aconverse_stream([message()], **how)
        return [str(chunk) async for chunk in astream if chunk], astream

    return asyncio.run(main())


both = pytest.mark.parametrize("mode", ["sync", "async"])


@pytest.mark.promise("S0-31", "S0-50", "S1-34")
@both
def test_text_usage_and_metrics(mode: str) -> None:
    texts, stream = read(manager(FakeClients("Hello| world")), mode)
    assert texts == ["Hello", " world"]
    assert stream.get_full_content() == "Hello world"
    assert stream.is_streaming_complete()
    assert stream.stop_reason == "end_turn"
    assert stream.get_total_tokens() == 5
    assert (stream.model_used, stream.region_used) == (HAIKU, EAST)
    metrics = stream.get_metrics()
    assert metrics["time_to_first_token_ms"] >= 0
    assert metrics["api_latency_ms"] == 7
    assert stream.get_recovery_info()["total_exceptions"] == 0


@pytest.mark.promise("S0-49", "S1-31")
def test_both_printed_loops_work() -> None:
    """Chunks are texts, and read like the service's own events, too."""
    found = []
    for chunk in manager(FakeClients("Hello| world")).converse_stream([message()]):
        if chunk.get("contentBlockDelta"):
            found.append(chunk["contentBlockDelta"]["delta"]["text"])
        elif chunk.get("messageStop"):
            found.append("|")
    assert found == ["Hello", " world", "|"]


def test_an_event_of_a_chunk_is_read_with_or_without_its_inner_name() -> None:
    start = {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "u1", "name": "look"}}}
    call = {"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}}
    events = [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockStart": start},
        {"contentBlockDelta": call},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "tool_use"}},
    ]
    chunks = list(manager(FakeClients(events)).converse_stream([message()]))
    begun = next(chunk["contentBlockStart"] for chunk in chunks if chunk.get("contentBlockStart"))
    assert begun["toolUse"] == begun["start"]["toolUse"] == {"toolUseId": "u1", "name": "look"}
    delta = next(chunk["contentBlockDelta"] for chunk in chunks if chunk.get("contentBlockDelta"))
    assert delta["toolUse"] == delta["delta"]["toolUse"] == {"input": "{}"}
    assert chunks[0].get("metadata") is None
    assert {"contentBlockStart": start} in [chunk.event for chunk in chunks]


@pytest.mark.promise("S1-32")
def test_tool_use_and_reasoning_stand_apart() -> None:
    events: list[Any] = [
        {"messageStart": {"role": "assistant"}},
        {
            "contentBlockDelta": {
                "contentBlockIndex": 0,
                "delta": {"reasoningContent": {"text": "hm"}},
            }
        },
        {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"text": "See:"}}},
        {
            "contentBlockStart": {
                "contentBlockIndex": 2,
                "start": {"toolUse": {"toolUseId": "u1", "name": "look"}},
            }
        },
        {
            "contentBlockDelta": {
                "contentBlockIndex": 2,
                "delta": {"toolUse": {"input": '{"at": "sky"}'}},
            }
        },
        {"contentBlockStop": {"contentBlockIndex": 2}},
        {"messageStop": {"stopReason": "tool_use"}},
    ]
    stream = manager(FakeClients(events)).converse_stream([message()])
    raw = list(stream.events())
    assert stream.get_full_content() == "See:"
    assert stream.get_reasoning()[0].text == "hm"
    (use,) = stream.get_tool_uses()
    assert (use.name, dict(use.input)) == ("look", {"at": "sky"})
    assert any(event.get("contentBlockStart") for event in raw)


@pytest.mark.promise("B8")
@both
def test_b8_a_refused_stream_is_an_error(mode: str) -> None:
    clients = FakeClients(then=refused("AccessDeniedException", status=403))
    with pytest.raises(AuthenticationError):
        read(manager(clients, regions=[EAST]), mode)


@pytest.mark.promise("B9", "S0-51")
def test_b9_interrupted_everywhere_is_a_failure_and_shows_nothing_twice() -> None:
    clients = FakeClients(then=lambda region, sent: [*text_events("Hello ", stop=None), BROKEN])
    stream = manager(clients, models=["Claude Sonnet 5"]).converse_stream([message()])
    shown: list[str] = []
    with pytest.raises(StreamInterruptedError) as caught:
        shown.extend(map(str, stream))
    assert caught.value.partial == "".join(shown) == "Hello "
    assert len(caught.value.response.attempts) == 1  # type: ignore[attr-defined] # as documented
    assert stream.get_full_content() == "Hello "
    assert not stream.is_streaming_complete()


@pytest.mark.promise("B10", "S1-33")
@both
def test_recovery_continues_where_it_broke_and_changes_no_message(
    mode: str,
) -> None:
    clients = FakeClients([*text_events("Hello ", "world ", stop=None), BROKEN], " how are you|?")
    llm = manager(clients)
    asked = [message()]
    before = repr(asked)
    if mode == "sync":
        stream: Any = llm.converse_stream(asked)
        text = "".join(stream)
    else:

        async def main() -> tuple[str, Any]:
            astream = llm.aconverse_stream(asked)
            return "".join([str(chunk) async for chunk in astream]), astream

        text, stream = asyncio.run(main())
    assert text == "Hello world how are you?"
    assert repr(asked) == before
    assert clients.order == [EAST, WEST]
    begun = clients.asked[1][1]["messages"][-1]
    assert begun == {"role": "assistant", "content": [{"text": "Hello world"}]}
    info = stream.get_recovery_info()
    assert (info["target_switches"], info["recovered_exceptions"]) == (1, info["total_exceptions"])


@pytest.mark.promise("B11")
@both
def test_b11_in_band_errors_before_content_move_on(mode: str) -> None:
    throttle = refused("throttlingException", status=429)
    clients = FakeClients([{"messageStart": {"role": "assistant"}}, throttle], "fine")
    texts, stream = read(manager(clients), mode)
    assert texts == ["fine"]
    assert stream.region_used == WEST
    assert len(stream.attempts) == 2


@both
def test_a_stream_without_its_end_is_interrupted(mode: str) -> None:
    clients = FakeClients(then=lambda region, arguments: text_events("Hello", stop=None))
    with pytest.raises(StreamInterruptedError) as caught:
        read(manager(clients, models=["Claude Sonnet 5"], regions=[EAST]), mode)
    assert caught.value.partial == "Hello"


@both
def test_leaving_early_closes_the_stream(mode: str) -> None:
    clients = FakeClients("one|two|three")
    llm = manager(clients)
    if mode == "sync":
        with llm.converse_stream([message()]) as stream:
            next(chunk for chunk in stream if chunk)
    else:

        async def main() -> None:
            async with llm.aconverse_stream([message()]) as astream:
                async for chunk in astream:
                    if chunk:
                        break

        asyncio.run(main())
    until(lambda: clients.streams[0].closed)


@both
def test_fallback_before_content_is_free(mode: str) -> None:
    clients = FakeClients(throttled(), "fine")
    texts, stream = read(manager(clients), mode)
    assert texts == ["fine"]
    assert stream.get_target_switches() == 1


@both
def test_text_blocks_are_a_line_each_in_a_stream_as_in_a_complete_answer(mode: str) -> None:
    blocks = [{"text": "Paris."}, {"text": ""}, {"text": "And Rome."}]
    message_ = {"role": "assistant", "content": blocks}
    complete = manager(FakeClients({"output": {"message": message_}, "stopReason": "end_turn"}))
    events: list[dict[str, Any]] = [{"messageStart": {"role": "assistant"}}]
    for index, block in enumerate(blocks):
        for letter in block["text"]:
            delta = {"contentBlockIndex": index, "delta": {"text": letter}}
            events.append({"contentBlockDelta": delta})
        events.append({"contentBlockStop": {"contentBlockIndex": index}})
    events.append({"messageStop": {"stopReason": "end_turn"}})
    texts, stream = read(manager(FakeClients(events)), mode)
    assert complete.converse([message()]).get_content() == "Paris.\nAnd Rome."
    assert stream.get_full_content() == "".join(texts) == "Paris.\nAnd Rome."
