"""The tokens and US dollars of a run, by the prices that budgets and telemetry use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.manager.dispatcher import Dispatcher
from agentkit.policy.budget import Budget
from agentkit.policy.target import Target
from agentkit.types import Response, Usage
from agentkit.types.ledger import Ledger


class RunCost:
    """Prices the attempts of one run with the prices of the dispatcher's models."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def require_prices(self, model: str | Sequence[str] | None) -> None:
        """Check that every model of the route has a price.

        Raises:
            ConfigurationError: a model has none, so a limit in USD cannot be enforced.
            UnknownModelError: `model` is not registered.
        """
        for stop in self._dispatcher.route(model).stops:
            if isinstance(stop, Target) and stop.price is None:
                raise ConfigurationError(
                    f"max_cost cannot be enforced: model {stop.name!r} has no price",
                    hint='register it with metadata={"cost_per_1k_tokens": …} (USD)',
                )

    def charge(self, budget: Budget, ledger: Ledger) -> None:
        """Count the attempts in `ledger` against `budget`."""
        for model, usage in _attempts(ledger):
            budget.charge(usage, self._dispatcher.price(model))

    def usd(self, ledgers: Iterable[Ledger]) -> float | None:
        """US dollars for all attempts, or None if a model that used tokens has no price."""
        total = 0.0
        for ledger in ledgers:
            for model, usage in _attempts(ledger):
                price = self._dispatcher.price(model)
                if price is None:
                    return None
                total += price.of(usage.input_tokens, usage.output_tokens)
        return total


def total_usage(responses: Iterable[Response[Any]]) -> Usage:
    """Tokens of every attempt behind `responses`; what the response cache answered is free."""
    total = Usage()
    for response in responses:
        for _, usage in _attempts(response.ledger):
            total += usage
        if response.ledger.sent and not response.cached:
            total += replace(response.usage, input_tokens=0, output_tokens=0)
    return total


def _attempts(ledger: Ledger) -> Iterator[tuple[str, Usage]]:
    """The model and tokens of each attempt that used any."""
    for entry in ledger.sent:
        if entry.input_tokens or entry.output_tokens:
            yield entry.model, Usage(entry.input_tokens, entry.output_tokens)
