"""Spending budgets: limits on the tokens and the money that calls may use."""

from __future__ import annotations

from agentkit._fork import fork_safe_lock
from agentkit.errors import BudgetExceededError, ConfigurationError
from agentkit.policy.limits import Need
from agentkit.policy.price import Price
from agentkit.policy.validation import checked_keywords, number, whole_number
from agentkit.types import Usage


class Spending:
    """The part of a budget that is reserved for an attempt."""

    __slots__ = ("price", "tokens", "usd")

    def __init__(self, tokens: int, usd: float, price: Price | None) -> None:
        self.tokens = tokens
        self.usd = usd
        self.price = price


@checked_keywords(cost="usd", dollars="usd", max_cost="usd", max_tokens="tokens")
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

    Raises:
        ConfigurationError: both are missing, or one is not positive.
    """

    def __init__(self, *, tokens: int | None = None, usd: float | None = None) -> None:
        if tokens is None and usd is None:
            raise ConfigurationError("a budget needs a limit", hint="set tokens= or usd=")
        self.tokens = None if tokens is None else whole_number("tokens", tokens)
        self.usd = None if usd is None else number("usd", usd, above=True)
        self._lock = fork_safe_lock()
        self._tokens = 0
        self._usd = 0.0

    @property
    def spent_tokens(self) -> int:
        """Tokens used or reserved so far."""
        return self._tokens

    @property
    def spent_usd(self) -> float:
        """US dollars used or reserved so far."""
        return self._usd

    @property
    def exhausted(self) -> bool:
        """Whether a limit has been reached."""
        return (self.tokens is not None and self._tokens >= self.tokens) or (
            self.usd is not None and self._usd >= self.usd
        )

    def charge(self, usage: Usage, price: Price | None) -> None:
        """Count `usage` that was not reserved before."""
        self.add(usage.total_tokens, 0.0 if price is None else price.of(usage))

    def add(self, tokens: int, usd: float) -> None:
        """Count tokens and US dollars that were not reserved before."""
        with self._lock:
            self._tokens += tokens
            self._usd += usd

    def reserve(self, need: Need, price: Price | None, model: str) -> Spending:
        """Reserve `need` for an attempt.

        Raises:
            BudgetExceededError: it exceeds what is left.
            ConfigurationError: the model has no price.
        """
        if self.usd is not None and price is None:
            raise ConfigurationError(
                f"{model} has no price, which a budget in USD requires",
                hint="register it with metadata {'cost_per_1k_tokens': ...}",
            )
        tokens = need.input_tokens + need.output_tokens
        usd = 0.0 if price is None else price.of(Usage(*need))
        with self._lock:
            if self.tokens is not None and self._tokens + tokens > self.tokens:
                raise BudgetExceededError(
                    f"{model} may use {tokens:,} tokens, but {max(self.tokens - self._tokens, 0):,}"
                    f" of {self.tokens:,} are left",
                    hint="raise the budget, or lower max_tokens=",
                )
            if self.usd is not None and self._usd + usd > self.usd:
                raise BudgetExceededError(
                    f"{model} may cost {usd:.4f} USD, but {max(self.usd - self._usd, 0.0):.4f}"
                    f" of {self.usd:.4f} are left",
                    hint="raise the budget, lower max_tokens=, or add a cheaper fallback",
                )
            self._tokens += tokens
            self._usd += usd
        return Spending(tokens, usd, price)

    def settle(self, spending: Spending, usage: Usage | None, price: Price | None = None) -> None:
        """Replace the estimate by the actual `usage`. Without it, keep the estimate.

        `price` is that of the model that was used, if it is not the one of the reservation.
        """
        if usage is None:
            return
        price = price or spending.price
        tokens = usage.total_tokens
        usd = 0.0 if price is None else price.of(usage)
        with self._lock:
            # Each in one step, so that a settlement that Ctrl-C interrupts can be repeated.
            self._tokens, spending.tokens = self._tokens + tokens - spending.tokens, tokens
            self._usd, spending.usd = self._usd + usd - spending.usd, usd

    def __repr__(self) -> str:
        parts = [] if self.tokens is None else [f"{self._tokens:,}/{self.tokens:,} tokens"]
        if self.usd is not None:
            parts.append(f"{self._usd:.4f}/{self.usd:.4f} USD")
        return f"<Budget {', '.join(parts)}>"
