"""Prompt caching: the placement of cache points.

The service accepts at most four cache points in a request, over tools, system and messages, in that
order, and caches only prefixes of a minimum size. A point after a shorter prefix is not placed;
points that the caller placed are kept and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from agentkit.bedrock.messages.blocks import build_cache_point
from agentkit.bedrock.messages.limits import MAX_CACHE_POINTS
from agentkit.policy.limits import estimate_tokens as text_tokens
from agentkit.policy.validation import number, whole_number
from agentkit.providers.bedrock.validation import member

Arguments = dict[str, Any]

_IMAGE: Final = 450
_DOCUMENT: Final = 1000
_VIDEO: Final = 2000
_OTHER: Final = 10
"""The approximate number of tokens of blocks without text."""
_LEAST_PREFIX: Final = 1024
"""Tokens of the shortest prefix that any model caches (some need up to 4,096)."""


class CacheStrategy(StrEnum):
    """How many cache points are placed."""

    CONSERVATIVE = "conservative"
    AGGRESSIVE = "aggressive"
    CUSTOM = "custom"


class CacheErrorHandling(StrEnum):
    """What happens when a model refuses cache points."""

    GRACEFUL_DEGRADATION = "graceful_degradation"
    WARN_AND_CONTINUE = "warn_and_continue"
    FAIL_FAST = "fail_fast"


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Placement of cache points.

    Args:
        enabled: off by default, as writing tokens to the cache costs more.
        strategy: CONSERVATIVE places one point after the part of the prompt that is likely to
            be repeated; AGGRESSIVE one after each large block; CUSTOM follows `custom_rules`.
        error_handling: FAIL_FAST never leaves the points out, even if `RetryConfig` allows it; the
            others leave them out and add a warning to the response.
        auto_cache_system_messages: whether tools and system prompt get a point as well.
        cache_point_threshold: the fewest tokens before a point (default 1,000); never fewer than
            the 1,024 of the service.
        ttl: ``"5m"`` or ``"1h"``; None leaves it to the service (5 minutes).
        custom_rules: ``cache_text_blocks_over`` (tokens) and ``cache_all_images`` (bool).

    Raises:
        ConfigurationError: a number out of range, or an unknown strategy.
    """

    enabled: bool = False
    strategy: CacheStrategy = CacheStrategy.CONSERVATIVE
    error_handling: CacheErrorHandling = CacheErrorHandling.GRACEFUL_DEGRADATION
    auto_cache_system_messages: bool = True
    cache_point_threshold: int = 1000
    ttl: str | None = None
    custom_rules: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategy", member("strategy", CacheStrategy, self.strategy))
        handling = member("error_handling", CacheErrorHandling, self.error_handling)
        object.__setattr__(self, "error_handling", handling)
        whole_number("cache_point_threshold", self.cache_point_threshold, minimum=0)
        over = self.custom_rules.get("cache_text_blocks_over")
        if over is not None:
            number("cache_text_blocks_over", over)


def with_cache_points(arguments: Arguments, config: CacheConfig) -> Arguments:
    """A copy of Converse's arguments with cache points; the original is not changed."""
    placing = _Placing(config, MAX_CACHE_POINTS - _present(arguments))
    changed = dict(arguments)
    if config.auto_cache_system_messages:
        if "toolConfig" in arguments:
            tools = arguments["toolConfig"]
            changed["toolConfig"] = {**tools, "tools": placing.after(tools["tools"])}
        if "system" in arguments:
            changed["system"] = placing.after(arguments["system"])
    changed["messages"] = placing.within(arguments["messages"])
    return changed


class _Placing:
    """Places points from the front, until none are left."""

    def __init__(self, config: CacheConfig, left: int) -> None:
        self._config = config
        self._left = left
        self._prefix = 0
        self._since = 0
        self._least = max(_LEAST_PREFIX, config.cache_point_threshold)

    def after(self, blocks: list[Any]) -> list[Any]:
        """`blocks` with one point after all of them."""
        self._grow(sum(map(block_tokens, blocks)))
        if any("cachePoint" in block for block in blocks) or not self._may():
            return list(blocks)
        self._place()
        return [*blocks, self._point()]

    def within(self, messages: list[Any]) -> list[Any]:
        """`messages` with points. None follows the last block, which is what changes."""
        blocks = [(n, block) for n, each in enumerate(messages) for block in each["content"]]
        marks = self._marks([block for _, block in blocks])
        placed: list[list[Any]] = [[] for _ in messages]
        for index, (number_, block) in enumerate(blocks):
            placed[number_].append(block)
            if index in marks:
                placed[number_].append(self._point())
        return [{**each, "content": own} for each, own in zip(messages, placed, strict=True)]

    def _marks(self, blocks: list[Any]) -> set[int]:
        """The indexes of the blocks that a point follows."""
        if any("cachePoint" in block for block in blocks):
            return set()
        eager = self._config.strategy is not CacheStrategy.CONSERVATIVE
        marks: list[int] = []
        for index, block in enumerate(blocks[:-1]):
            self._grow(block_tokens(block))
            if self._wanted(block) and self._may():
                marks.append(index)
                if eager:
                    self._place()
        return set(marks if eager else marks[-1:])

    def _wanted(self, block: Any) -> bool:
        rules = self._config.custom_rules
        if self._config.strategy is not CacheStrategy.CUSTOM or not rules:
            return True
        over = rules.get("cache_text_blocks_over")
        if "text" in block:
            return over is not None and block_tokens(block) > over
        return "image" in block and bool(rules.get("cache_all_images"))

    def _grow(self, tokens: int) -> None:
        self._prefix += tokens
        self._since += tokens

    def _may(self) -> bool:
        return self._left > 0 and self._prefix >= self._least and self._since >= self._least

    def _place(self) -> None:
        self._left -= 1
        self._since = 0

    def _point(self) -> dict[str, Any]:
        return build_cache_point(ttl=self._config.ttl)


def block_tokens(block: Any) -> int:
    """The approximate number of tokens of one block."""
    if "text" in block:
        return text_tokens(block["text"])
    for kind, tokens in (("image", _IMAGE), ("document", _DOCUMENT), ("video", _VIDEO)):
        if kind in block:
            return tokens
    return text_tokens(str(block)) if "toolSpec" in block else _OTHER


def _present(arguments: Arguments) -> int:
    blocks = [*arguments.get("system", ()), *arguments.get("toolConfig", {}).get("tools", ())]
    blocks += [block for each in arguments["messages"] for block in each["content"]]
    return sum("cachePoint" in block for block in blocks)
