"""The tokens and US dollars of a run, from the ledgers of its responses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.manager.dispatcher import Dispatcher
from agentkit.policy.budget import Budget
from agentkit.policy.target import Target
from agentkit.types import Response, Usage
from agentkit.types.ledger import Ledger


def require_prices(dispatcher: Dispatcher, model: str | Sequence[str] | None) -> None:
    """Check that every model of the route has a price.

    Raises:
        ConfigurationError: a model has none, so a limit in USD cannot be enforced.
        UnknownModelError: `model` is not registered.
    """
    for stop in dispatcher.route(model).stops:
        if isinstance(stop, Target) and stop.price is None:
            raise ConfigurationError(
                f"max_cost cannot be enforced: model {stop.name!r} has no price",
                hint='register it with metadata={"cost_per_1k_tokens": …} (USD)',
            )


def charge(budget: Budget, ledger: Ledger) -> None:
    """Count the attempts in `ledger` against `budget`."""
    for entry in ledger.sent:
        budget.add(entry.input_tokens + entry.output_tokens, entry.cost or 0.0)


def total_cost(ledgers: Iterable[Ledger]) -> float | None:
    """US dollars for all attempts, or None if the cost of one is unknown."""
    costs = [ledger.cost for ledger in ledgers]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def total_usage(responses: Iterable[Response[Any]]) -> Usage:
    """Tokens of every attempt behind `responses`; what the response cache answered is free."""
    total = Usage()
    for response in responses:
        for entry in response.ledger.sent:
            total += Usage(
                entry.input_tokens,
                entry.output_tokens,
                cache_read_tokens=entry.cache_read_tokens,
                cache_write_tokens=entry.cache_write_tokens,
                reasoning_tokens=entry.reasoning_tokens,
            )
    return total
