"""Most tokens and money that calls may take; what does not fit any more is not sent."""

from __future__ import annotations

from typing import NamedTuple

from agentkit._fork import fork_safe_lock
from agentkit.errors import BudgetExceededError, ConfigurationError
from agentkit.policy.limits import Need
from agentkit.policy.validation import number, whole_number
from agentkit.types import Usage


class Price(NamedTuple):
    """US dollars for 1,000 input and 1,000 output tokens, as the user states them."""

    input: float
    output: float

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """US dollars for this many tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / 1000.0


class Spending:
    """What one attempt set aside of a budget."""

    __slots__ = ("price", "tokens", "usd")

    def __init__(self, tokens: int, usd: float, price: Price | None) -> None:
        self.tokens = tokens
        self.usd = usd
        self.price = price


class Budget:
    """A bound for one call (`complete(budget=...)`) or for all calls of a manager together.

    Before an attempt its estimated tokens are set aside (input by length, output by ``max_tokens``
    or 1,024); afterwards the real usage takes their place. Safe to use from many threads, and for
    several managers at once.

    Args:
        tokens: most tokens, input and output together; None: no bound.
        usd: most US dollars; models need ``cost_per_1k_tokens`` in their metadata, or
            ``cost_per_1k_input_tokens`` and ``cost_per_1k_output_tokens``.

    Raises:
        ConfigurationError: neither is given, or one is not positive.
    """

    def __init__(self, *, tokens: int | None = None, usd: float | None = None) -> None:
        if tokens is None and usd is None:
            raise ConfigurationError("a budget bounds nothing", hint="give tokens= or usd=")
        self.tokens = None if tokens is None else whole_number("tokens", tokens)
        self.usd = None if usd is None else number("usd", usd, above=True)
        self._lock = fork_safe_lock()
        self._tokens = 0
        self._usd = 0.0

    @property
    def spent_tokens(self) -> int:
        """Tokens taken or set aside so far."""
        return self._tokens

    @property
    def spent_usd(self) -> float:
        """US dollars taken or set aside so far."""
        return self._usd

    @property
    def exhausted(self) -> bool:
        """Whether a bound is reached: nothing more fits."""
        return (self.tokens is not None and self._tokens >= self.tokens) or (
            self.usd is not None and self._usd >= self.usd
        )

    def charge(self, usage: Usage, price: Price | None) -> None:
        """Count `usage` that was not set aside before."""
        self.settle(Spending(0, 0.0, price), usage)

    def reserve(self, need: Need, price: Price | None, model: str) -> Spending:
        """Set `need` aside.

        Raises:
            BudgetExceededError: it does not fit. ConfigurationError: the model has no price.
        """
        if self.usd is not None and price is None:
            raise ConfigurationError(
                f"{model} has no price, so a budget in USD cannot hold it",
                hint="register it with metadata {'cost_per_1k_tokens': ...}",
            )
        tokens = need.input_tokens + need.output_tokens
        usd = 0.0 if price is None else price.of(*need)
        with self._lock:
            if self.tokens is not None and self._tokens + tokens > self.tokens:
                raise BudgetExceededError(
                    f"{model} may take {tokens:,} tokens and {max(self.tokens - self._tokens, 0):,}"
                    f" of {self.tokens:,} are left",
                    hint="raise the budget, or lower max_tokens=",
                )
            if self.usd is not None and self._usd + usd > self.usd:
                raise BudgetExceededError(
                    f"{model} may cost {usd:.4f} USD and {max(self.usd - self._usd, 0.0):.4f}"
                    f" of {self.usd:.4f} are left",
                    hint="raise the budget, lower max_tokens=, or add a cheaper fallback",
                )
            self._tokens += tokens
            self._usd += usd
        return Spending(tokens, usd, price)

    def settle(self, spending: Spending, usage: Usage | None) -> None:
        """Put the real `usage` in the place of what was set aside; None: the estimate stands."""
        if usage is None:
            return
        tokens = usage.input_tokens + usage.output_tokens
        price = spending.price
        usd = 0.0 if price is None else price.of(usage.input_tokens, usage.output_tokens)
        with self._lock:
            self._tokens += tokens - spending.tokens
            self._usd += usd - spending.usd
        spending.tokens, spending.usd = tokens, usd

    def __repr__(self) -> str:
        parts = [] if self.tokens is None else [f"{self._tokens:,}/{self.tokens:,} tokens"]
        if self.usd is not None:
            parts.append(f"{self._usd:.4f}/{self.usd:.4f} USD")
        return f"<Budget {', '.join(parts)}>"
