"""The account of a budget: what was spent in its window, here and by other processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from agentkit._fork import fork_safe_lock
from agentkit.policy.period import EVER, Period, Window, window_of

_ROUNDING: Final = 5e-10
"""US dollars by which a sum may be wrong: twenty times 0.01 are more than 0.2 in floating point."""


class Amount(NamedTuple):
    """Tokens and US dollars."""

    tokens: float
    usd: float

    def exceeds(self, limit: Amount) -> bool:
        """Whether either is more than that of `limit`."""
        return self.tokens > limit.tokens or self.usd > limit.usd + _ROUNDING

    def reaches(self, limit: Amount) -> bool:
        """Whether either is at least that of `limit`."""
        return self.tokens >= limit.tokens or self.usd >= limit.usd - _ROUNDING


class Entry:
    """What one attempt has reserved or spent."""

    __slots__ = ("account", "tokens", "usd", "window")

    def __init__(self, account: Account, tokens: int, usd: float, window: Window) -> None:
        self.account = account
        self.tokens = tokens
        self.usd = usd
        self.window = window


class Account:
    """Counts tokens and money of one window after the other. Safe to use from many threads.

    Args:
        period: how long a window lasts; None: for ever.
        now: Unix time in seconds.
    """

    def __init__(self, period: Period | None, now: Callable[[], float] = time.time) -> None:
        self.period = period
        self.now = now
        self.lock = fork_safe_lock()
        self.window: Window = EVER if period is None else Window(-1.0, -1.0)
        self.tokens, self.usd = 0, 0.0
        """Spent or reserved by this process."""
        self.others = Amount(0, 0.0)
        """Spent or reserved by other processes, as last heard."""
        self.is_alone = False
        """Whether the store in which the others count is lost."""
        self.changed: Callable[[], None] | None = None
        """Is called after an entry was added or settled."""

    def spent(self) -> Amount:
        """Everything that is spent or reserved in the window of now."""
        with self.lock:
            self.turn()
            return Amount(self.tokens + self.others.tokens, self.usd + self.others.usd)

    def turn(self) -> Window:
        """Start the next window if this one is over. The lock must be held."""
        if self.window is not EVER:
            now = self.now()
            if not self.window.has(now):
                self.window = window_of(self.period, now)
                self.tokens, self.usd, self.others = 0, 0.0, Amount(0, 0.0)
        return self.window

    def reserve(self, tokens: int, usd: float, limit: Amount) -> Entry | None:
        """Reserve an amount, unless more than `limit` would be spent then."""
        with self.lock:
            spent = self.spent()
            if Amount(spent.tokens + tokens, spent.usd + usd).exceeds(limit):
                return None
            return self.enter(tokens, usd)

    def enter(self, tokens: int, usd: float) -> Entry:
        """Count an amount without a limit."""
        with self.lock:
            window = self.turn()
            self.tokens += tokens
            self.usd += usd
        return Entry(self, tokens, usd, window)

    def settle(self, entry: Entry, tokens: int, usd: float) -> None:
        """Replace what `entry` reserved by an amount, if its window is still that of now."""
        with self.lock:
            if self.turn() is entry.window or self.window == entry.window:
                # Each in one step, so that a settlement that Ctrl-C interrupts can be repeated.
                self.tokens, entry.tokens = self.tokens + tokens - entry.tokens, tokens
                self.usd, entry.usd = self.usd + usd - entry.usd, usd
        if self.changed is not None:
            self.changed()

    def end(self) -> float:
        """When the window ends, in seconds of Unix time; infinite if it never does."""
        with self.lock:
            return self.turn().end


_MOST = 10_000
_accounts: dict[tuple[str, Period | None], Account] = {}
_lock = fork_safe_lock()


def account_of(scope: str, period: Period | None, now: Callable[[], float]) -> Account:
    """The account of this process for `scope`, or a new one if it has no name."""
    if not scope:
        return Account(period, now)
    with _lock:
        found = _accounts.get((scope, period))
        if found is None:
            if len(_accounts) >= _MOST:
                _forget_past_windows()
            found = _accounts[scope, period] = Account(period, now)
        return found


def _forget_past_windows() -> None:
    for key, account in list(_accounts.items()):
        if account.window.end < math.inf and not account.window.has(account.now()):
            del _accounts[key]
