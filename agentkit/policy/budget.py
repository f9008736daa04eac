"""Spending budgets: limits on the tokens and the money that calls may use."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol, get_args

from agentkit.errors import BudgetExceededError, ConfigurationError
from agentkit.policy.account import Amount, Entry, account_of
from agentkit.policy.limits import Need, OnLoss
from agentkit.policy.period import Period, checked_period
from agentkit.policy.price import Price
from agentkit.policy.validation import checked_keywords, choice, number, whole_number
from agentkit.types import Usage
from agentkit.types.fleet import Question

_LONGEST_SCOPE: Final = 200


class Spending:
    """The part of a budget that is reserved for an attempt."""

    __slots__ = ("entry", "price")

    def __init__(self, entry: Entry, price: Price | None) -> None:
        self.entry = entry
        self.price = price

    @property
    def tokens(self) -> int:
        """Tokens that are reserved, or were used."""
        return self.entry.tokens

    @property
    def usd(self) -> float:
        """US dollars that are reserved, or were spent."""
        return self.entry.usd


@checked_keywords(cost="usd", dollars="usd", max_cost="usd", max_tokens="tokens", period="per")
class Budget:
    """A limit on the tokens or the money of a call, or of all calls of a manager together.

    Pass it to `LLMManager.complete` or to `LLMManager`. Before an attempt, its estimated tokens are
    reserved: input by length, output by ``max_tokens`` or 1,024. Afterwards the actual usage
    replaces the estimate; where the provider reports none, the length of what arrived does. Tokens
    of a prompt cache have their own prices. Safe to use from many threads, and for several
    managers.

    Args:
        tokens: the most tokens, input and output together (default: no limit).
        usd: the most US dollars (default: no limit). It requires models with a price: in the
            `prices` of the manager, or ``cost_per_1k_tokens`` in their metadata, or
            ``cost_per_1k_input_tokens`` and ``cost_per_1k_output_tokens``.
        per: ``"hour"``, ``"day"``, ``"week"`` or ``"month"`` of UTC, after which spending starts
            from zero. A call counts where it began. Default: the limit is for ever.
        scope: a name that budgets share their spending by: all of this process, and those of every
            process with the same `fleet`. Each has a limit of its own. Default: this object alone.
        on_loss: what a budget of a fleet allows while its store is lost: ``"share"`` (default) of
            what was left an equal share for each live process, ``"stop"`` nothing, or ``"open"``
            its limit, as if this process were alone.
        now: Unix time in seconds; a fleet takes the time of its store instead.

    Raises:
        ConfigurationError: both limits are missing, one is not positive, or another value is not
            one of those above.
    """

    def __init__(
        self,
        *,
        tokens: int | None = None,
        usd: float | None = None,
        per: Period | None = None,
        scope: str = "",
        on_loss: OnLoss = "share",
        now: Callable[[], float] = time.time,
    ) -> None:
        if tokens is None and usd is None:
            raise ConfigurationError("a budget needs a limit", hint="set tokens= or usd=")
        self.tokens = None if tokens is None else whole_number("tokens", tokens)
        self.usd = None if usd is None else number("usd", usd, above=True)
        self.per = checked_period("per", per)
        self.scope = _checked_scope(scope)
        choice("on_loss", on_loss, get_args(OnLoss))
        self.on_loss: OnLoss = on_loss
        self.account = account_of(self.scope, self.per, now)
        """What was spent: in this process, or in the fleet of the manager that used it last."""

    @property
    def limit(self) -> Amount:
        """The most tokens and US dollars; infinite where there is no limit."""
        return Amount(
            math.inf if self.tokens is None else self.tokens,
            math.inf if self.usd is None else self.usd,
        )

    @property
    def spent_tokens(self) -> int:
        """Tokens used or reserved so far, in the window of now."""
        return int(self.account.spent().tokens)

    @property
    def spent_usd(self) -> float:
        """US dollars used or reserved so far, in the window of now."""
        return self.account.spent().usd

    @property
    def exhausted(self) -> bool:
        """Whether a limit has been reached."""
        return self.account.spent().reaches(self.limit)

    def charge(self, usage: Usage, price: Price | None) -> None:
        """Count `usage` that was not reserved before."""
        self.add(usage.total_tokens, 0.0 if price is None else price.of(usage))

    def add(self, tokens: int, usd: float) -> None:
        """Count tokens and US dollars that were not reserved before."""
        account = self.account
        account.settle(account.enter(0, 0.0), tokens, usd)

    def estimate(self, need: Need, price: Price | None, model: str) -> tuple[int, float]:
        """The tokens and US dollars that an attempt may use.

        Raises:
            ConfigurationError: the model has no price.
        """
        if self.usd is not None and price is None:
            raise ConfigurationError(
                f"{model} has no price, which a budget in USD requires",
                hint="add it to the `prices` of the manager, or limit the budget in tokens",
            )
        usd = 0.0 if price is None else price.of(Usage(*need))
        return need.input_tokens + need.output_tokens, usd

    def reserve(self, need: Need, price: Price | None, model: str) -> Spending:
        """Reserve `need` for an attempt.

        Raises:
            BudgetExceededError: it exceeds what is left.
            ConfigurationError: the model has no price.
        """
        tokens, usd = self.estimate(need, price, model)
        entry = self.account.reserve(tokens, usd, self.limit)
        if entry is None:
            raise self.refusal(tokens, usd, model)
        return Spending(entry, price)

    def refusal(self, tokens: int, usd: float, model: str) -> BudgetExceededError:
        """The error for an attempt that may use more than what is left."""
        spent, limit = self.account.spent(), self.limit
        until = _until(self.account.end())
        if self.account.is_alone and self.on_loss != "open":
            part = "nothing" if self.on_loss == "stop" else "only its share of what was left"
            return BudgetExceededError(
                f"{model} was not asked: while the store of the fleet is lost, this process may"
                f" spend {part} of the budget {self.scope!r}",
                hint="wait until the store is back, or use on_loss='open'",
            )
        if limit.tokens < math.inf and spent.tokens + tokens > limit.tokens:
            left = max(limit.tokens - spent.tokens, 0)
            return BudgetExceededError(
                f"{model} may use {tokens:,} tokens, but {left:,.0f}"
                f" of {limit.tokens:,} are left{until}",
                hint="raise the budget, or lower max_tokens=",
            )
        left = max(limit.usd - spent.usd, 0.0)
        return BudgetExceededError(
            f"{model} may cost {usd:.4f} USD, but {left:.4f} of {limit.usd:.4f} are left{until}",
            hint="raise the budget, lower max_tokens=, or add a cheaper fallback",
        )

    def settle(self, spending: Spending, usage: Usage | None, price: Price | None = None) -> None:
        """Replace the estimate by the actual `usage`. Without it, keep the estimate.

        `price` is that of the model that was used, if it is not the one of the reservation.
        """
        if usage is None:
            return
        price = price or spending.price
        usd = 0.0 if price is None else price.of(usage)
        spending.entry.account.settle(spending.entry, usage.total_tokens, usd)

    def __repr__(self) -> str:
        spent = self.account.spent()
        parts = [] if self.tokens is None else [f"{spent.tokens:,.0f}/{self.tokens:,} tokens"]
        if self.usd is not None:
            parts.append(f"{spent.usd:.4f}/{self.usd:.4f} USD")
        if self.per is not None:
            parts.append(f"per {self.per}")
        return f"<Budget {', '.join(parts)}>"


class Reservation(Protocol):
    """The reservation of an attempt in a budget that a fleet shares."""

    @property
    def question(self) -> Question:
        """Asks for it; another question each time."""
        ...

    def step(self, reply: Any) -> Entry | float | None:
        """What was reserved, the seconds to wait before asking again, or None: it is refused."""
        ...

    def close(self) -> None:
        """Give up while the reply is outstanding."""
        ...


class SharedBudgets(Protocol):
    """The budgets that a fleet shares."""

    def use_ahead(self, budget: Budget, tokens: int, usd: float) -> Entry | None:
        """A part of what this process has reserved ahead in `budget`; None: it has to ask."""
        ...

    def reservation(self, budget: Budget, tokens: int, usd: float) -> Reservation:
        """A reservation in `budget`, which has a scope."""
        ...


def _checked_scope(scope: Any) -> str:
    if isinstance(scope, str) and len(scope) <= _LONGEST_SCOPE:
        return scope
    given = f"{len(scope)} characters" if isinstance(scope, str) else type(scope).__name__
    raise ConfigurationError(
        f"scope must be a str of at most {_LONGEST_SCOPE} characters, got {given}",
        hint="pass the name of a team, a user or an application",
    )


def _until(end: float) -> str:
    if end == math.inf:
        return ""
    return f" until {datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M} UTC"
