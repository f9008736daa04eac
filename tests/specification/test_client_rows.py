"""The client module document's promises, S2-01 to S2-41, where no other test proves them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import (
    ConfigurationError,
    DeadlineExceededError,
    InvalidRequestError,
    LLMManager,
    LLMProvider,
    Message,
    MessageRole,
    Middleware,
    RateLimitError,
    Response,
    RetryPolicy,
    ServerError,
    UnknownModelError,
    get_llm_manager,
)
from agentkit.testing import FakeClock, WireServer, faults
from agentkit.types import Request
from tests.specification.clients import PROMPT, Keyed, anthropic, configured, key_of, pooled

URLS: dict[LLMProvider, Callable[[WireServer], str]] = {
    LLMProvider.ANTHROPIC: lambda server: server.anthropic_url,
    LLMProvider.OPENAI: lambda server: server.openai_url,
    LLMProvider.GOOGLE: lambda server: server.google_url,
    LLMProvider.GROQ: lambda server: server.groq_url,
    LLMProvider.LOCAL: lambda server: server.openai_url,
}


@pytest.mark.promise("S2-01")
@pytest.mark.wire
@pytest.mark.parametrize("provider", LLMProvider)
def test_s2_01_every_named_provider_answers(provider: LLMProvider, tmp_path: Path) -> None:
    with WireServer(reply="Paris.") as server:
        text = f"providers:\n  {provider}:\n    models: m\n    base_url: {URLS[provider](server)}\n"
        keyless = provider is LLMProvider.LOCAL
        with configured(tmp_path, text + ("" if keyless else "    api_keys: any\n")) as llm:
            assert asyncio.run(llm.get_client(provider).chat("capital?")) == "Paris."
        assert server.requests[0].model in ("m", "models/m")


@pytest.mark.promise("S2-02")
@pytest.mark.wire
def test_s2_02_a_hundred_calls_are_spread_over_the_keys_of_a_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANTHROPIC_API_KEYS", "k1,k2,k3")

    async def main() -> None:
        async with await get_llm_manager() as llm:
            client = llm.get_client(LLMProvider.ANTHROPIC)
            for number in range(100):
                await client.chat(f"{number}")

    with WireServer() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.anthropic_url)
        asyncio.run(main())
        assert Counter(map(key_of, server.requests)) == {"k1": 34, "k2": 33, "k3": 33}


@pytest.mark.promise("S2-03")
@pytest.mark.parametrize("name", ["ANTHROPIC", "OPENAI", "GOOGLE", "GROQ"])
def test_s2_03_a_single_key_variable_sets_its_provider_up_and_the_plural_wins(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    async def clients() -> int:
        async with await get_llm_manager() as llm:
            assert llm.list_models() == [name.lower()]
            llm.get_client(LLMProvider[name])
            return int(llm.get_status()["pools"][name.lower()]["total_clients"])

    monkeypatch.setenv(f"{name}_API_KEY", "one")
    assert asyncio.run(clients()) == 1
    monkeypatch.setenv(f"{name}_API_KEYS", "two,three")
    assert asyncio.run(clients()) == 2


@pytest.mark.promise("S2-04")
@given(
    number=st.integers(1, 200),
    dice=st.floats(0, 1, exclude_max=True),
    base=st.floats(0.001, 100),
    cap=st.floats(0.1, 1000),
)
def test_s2_04_back_off_doubles_up_to_its_cap_within_a_quarter(
    number: int, dice: float, base: float, cap: float
) -> None:
    policy = RetryPolicy(base_delay=base, max_delay=cap)
    nominal = min(base * 2.0 ** (number - 1), cap)
    assert 0.75 * nominal - 1e-9 <= policy.backoff(number, lambda: dice) <= 1.25 * nominal + 1e-9


@pytest.mark.promise("S2-09")
def test_s2_09_a_provider_is_registered_replaced_and_removed() -> None:
    llm = LLMManager(enable_caching=False)
    with pytest.raises(UnknownModelError):
        llm.get_client("mine")
    llm.register_model("mine", lambda prompt, kwargs: "old")
    client = llm.get_client("mine")
    with pytest.raises(ConfigurationError, match="mine"):
        llm.register_model("mine", lambda prompt, kwargs: "twice")
    llm.register_model("mine", lambda prompt, kwargs: "new", replace=True)
    assert asyncio.run(client.chat("hi")) == "new"
    llm.unregister_model("mine")
    with pytest.raises(UnknownModelError):
        llm.get_client("mine")


@pytest.mark.promise("S2-10")
def test_s2_10_closing_a_client_twice_is_harmless_and_the_next_one_works() -> None:
    llm = LLMManager(enable_caching=False)
    llm.register_model("m", lambda prompt, kwargs: "x")

    async def main() -> str:
        client = llm.get_client()
        await client.close()
        await client.close()
        assert await client.chat("hi") == "x"
        answered = await llm.get_client().chat("hi")
        assert await llm.aclose() == await llm.aclose() == []
        with pytest.raises(ConfigurationError, match="closed"):
            await client.chat("hi")
        return answered

    assert asyncio.run(main()) == "x"


@pytest.mark.promise("S2-12", "S4-22")
@pytest.mark.wire
def test_s2_12_one_manager_a_loop_and_a_fresh_one_after_close(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")

    async def both() -> tuple[LLMManager, LLMManager]:
        first = await get_llm_manager()
        assert await get_llm_manager() is first
        await first.aclose()
        fresh = await get_llm_manager()
        assert await fresh.get_client().chat("hi")
        return first, fresh

    with WireServer() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.anthropic_url)
        managers = [*asyncio.run(both()), *asyncio.run(both())]
        assert len({id(each) for each in managers}) == 4
        assert [each.closed for each in managers] == [True, False, True, False]
        for each in managers:
            each.close()


class Echo:
    """All that a provider of one's own needs."""

    provider = "echo"

    def send(self, request: Request) -> Response[Any]:
        return Response(request.text.upper())


