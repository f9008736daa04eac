"""The budgets that the processes of a fleet share."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.policy.account import Account, Amount, Entry
from agentkit.policy.budget import Budget
from agentkit.policy.period import Period, Window
from agentkit.state import budget_questions
from agentkit.state.budget_questions import (
    NANO,
    NOTHING,
    Statement,
    Sum,
    account_key,
)
from agentkit.state.pace import SEND_WITHIN, Pace
from agentkit.state.questions import mark_key
from agentkit.types import Now
from agentkit.types.fleet import Fleet, Hear, Question

_IDLE: Final = 3600.0
"""Seconds after its last use when a process forgets an account."""
_AT_ONCE: Final = 100
"""The most accounts that one heartbeat reports."""
_UNLIMITED: Final = -1
_MOST_AHEAD: Final = 100
"""At most one part in so many of a limit is reserved ahead: a process that is killed leaves it
spent."""
_TRIES: Final = 20
"""How often a reservation is asked for, at most, before this process decides alone."""


class SharedBudgets:
    """The accounts of a fleet, by scope and period; see `agentkit.policy.budget.SharedBudgets`."""

    def __init__(self, fleet: Fleet, *, now: Now = time.monotonic) -> None:
        self._fleet = fleet
        self._now = now
        self._lock = fork_safe_lock()
        self._accounts: OrderedDict[tuple[str, Period | None], SharedAccount] = OrderedDict()
        self._opened = 0
        on_fork(self._leave_to_parent)
        fleet.at_heartbeat(self._report)

    def use_ahead(self, budget: Budget, tokens: int, usd: float) -> Entry | None:
        """A part of what this process has reserved ahead in `budget`; None: it has to ask."""
        shared = self._accounts.get((budget.scope, budget.per))
        if shared is None or shared.account is not budget.account:
            return None
        return shared.use_ahead(_sum(tokens, usd), _limit_of(budget))

    def reservation(self, budget: Budget, tokens: int, usd: float) -> SharedReservation:
        """A reservation in `budget`, which counts in this fleet from now on."""
        key = budget.scope, budget.per
        with self._lock:
            shared = self._accounts.get(key)
            if shared is None:
                self._opened += 1
                process = f"{self._fleet.process}:{self._opened}"
                shared = self._accounts[key] = SharedAccount(
                    self._fleet, *key, process, now=self._now
                )
            self._accounts.move_to_end(key, last=False)
            shared.used_at = self._now()
        budget.account = shared.account
        return SharedReservation(shared, budget, tokens, usd)

    def close(self) -> None:
        """Report what was spent, and leave every account."""
        with self._lock:
            accounts = list(self._accounts.values())
            self._accounts.clear()
        self._fleet.stop_at_heartbeat(self._report)
        for each in accounts:
            each.close()

    def _report(self) -> Iterable[tuple[Question, Hear | None]]:
        with self._lock:
            idle = self._now() - _IDLE
            for key, shared in list(self._accounts.items()):
                if shared.used_at < idle:
                    del self._accounts[key]
                    shared.close()
            accounts = list(self._accounts.values())[:_AT_ONCE]
        return [each.report() for each in accounts]

    def _leave_to_parent(self) -> None:
        for each in self._accounts.values():
            each.detach()
        self._accounts = OrderedDict()


class _Asked(NamedTuple):
    """A question on its way."""

    question: Question
    epoch: int
    stated: Sum
    """What this process has spent according to it, beside what was reserved in this epoch."""
    at: float
    limit: Sum | None
    ahead: Sum
    """What it reserves ahead."""


class _Loss(NamedTuple):
    """What was known when the store was lost."""

    window: Window
    left: Amount
    """Spent or reserved by all processes."""
    own: Amount


class SharedAccount:
    """An account that several processes count in.

    What this process spent is in `account`, and stays true whatever becomes of the store. A
    statement reports it: as an absolute amount at the start of an epoch, and then as changes. After
    a lost question or reply the next epoch starts, so that the two agree again.

    While calls follow each other quickly, a question also reserves ahead; see
    `agentkit.state.pace`. For the store that is spent, for `account` it is not.

    `now` is the only clock: the store's time is that of its last reply plus what passed since.
    """

    def __init__(
        self, fleet: Fleet, scope: str, period: Period | None, process: str, *, now: Now
    ) -> None:
        self._now = now
        self.account = Account(period, self._store_time)
        self.account.changed = self._settled
        self.used_at = 0.0
        self._fleet = fleet
        self._key = account_key(scope, period)
        self._process = process
        self._heard_time: tuple[float, float] | None = None
        """The store's time in seconds of Unix time, and when it was heard, by `now`."""
        self._window: Window | None = None
        """The window that the statements are about."""
        self._epoch = 0
        self._session = -1
        """The session of the fleet in which the epoch began."""
        self._broken = False
        """Whether another epoch has to begin."""
        self._born = 0
        self._base = self._stated = self._reserved = NOTHING
        """`_reserved` was granted in this epoch, as far as it was heard."""
        self._acknowledged = self._reported = self._seen = NOTHING
        """What the account had of this process when it last replied, the same before this epoch,
        and what it had in all."""
        self._seen_at = 0
        self._loss: _Loss | None = None
        self._pace = Pace()
        self._ahead = NOTHING
        """What was reserved ahead, and is left of it."""
        self._ahead_until = 0.0
        self._ahead_limit: Sum | None = None
        """The limit within which that was reserved."""
        self._asks_ahead: _Asked | None = None
        """The question on its way that reserves ahead."""

    def use_ahead(self, wanted: Sum, limit: Sum) -> Entry | None:
        """A part of what was reserved ahead within `limit`, if that suffices."""
        if self._ahead is NOTHING:
            return None
        now = self._now()
        with self.account.lock:
            left = self._ahead.minus(wanted)
            if (
                min(left) < 0
                or now >= self._ahead_until
                or limit != self._ahead_limit
                or self.account.turn() != self._window
            ):
                return None
            self._ahead = left
            self._pace.note(now, *wanted)
            return self.account.enter(wanted.tokens, wanted.nanos / NANO)

    def ask(self, wanted: Sum = NOTHING, limit: Sum | None = None) -> _Asked:
        """The next question; with a `limit`, it reserves `wanted`.

        What is left of the last one is given back then, and may be reserved ahead again.
        """
        account, session, now = self.account, self._fleet.session, self._now()
        with account.lock:
            window = account.turn()
            starts = self._broken or session != self._session or window != self._window
            if starts or limit is not None or now >= self._ahead_until:
                self._ahead = NOTHING
            own = self._own()
            if window != self._window:
                self._window, self._broken = window, True
                self._seen = self._acknowledged = NOTHING
                self._seen_at = 0
            if starts:
                self._broken, self._session, self._born = False, session, 0
                self._epoch += 1
                self._base = self._stated = own
                self._reserved, self._reported = NOTHING, self._acknowledged
            stated = own.minus(self._reserved)
            statement = Statement(
                process=self._process,
                epoch=self._epoch,
                start=round(window.start * 1000),
                end=0 if window.end == math.inf else round(window.end * 1000),
                born=self._born,
                base=self._base,
                reported=self._reported,
                seen=self._seen,
                seen_at=self._seen_at,
                spent=stated.minus(self._stated),
            )
            self._stated = stated
            marks = () if self._fleet.is_cluster else (mark_key(),)
            ahead = self._expect(limit, now)
            question = budget_questions.spend(
                self._key, statement, wanted, limit, ahead=ahead, marks=marks
            )
            asked = _Asked(question, self._epoch, stated, at=now, limit=limit, ahead=ahead)
            if ahead is not NOTHING:
                self._asks_ahead = asked
            return asked

    def hear(self, asked: _Asked, reply: Any, wanted: Sum | None = None) -> _Heard:
        """Take in a reply. If it grants what was `wanted`, that is entered into `account`."""
        account = self.account
        status, now, born, tokens, nanos, wait, is_ahead = _read(reply)
        with account.lock:
            if asked is self._asks_ahead:
                self._asks_ahead = None
            account.is_alone = not status
            if not status:
                self._broken |= asked.epoch == self._epoch
                if self._loss is None:
                    own = Amount(account.tokens, account.usd)
                    self._loss = _Loss(account.turn(), account.spent(), own)
                return _Heard("lost")
            self._heard_time, self._loss = (now / 1000, self._now()), None
            if asked.epoch != self._epoch or status == "window":
                return _Heard("again")
            if status not in ("yes", "no", "wait"):
                self._broken = True
                return _Heard("again")
            entry = None
            if status == "yes" and wanted is not None:
                entry = account.enter(wanted.tokens, wanted.nanos / NANO)
                self._reserved = self._reserved.plus(wanted)
                self._pace.note(self._now(), *wanted)
            if is_ahead:
                self._reserved = self._reserved.plus(asked.ahead)
                self._ahead, self._ahead_limit = self._ahead.plus(asked.ahead), asked.limit
                self._ahead_until = asked.at + SEND_WITHIN
                self._fleet.soon(self._report_change, SEND_WITHIN)
            self._born = born
            self._seen, self._seen_at = Sum(tokens, nanos), now
            self._acknowledged = asked.stated.plus(self._reserved)
            others = self._seen.minus(self._acknowledged)
            account.others = Amount(others.tokens, others.nanos / NANO)
            return _Heard(status, entry, wait / 1000)

    def reserve_alone(self, tokens: int, usd: float, budget: Budget) -> Entry | None:
        """Reserve while the store is lost, as the budget says."""
        account, limit = self.account, budget.limit
        with account.lock:
            window, loss = account.turn(), self._loss
            if budget.on_loss == "stop":
                return None
            if budget.on_loss == "share" and loss is not None:
                nothing = Amount(0, 0.0)
                left, own = (loss.left, loss.own) if loss.window == window else (nothing, nothing)
                count = self._fleet.processes
                limit = Amount(
                    own.tokens + (limit.tokens - left.tokens) / count,
                    own.usd + (limit.usd - left.usd) / count,
                )
            if Amount(account.tokens + tokens, account.usd + usd).exceeds(limit):
                return None
            return account.enter(tokens, usd)

    def report(self, *, again: bool = True) -> tuple[Question, Hear]:
        """A question that reports what was spent, and the function for its reply.

        With `again`, it is reported once more at once if the store wants to hear all of it: others
        wait for that, and not as long as the next heartbeat takes.
        """
        asked = self.ask()
        return asked.question, lambda reply: self._heard(asked, reply, again)

    def close(self) -> None:
        """Report what was spent, and leave the account."""
        self.detach()
        with self.account.lock:
            self._ahead = NOTHING
        self._fleet.post(self.ask().question)
        self._fleet.post(budget_questions.leave(self._key, self._process))

    def detach(self) -> None:
        """Report nothing more."""
        self.account.changed = None

    def _own(self) -> Sum:
        """Spent or reserved by this process, also ahead."""
        return _sum(self.account.tokens, self.account.usd).plus(self._ahead)

    def _expect(self, limit: Sum | None, now: float) -> Sum:
        """What to reserve ahead: for the calls that are expected, and a small part of `limit`."""
        if limit is None or self._asks_ahead is not None:
            return NOTHING
        calls, *most = self._pace.expect(now)
        for limited, each in zip(limit, most, strict=True):
            if limited >= 0 and each:
                calls = min(calls, limited // _MOST_AHEAD // each)
        return Sum(calls * most[0], calls * most[1]) if calls else NOTHING

    def _store_time(self) -> float:
        """Seconds of Unix time; before the first reply, by the clock of this machine."""
        heard = self._heard_time
        return time.time() if heard is None else heard[0] + self._now() - heard[1]

    def _settled(self) -> None:
        """Report a change soon. Under load the next reservation comes first, and reports it."""
        self._fleet.soon(self._report_change)

    def _report_change(self) -> list[tuple[Question, Hear | None]]:
        with self.account.lock:
            if self._now() >= self._ahead_until:
                self._ahead = NOTHING
            is_known = self._own().minus(self._reserved) == self._stated
            is_ahead = self._ahead is not NOTHING
        if is_ahead:
            self._fleet.soon(self._report_change, SEND_WITHIN)
        return [] if is_known or self.account.changed is None else [self.report()]

    def _heard(self, asked: _Asked, reply: Any, again: bool) -> None:
        status = self.hear(asked, reply).status
        if again and status == "again" and self.account.changed is not None:
            self._fleet.post(*self.report(again=False))


class SharedReservation:
    """A reservation in an account of a fleet; see `agentkit.policy.budget.Reservation`."""

    def __init__(self, shared: SharedAccount, budget: Budget, tokens: int, usd: float) -> None:
        self._shared, self._budget = shared, budget
        self._amount = tokens, usd
        self._wanted = _sum(tokens, usd)
        self._limit = _limit_of(budget)
        self._asked: _Asked | None = None
        """The question whose reply is outstanding."""
        self._tries = 0

    @property
    def question(self) -> Question:
        """Asks for it; another question each time."""
        self._asked = self._shared.ask(self._wanted, self._limit)
        return self._asked.question

    def step(self, reply: Any) -> Entry | float | None:
        """What was reserved, the seconds to wait before asking again, or None: it is refused."""
        asked, self._asked = self._asked, None
        if asked is None:
            raise RuntimeError("a reply without a question")
        heard = self._shared.hear(asked, reply, self._wanted)
        self._tries += 1
        if heard.status == "lost" or self._tries >= _TRIES:
            return self._shared.reserve_alone(*self._amount, self._budget)
        return heard.entry if heard.status in ("yes", "no") else heard.wait

    def close(self) -> None:
        """Give up while the reply is outstanding."""
        if self._asked is not None:
            self._shared.hear(self._asked, None)


class _Heard(NamedTuple):
    status: str
    entry: Entry | None = None
    wait: float = 0.0


def _sum(tokens: int, usd: float) -> Sum:
    return Sum(tokens, round(usd * NANO))


def _limit_of(budget: Budget) -> Sum:
    return Sum(
        _UNLIMITED if budget.tokens is None else budget.tokens,
        _UNLIMITED if budget.usd is None else round(budget.usd * NANO),
    )


def _read(reply: Any) -> tuple[str, int, int, int, int, int, int]:
    """The fields of a reply; the status is empty if it cannot be read."""
    if isinstance(reply, list) and len(reply) == 7 and isinstance(reply[0], bytes):
        status, *numbers = reply
        if all(isinstance(each, int) for each in numbers):
            return (status.decode("ascii", "replace"), *numbers)
    return "", 0, 0, 0, 0, 0, 0
