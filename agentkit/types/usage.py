"""The tokens of a response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentkit.types.initializer import fast_init


@fast_init
@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens billed for one response.

    One rule for every provider: `input_tokens` includes the tokens that were read from a prompt
    cache or written to it, and `output_tokens` includes those of reasoning. If a provider counts
    them separately (Anthropic, Bedrock; the reasoning of Google), they are added.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input plus output tokens."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """The sum, field by field."""
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


def is_countable(usage: object) -> bool:
    """Whether `usage` is a `Usage` of whole numbers, as limits and budgets need it."""
    if not isinstance(usage, Usage):
        return False
    counts: tuple[Any, ...] = (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )
    return all(isinstance(count, int) and count >= 0 for count in counts)
