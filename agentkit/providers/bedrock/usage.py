"""The tokens of one answer, under every name in use, and the effect of prompt caching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentkit.types import Usage

_FIELDS: Final = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "total_tokens": "totalTokens",
    "cache_read_tokens": "cacheReadInputTokens",
    "cache_write_tokens": "cacheWriteInputTokens",
}
_ALIASES: Final = {theirs: ours for ours, theirs in _FIELDS.items()} | {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "input": "input_tokens",
    "output": "output_tokens",
    "total": "total_tokens",
    "cacheReadTokens": "cache_read_tokens",
    "cacheWriteTokens": "cache_write_tokens",
}


class BedrockUsage(dict[str, int]):
    """The tokens of one answer, as the service counts them.

    Keys: input_tokens (without those read from or written to the prompt cache), output_tokens,
    total_tokens, cache_read_tokens, cache_write_tokens. Other spellings (``inputTokens``,
    ``prompt_tokens``, ``input``, …) read the same values.
    """

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> BedrockUsage:
        """The usage in a Converse response; missing counts are 0."""
        made = cls({ours: int(usage.get(theirs) or 0) for ours, theirs in _FIELDS.items()})
        if not made["total_tokens"]:
            made["total_tokens"] = sum(made.values())
        return made

    def __missing__(self, key: str) -> int:
        if key not in _ALIASES:
            raise KeyError(key)
        return self[_ALIASES[key]]

    def get(self, key: str, default: Any = None) -> Any:
        """The count under any of its names, or `default`."""
        return super().get(_ALIASES.get(key, key), default)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(_ALIASES.get(str(key), key))

    def to_usage(self) -> Usage:
        """As an `agentkit.types.Usage`, whose input_tokens include cached ones."""
        read, written = self["cache_read_tokens"], self["cache_write_tokens"]
        return Usage(
            input_tokens=self["input_tokens"] + read + written,
            output_tokens=self["output_tokens"],
            cache_read_tokens=read,
            cache_write_tokens=written,
        )


class CacheEfficiency(dict[str, Any]):
    """The effect of prompt caching on one answer; its `str` is the hit ratio in percent.

    Keys: cache_hit_ratio (read / (read + written + uncached), 0 to 1), cache_effectiveness
    (read / (read + written), 0 to 1), cache_savings_tokens, cache_read_tokens,
    cache_write_tokens, cache_savings_cost (None without prices), latency_reduction_ms (None: the
    service does not report it).
    """

    @classmethod
    def of(
        cls,
        usage: BedrockUsage,
        input_price: float | None = None,
        cache_read_price: float | None = None,
        cache_write_price: float | None = None,
    ) -> CacheEfficiency:
        """The effect on `usage`; prices are for 1,000 tokens, in any currency.

        The saving is what the tokens read from the cache would have cost more as plain input, less
        what the tokens written cost more than plain input (nothing more, without a price).
        """
        read, written = usage["cache_read_tokens"], usage["cache_write_tokens"]
        prompt = read + written + usage["input_tokens"]
        cost = None
        if input_price is not None and cache_read_price is not None:
            dearer = (input_price if cache_write_price is None else cache_write_price) - input_price
            cost = (read * (input_price - cache_read_price) - written * dearer) / 1000
        return cls(
            cache_hit_ratio=read / prompt if prompt else 0.0,
            cache_effectiveness=read / (read + written) if read + written else 0.0,
            cache_savings_tokens=read,
            cache_read_tokens=read,
            cache_write_tokens=written,
            cache_savings_cost=cost,
            latency_reduction_ms=None,
        )

    def __str__(self) -> str:
        return f"{self['cache_hit_ratio']:.1%}"