@pytest.mark.promise("S2-14")
def test_s2_14_a_provider_of_a_few_lines_has_every_way_of_asking_and_middleware() -> None:
    seen: list[str] = []

    class Seen(Middleware):
        def process_response(self, request: Request, response: Response[Any]) -> Response[Any]:
            seen.append(response.text)
            return response

    llm = LLMManager(enable_caching=False, middleware=[Seen()])
    llm.register_model("echo", Echo())

    async def main() -> list[str]:
        client = llm.get_client("echo")
        streamed = "".join([chunk async for chunk in client.stream_chat("a")])
        typed = await client.complete("[1, 2]", response_model=list[int])
        return [streamed, (await client.complete("b")).provider, str(typed)]

    assert asyncio.run(main()) == ["A", "echo", "[1, 2]"]
    assert (llm.generate("c"), "".join(llm.stream("d"))) == ("C", "D")
    assert (seen[0], seen[2:], len(seen)) == ("A", ["B", "C", "D"], 5)


@pytest.mark.promise("S2-16")
def test_s2_16_failures_are_counted_for_each_key() -> None:
    def behave(key: str) -> str:
        if key == "k1":
            raise ServerError("broken", status=500)
        return "x"

    llm = pooled(Keyed(behave), clock=FakeClock())
    for number in range(2):
        llm.generate(f"{number}")
    clients = llm.get_status()["pools"]["m"]["clients"]
    assert [(each["served"], each["failures"]) for each in clients] == [(2, 2), (2, 0)]


@pytest.mark.promise("S2-19")
def test_s2_19_a_message_is_made_by_position_or_by_name() -> None:
    by_position = Message(MessageRole.USER, "hi")
    assert by_position == Message(role="user", content="hi")
    assert by_position.role == "user"
    with pytest.raises(InvalidRequestError, match="role"):
        Message("robot", "hi")


def _in_two_minutes() -> str:
    return formatdate(time.time() + 120, usegmt=True)


