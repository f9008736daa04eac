"""Cache points: at most four, none behind a short prefix, none where the caller placed his own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.bedrock import (
    CacheConfig,
    CacheErrorHandling,
    CacheStrategy,
    ConfigurationError,
    create_user_message,
)
from agentkit.bedrock.messages.cache_points import block_tokens, with_cache_points
from agentkit.errors import InvalidRequestError
from tests.bedrock.messages.samples import PNG, accepts
from tests.bedrock.runtime import FakeClients, manager, message, refused

LONG = "word " * 1200
"""Text of more than the shortest prefix."""
SHORT = "brief"
TOOLS = {
    "tools": [
        {
            "toolSpec": {
                "name": "look",
                "description": LONG,
                "inputSchema": {"json": {"type": "object"}},
            }
        }
    ]
}
POINT = {"cachePoint": {"type": "default"}}


def text(words: str) -> dict[str, Any]:
    return {"text": words}


def image() -> dict[str, Any]:
    return {"image": {"format": "png", "source": {"bytes": PNG}}}


def turns(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def placed(arguments: dict[str, Any], **config: Any) -> dict[str, Any]:
    return with_cache_points(arguments, CacheConfig(enabled=True, **config))


def marks(blocks: list[Any]) -> list[int]:
    """Where the points are."""
    return [place for place, block in enumerate(blocks) if "cachePoint" in block]


def content(arguments: dict[str, Any]) -> list[Any]:
    return [block for each in arguments["messages"] for block in each["content"]]


def count(arguments: dict[str, Any]) -> int:
    tools = arguments.get("toolConfig", {}).get("tools", [])
    return len(marks([*tools, *arguments.get("system", []), *content(arguments)]))


@pytest.mark.promise("S1-37")
def test_caching_is_off_by_default_and_one_flag_turns_it_on() -> None:
    long = create_user_message().add_text(LONG).add_text("question").build()
    for config, points in ((None, 0), (CacheConfig(), 0), (CacheConfig(enabled=True), 1)):
        clients = FakeClients("x")
        manager(clients, cache_config=config).converse([long])
        assert len(marks(clients.asked[0][1]["messages"][0]["content"])) == points


@pytest.mark.promise("S1-38")
def test_conservative_places_one_point_after_what_probably_recurs() -> None:
    found = placed(turns(text(LONG), text(LONG), text("the question")))
    assert marks(content(found)) == [2]
    assert accepts(*found["messages"])


def test_no_point_is_placed_behind_a_prefix_the_service_would_not_cache() -> None:
    assert count(placed(turns(text(SHORT), text(LONG)))) == 0
    assert count(placed(turns(text(LONG), text(SHORT)), cache_point_threshold=5000)) == 0
    assert count(placed(turns(text(LONG), text(SHORT)), cache_point_threshold=0)) == 1
    assert count(placed(turns(text("word " * 500), text(SHORT)), cache_point_threshold=0)) == 0


def test_the_last_block_never_has_a_point_behind_it() -> None:
    for strategy in CacheStrategy:
        assert marks(content(placed(turns(text(LONG)), strategy=strategy))) == []


@pytest.mark.promise("S1-39")
def test_aggressive_places_a_point_after_each_large_block_up_to_four() -> None:
    three = placed(turns(*[text(LONG)] * 3, text(SHORT)), strategy="aggressive")
    assert marks(content(three)) == [1, 3, 5]
    seven = placed(turns(*[text(LONG)] * 7, text(SHORT)), strategy=CacheStrategy.AGGRESSIVE)
    assert count(seven) == 4


@pytest.mark.promise("B17")
def test_b17_tools_and_system_get_points_too_in_the_services_order() -> None:
    asked = {**turns(text(LONG), text(SHORT)), "system": [text(LONG)], "toolConfig": TOOLS}
    found = placed(asked)
    assert marks(found["toolConfig"]["tools"]) == [1]
    assert marks(found["system"]) == [1]
    assert marks(content(found)) == [1]
    assert accepts(*found["messages"], system=found["system"], toolConfig=found["toolConfig"])
    without = placed(asked, auto_cache_system_messages=False)
    assert (marks(without["system"]), marks(without["toolConfig"]["tools"])) == ([], [])
    assert marks(content(without)) == [1]


@pytest.mark.promise("S1-40")
def test_custom_rules_say_which_blocks() -> None:
    asked = turns(text(LONG), image(), text(LONG * 2), image(), text(SHORT))
    texts = placed(asked, strategy="custom", custom_rules={"cache_text_blocks_over": 1500})
    assert marks(content(texts)) == [3]
    images = placed(asked, strategy="custom", custom_rules={"cache_all_images": True})
    assert marks(content(images)) == [2, 5]
    assert count(placed(asked, strategy="custom")) > 0


@pytest.mark.parametrize("strategy", list(CacheStrategy))
def test_to_the_callers_own_points_no_other_is_added_in_the_messages(
    strategy: CacheStrategy,
) -> None:
    asked = {**turns(text(LONG), POINT, text(LONG), text(SHORT)), "system": [text(LONG), POINT]}
    found = placed(asked, strategy=strategy)
    assert content(found) == content(asked)
    assert found["system"] == asked["system"]


def test_the_callers_points_count_towards_the_four() -> None:
    asked = {
        **turns(POINT, text(LONG), POINT, text(LONG), POINT, text(LONG), POINT, text(SHORT)),
        "system": [text(LONG)],
    }
    assert count(placed(asked)) == 4


def test_points_live_as_long_as_configured() -> None:
    (point,) = (
        block
        for block in content(placed(turns(text(LONG), text(SHORT)), ttl="1h"))
        if "cachePoint" in block
    )
    assert point["cachePoint"] == {"type": "default", "ttl": "1h"}


BLOCKS = st.sampled_from([text(LONG), text(SHORT), image(), POINT, text("word " * 600)])


@pytest.mark.promise("B17")
@given(
    messages=st.lists(st.lists(BLOCKS, min_size=1, max_size=6), min_size=1, max_size=5),
    system=st.lists(st.sampled_from([text(LONG), text(SHORT)]), max_size=3),
    strategy=st.sampled_from(CacheStrategy),
    threshold=st.integers(0, 3000),
)
def test_any_request_keeps_its_blocks_and_never_gets_a_fifth_point(
    messages: list[Any], system: list[Any], strategy: CacheStrategy, threshold: int
) -> None:
    asked = {
        "messages": [{"role": "user", "content": blocks} for blocks in messages],
        "system": system,
        "toolConfig": TOOLS,
    }
    before, own = copy.deepcopy(asked), count(asked)
    found = placed(asked, strategy=strategy, cache_point_threshold=threshold)
    assert asked == before
    assert count(found) <= max(4, own)
    rest = [block for block in content(found) if "cachePoint" not in block]
    assert rest == [block for block in content(asked) if "cachePoint" not in block]
    if not own:
        prefix = 0
        parts = [*found["toolConfig"]["tools"], *found["system"], *content(found)]
        for block in parts:
            assert "cachePoint" not in block or prefix >= 1024
            prefix += 0 if "cachePoint" in block else block_tokens(block)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cache_point_threshold": -1},
        {"custom_rules": {"cache_text_blocks_over": -1}},
        {"strategy": "greedy"},
        {"error_handling": "shrug"},
    ],
)
def test_a_configuration_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        CacheConfig(**wrong)


class TestAModelWithoutPromptCaching:
    REFUSAL = refused("ValidationException", "This model doesn't support prompt caching.")
    LONG = create_user_message().add_text(LONG).add_text("question").build()

    @pytest.mark.promise("B17")
    def test_b17_the_points_are_left_out_and_it_is_reported(self) -> None:
        clients = FakeClients(self.REFUSAL, "fine")
        llm = manager(clients, cache_config=CacheConfig(enabled=True))
        response = llm.converse([self.LONG], [text(LONG)])
        assert response.features_disabled == ["caching"]
        assert count(clients.asked[0][1]) > 0
        assert count(clients.asked[1][1]) == 0

    def test_failing_fast_never_leaves_them_out(self) -> None:
        clients = FakeClients(then=self.REFUSAL)
        config = CacheConfig(enabled=True, error_handling=CacheErrorHandling.FAIL_FAST)
        with pytest.raises(InvalidRequestError):
            manager(clients, cache_config=config).converse([self.LONG])
        assert all(count(sent) == 1 for _, sent in clients.asked)


def test_the_callers_messages_stay_as_they_were() -> None:
    asked = [message(LONG), {"role": "assistant", "content": [text("so?")]}, message("continue")]
    before = copy.deepcopy(asked)
    manager(FakeClients("x"), cache_config=CacheConfig(enabled=True)).converse(asked)
    assert asked == before
