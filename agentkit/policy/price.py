"""The price of a model: US dollars for each kind of token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from agentkit.errors import ConfigurationError
from agentkit.policy.validation import number
from agentkit.types import Usage

BOTH: Final = "cost_per_1k_tokens"
INPUT: Final = "cost_per_1k_input_tokens"
OUTPUT: Final = "cost_per_1k_output_tokens"
CACHE_READ: Final = "cost_per_1k_cache_read_tokens"
CACHE_WRITE: Final = "cost_per_1k_cache_write_tokens"

_KEYS: Final = frozenset({BOTH, INPUT, OUTPUT, CACHE_READ, CACHE_WRITE})


class Price(NamedTuple):
    """US dollars for 1,000 tokens of each kind.

    `input` is the rate of tokens that a prompt cache had no part in. `cache_read` and `cache_write`
    are the rates of those that it did; None: unknown, and the rate of the input stands in for them.
    Tokens of reasoning are output.
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None

    def of(self, usage: Usage) -> float:
        """The price of `usage`, whose input tokens include the cached ones, in US dollars."""
        read, written = usage.cache_read_tokens, usage.cache_write_tokens
        if not read and not written:
            return (usage.input_tokens * self.input + usage.output_tokens * self.output) / 1000.0
        fresh = max(usage.input_tokens - read - written, 0)
        read_rate = self.input if self.cache_read is None else self.cache_read
        write_rate = self.input if self.cache_write is None else self.cache_write
        return (
            fresh * self.input
            + read * read_rate
            + written * write_rate
            + usage.output_tokens * self.output
        ) / 1000.0

    def as_metadata(self) -> dict[str, float]:
        """The known rates under the keys of `price_of`."""
        rates = zip((INPUT, OUTPUT, CACHE_READ, CACHE_WRITE), self, strict=True)
        return {name: rate for name, rate in rates if rate is not None}

    def knows(self, usage: Usage) -> bool:
        """Whether it has a rate for each kind of token in `usage`."""
        return (self.cache_read is not None or not usage.cache_read_tokens) and (
            self.cache_write is not None or not usage.cache_write_tokens
        )


def price_of(metadata: Mapping[str, Any]) -> Price | None:
    """The price in a model's metadata, if there is one.

    It takes ``cost_per_1k_tokens``, or ``cost_per_1k_input_tokens`` and
    ``cost_per_1k_output_tokens``. ``cost_per_1k_cache_read_tokens`` and
    ``cost_per_1k_cache_write_tokens`` are optional.

    Raises:
        ConfigurationError: a number is negative or not finite.
    """
    both = metadata.get(BOTH)
    input_cost, output_cost = metadata.get(INPUT, both), metadata.get(OUTPUT, both)
    if not (_is_number(input_cost) and _is_number(output_cost)):
        return None
    return Price(
        input=number(INPUT, input_cost),
        output=number(OUTPUT, output_cost),
        cache_read=_rate(CACHE_READ, metadata),
        cache_write=_rate(CACHE_WRITE, metadata),
    )


def price_list(prices: Mapping[str, Any] | None) -> Mapping[str, Price]:
    """`prices`, by the provider's own names of models, checked.

    Each value is a `Price`, or a mapping with the keys of `price_of`.

    Raises:
        ConfigurationError: a value is neither, or lacks a rate.
    """
    found: dict[str, Price] = {}
    for model, given in (prices or {}).items():
        unknown = set(given) - _KEYS if isinstance(given, Mapping) else set()
        if unknown:
            raise ConfigurationError(
                f"the price of {model!r} has the unknown key {min(map(str, unknown))!r}",
                hint=f"use {', '.join(sorted(_KEYS))}",
            )
        price = price_of(given) if isinstance(given, Mapping) else _checked(given)
        if price is None:
            raise ConfigurationError(
                f"the price of {model!r} must have rates for input and output, got {given!r}",
                hint=f"set {INPUT!r} and {OUTPUT!r} (USD), or pass a Price",
            )
        found[model] = price
    return found


def _checked(given: Any) -> Price | None:
    if not isinstance(given, Price):
        return None
    for name, rate in given._asdict().items():
        if rate is not None:
            number(name, rate)
    return given


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _rate(name: str, metadata: Mapping[str, Any]) -> float | None:
    value = metadata.get(name)
    return number(name, value) if _is_number(value) else None