@pytest.mark.promise("S2-21")
@pytest.mark.wire
@pytest.mark.parametrize(
    ("headers", "earliest", "latest"),
    [
        (lambda: {"retry_after": 7}, 7.0, 7.0),
        (lambda: {"retry_after_ms": 1500}, 1.5, 1.5),
        (lambda: {"retry_after": _in_two_minutes()}, 60.0, 120.0),
    ],
)
def test_s2_21_a_rate_limit_tells_when_to_come_back(
    headers: Callable[[], dict[str, Any]], earliest: float, latest: float, tmp_path: Path
) -> None:
    with WireServer() as server, configured(tmp_path, anthropic(server)) as llm:
        server.script(faults.status(429), faults.status(429, **headers()))
        told: list[float | None] = []
        for _ in range(2):
            with pytest.raises(RateLimitError) as caught:
                asyncio.run(llm.get_client().complete(PROMPT, max_retries=1))
            told.append(caught.value.retry_after)
    assert told[0] is None
    assert earliest <= (told[1] or 0.0) <= latest


@pytest.mark.promise("S2-24")
@pytest.mark.wire
def test_s2_24_anthropic_gets_system_prompt_picture_and_200k_tokens(tmp_path: Path) -> None:
    long = "word " * 200_000
    picture = {"type": "image", "data": b"\x89PNG", "media_type": "image/png"}
    messages = [Message("user", [{"type": "text", "text": long}, picture])]
    with WireServer() as server, configured(tmp_path, anthropic(server)) as llm:
        asyncio.run(llm.get_client().complete(messages, system_prompt="Be brief.", max_tokens=9))
        body = server.requests[0].body
    text, image = body["messages"][0]["content"]
    assert (body["system"], body["max_tokens"], text["text"]) == ("Be brief.", 9, long)
    assert image["source"]["media_type"] == "image/png"
    assert [each["role"] for each in body["messages"]] == ["user"]


@pytest.mark.promise("S2-32", "S2-33", "S2-34")
@pytest.mark.wire
@pytest.mark.parametrize(
    ("script", "requests", "error"),
    [
        ((faults.reset(), faults.reset(), "Paris."), 3, None),  # S2-32
        ((faults.status(503), faults.status(503), faults.status(503), "late"), 3, ServerError),
        ((faults.status(400), "late"), 1, InvalidRequestError),  # S2-33
    ],
)
def test_s2_32_to_34_three_attempts_for_what_may_pass_and_one_for_what_may_not(
    script: tuple[Any, ...], requests: int, error: type[Exception] | None, tmp_path: Path
) -> None:
    """Each attempt is one request on the wire: no SDK retries underneath."""
    with WireServer() as server, configured(tmp_path, anthropic(server)) as llm:
        server.script(*script)
        with nullcontext() if error is None else pytest.raises(error):
            assert asyncio.run(llm.get_client().complete(PROMPT)).text == "Paris."
        assert len(server.requests) == requests


@pytest.mark.promise("S2-36", "S4-46")
@pytest.mark.wire
def test_s2_36_a_repeated_completion_comes_from_the_response_cache(tmp_path: Path) -> None:
    with WireServer() as server, configured(tmp_path, anthropic(server), cache="memory") as llm:

        async def main() -> list[bool]:
            client = llm.get_client()
            return [(await client.complete(PROMPT)).cached for _ in range(2)]

        assert asyncio.run(main()) == [False, True]
        assert len(server.requests) == 1


@pytest.mark.promise("S2-38")
def test_s2_38_a_model_that_hangs_is_cancelled_at_the_timeout() -> None:
    ended: list[str] = []

    async def hangs(prompt: str, kwargs: dict[str, Any]) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return "never"

    llm = LLMManager(enable_caching=False)
    llm.register_model("m", hangs)
    with pytest.raises(DeadlineExceededError):
        asyncio.run(llm.get_client().complete(PROMPT, timeout=0.02))
    assert ended == ["cancelled"]


@pytest.mark.promise("S2-40")
@pytest.mark.wire
def test_s2_40_usage_sums_up_over_the_calls_of_a_client(tmp_path: Path) -> None:
    with WireServer() as server, configured(tmp_path, anthropic(server)) as llm:

        async def main() -> int:
            client = llm.get_client()
            return sum([(await client.complete(PROMPT)).usage.total_tokens for _ in range(3)])

        total = asyncio.run(main())
        assert total > 0
        assert llm.get_status()["metrics"]["tokens"]["total"] == total
