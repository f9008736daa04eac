"""What a run has spent, in tokens and USD, and whether it may go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentkit.errors import AgentError, ConfigurationError, UnknownModelError
from agentkit.types import Response, Usage
from agentkit.types.ledger import Ledger

if TYPE_CHECKING:
    from agentkit.manager.manager import LLMManager


class Spending:
    """Adds up what each answer took; prices are the models' ``cost_per_1k_tokens`` metadata."""

    def __init__(self, manager: LLMManager, max_cost: float | None, max_tokens: int | None) -> None:
        self._manager = manager
        self._max_cost = max_cost
        self._max_tokens = max_tokens
        self.usage = Usage()
        self.cost: float | None = 0.0

    def require_prices(self, models: str | Sequence[str] | None) -> None:
        """Pass when every model that may answer has a price, or no price is needed.

        Raises:
            ConfigurationError: a limit in USD cannot be kept.
        """
        if self._max_cost is None:
            return
        for name in self._route(models):
            if self._price(name) is None:
                raise ConfigurationError(
                    f"max_cost cannot be kept: model {name!r} has no price",
                    hint='register it with metadata={"cost_per_1k_tokens": …} (USD)',
                )

    def add(self, response: Response[Any]) -> None:
        """Count every attempt behind `response`; what the response cache gave is free."""
        sent = response.ledger.sent
        own = response.usage if sent and not response.cached else Usage()
        before = self.usage
        self.usage = Usage(
            before.input_tokens + sum(entry.input_tokens for entry in sent),
            before.output_tokens + sum(entry.output_tokens for entry in sent),
            before.cache_read_tokens + own.cache_read_tokens,
            before.cache_write_tokens + own.cache_write_tokens,
            before.reasoning_tokens + own.reasoning_tokens,
        )
        for entry in sent:
            tokens = entry.input_tokens + entry.output_tokens
            price = self._price(entry.model) if tokens else 0.0
            if self.cost is not None:
                self.cost = None if price is None else self.cost + tokens * price / 1000.0

    def require_rest(self, asks: int, ledger: Ledger) -> None:
        """Pass while both limits leave something for another ask; `ledger` is that of the last.

        Raises:
            AgentError: a limit is reached.
        """
        spent = self.usage.total_tokens
        if self._max_tokens is not None and spent >= self._max_tokens:
            used = f"{spent} of {self._max_tokens} tokens"
            raise _used_up(used, "max_tokens", asks, ledger)
        if self._max_cost is not None and self.cost is not None and self.cost >= self._max_cost:
            used = f"{self.cost:.6g} of {self._max_cost:g} USD"
            raise _used_up(used, "max_cost", asks, ledger)

    def _route(self, models: str | Sequence[str] | None) -> Sequence[str]:
        if models is not None:
            return [models] if isinstance(models, str) else models
        metrics = self._manager.get_metrics()
        named = dict.fromkeys([metrics["active_model"], *metrics["fallback_chain"]])
        return [name for name in named if name] or self._manager.list_models()

    def _price(self, model: str) -> float | None:
        try:
            price = self._manager.get_model_info(model)["metadata"].get("cost_per_1k_tokens")
        except UnknownModelError:  # in the chain, but not registered (any more)
            return 0.0
        return float(price) if isinstance(price, int | float) else None


def _used_up(used: str, limit: str, asks: int, ledger: Ledger) -> AgentError:
    return AgentError(
        f"the run has used {used} after {asks} asks, without an answer",
        hint=f"raise {limit}=, or give the model less to read",
        ledger=ledger,
    )
