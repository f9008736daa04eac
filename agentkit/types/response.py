"""A complete response, and the provider's rate limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import UnionType
from typing import Any, Generic, TypeAlias

from typing_extensions import TypeVar

from agentkit.types.initializer import fast_init
from agentkit.types.json_values import (
    FORMAT_VERSION,
    UNREADABLE,
    check_version,
    known_fields,
    malformed,
)
from agentkit.types.ledger import Ledger
from agentkit.types.message import Message, MessageRole, ProviderState, ToolCall
from agentkit.types.usage import Usage

T = TypeVar("T", default=Any)
T_co = TypeVar("T_co", covariant=True, default=Any)

ResponseModel: TypeAlias = type[T] | UnionType
"""What a response is validated into: a class `T`, or a union, of which type checkers learn less."""


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
    returns it. `state` is what the model needs back with this answer (see `ProviderState`), and
    `message` is the answer as the next message of the conversation, with that state. `quota` holds
    the rate limits that the provider reported (see `Quota`). `omitted` names what the provider left
    out of the request. `details` is additional information from the
    provider about the attempt, which is also in the ledger. `raw` is the provider's own response,
    if the provider object passes it on. `ledger` holds every attempt and skip. `model_id` is the
    provider's own name of the model that answered, or None if the provider did not name it.
    """

    text: str
    usage: Usage = Usage()  # noqa: RUF009 - it is immutable
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
    state: ProviderState | None = field(default=None, repr=False)
    model_id: str | None = None

    @property
    def message(self) -> Message:
        """The response as a message of the conversation: text, tool calls and the model's state."""
        return Message(
            MessageRole.ASSISTANT, self.text, tool_calls=self.tool_calls, state=self.state
        )

    def to_dict(self) -> dict[str, Any]:
        """The response as a JSON value, without `parsed`, `details` and `raw`.

        Raises:
            TypeError: the arguments of a tool call have no JSON form.
        """
        return {
            "version": FORMAT_VERSION,
            "text": self.text,
            "usage": asdict(self.usage),
            "model": self.model,
            "provider": self.provider,
            "finish_reason": self.finish_reason,
            "tool_calls": [each.to_dict() for each in self.tool_calls],
            "cached": self.cached,
            "response_id": self.response_id,
            "ledger": self.ledger.to_dict(),
            "reasoning": self.reasoning,
            "quota": None if self.quota is None else asdict(self.quota),
            "omitted": list(self.omitted),
            "state": None if self.state is None else self.state.to_dict(),
            "model_id": self.model_id,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Response[Any]:
        """The inverse of `to_dict`.

        Raises:
            ValueError: `data` has another form, or a newer version's format.
        """
        check_version("response", data)
        state, quota = data.get("state"), data.get("quota")
        try:
            return Response(
                data["text"],
                usage=Usage(**known_fields(Usage, data["usage"])),
                model=data["model"],
                provider=data["provider"],
                finish_reason=data["finish_reason"],
                tool_calls=tuple(map(ToolCall.from_dict, data["tool_calls"])),
                cached=data["cached"],
                response_id=data["response_id"],
                ledger=Ledger.from_dict(data["ledger"]),
                reasoning=data["reasoning"],
                quota=None if quota is None else Quota(**known_fields(Quota, quota)),
                omitted=tuple(data["omitted"]),
                state=None if state is None else ProviderState.from_dict(state),
                model_id=data.get("model_id"),
            )
        except UNREADABLE as exc:
            raise malformed("response") from exc

    @property
    def cost(self) -> float | None:
        """US dollars for this request: every attempt of its ledger, failed ones included.

        None if an attempt has no known cost; `ledger.cost_estimated` is true if one is an estimate.
        """
        return self.ledger.cost

    @property
    def content(self) -> str:
        """The same as `text`."""
        return self.text

    def __str__(self) -> str:
        return self.text
