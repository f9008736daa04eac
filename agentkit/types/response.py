"""A complete response, its usage and the provider's rate limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Generic, TypeAlias

from typing_extensions import TypeVar

from agentkit.types.initializer import fast_init
from agentkit.types.ledger import Ledger
from agentkit.types.message import ToolCall

T = TypeVar("T", default=Any)
T_co = TypeVar("T_co", covariant=True, default=Any)

ResponseModel: TypeAlias = type[T] | UnionType
"""What a response is validated into: a class `T`, or a union, of which type checkers learn less."""


@fast_init
@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens billed for one response. `input_tokens` includes cached ones."""

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


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits per minute that a provider reported; None for limits that it did not report.

    From response headers: ``x-ratelimit-limit-requests``, ``x-ratelimit-limit-tokens`` (OpenAI's
    tokens count input and output together), ``anthropic-ratelimit-input-tokens-limit``, …
    """

    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    tokens_per_minute: int | None = None


@fast_init
@dataclass(frozen=True, slots=True)
class Response(Generic[T_co]):
    """One complete response, and how it came about.

    `model` is the registered name of the model that answered, and `provider` its provider. `parsed`
    is the validated instance if the request had a `response_model`. `cached` is true if the
    response came from the response cache. `reasoning` is the model's reasoning, if its provider
    returns it. `quota` holds the rate limits that the provider reported (see `Quota`). `omitted`
    names what the provider left out of the request, with the caller's permission. `details` is
    additional information from the provider about the attempt, which is also in the ledger. `raw`
    is the provider's own response, if the provider object passes it on. `ledger` holds every
    attempt and skip.
    """

    text: str
    usage: Usage = Usage()
    model: str = ""
    provider: str = ""
    finish_reason: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    parsed: T_co | None = None
    cached: bool = False
    response_id: str | None = None
    ledger: Ledger = field(default_factory=Ledger, compare=False, repr=False)
    reasoning: str = ""
    quota: Quota | None = field(default=None, compare=False, repr=False)
    omitted: tuple[str, ...] = ()
    details: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    raw: Any = field(default=None, compare=False, repr=False)

    @property
    def content(self) -> str:
        """The same as `text`."""
        return self.text

    def __str__(self) -> str:
        return self.text
