"""The questions to the account of a budget that processes share."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from agentkit.state.questions import PREFIX
from agentkit.types.fleet import Question

HOLD_MS: Final = 2_500
"""Milliseconds after the loss of an account in which nothing is reserved: by then, each process has
had a heartbeat with which it reports what it spent, also if it had to connect again."""

RETURNED_MS: Final = 500
"""Milliseconds after which what was reserved ahead, and not used, was given back."""
QUIET_MS: Final = 1_000
"""Milliseconds for which nothing is reserved ahead after a reservation had to wait for that."""

NANO: Final = 1_000_000_000


class Sum(NamedTuple):
    """Tokens and nano-dollars."""

    tokens: int = 0
    nanos: int = 0

    def plus(self, other: Sum) -> Sum:
        """Both together."""
        return Sum(self.tokens + other.tokens, self.nanos + other.nanos)

    def minus(self, other: Sum) -> Sum:
        """This without `other`."""
        return Sum(self.tokens - other.tokens, self.nanos - other.nanos)


NOTHING: Final = Sum()


class Statement(NamedTuple):
    """What a process states about its spending.

    An epoch begins with absolute amounts, which replace everything that the account has of the
    process; each question after that adds to them.
    """

    process: str
    epoch: int
    start: int
    """Of the window, in ms of Unix time."""
    end: int = 0
    """0: never."""
    born: int = 0
    """When the account was born, as heard in this epoch; 0: not heard."""
    base: Sum = NOTHING
    """What the process had spent when the epoch began."""
    reported: Sum = NOTHING
    """The part of it that the account had counted."""
    seen: Sum = NOTHING
    """Everything in this window that the process knew of when the epoch began."""
    seen_at: int = 0
    """When it was that, in ms of its time; 0: never."""
    spent: Sum = NOTHING
    """What it has spent since its last question of this epoch; negative if it got some back."""


def account_key(scope: str, period: str | None) -> str:
    """The key of the account. It does not show the scope, which may be the name of a user."""
    digest = blake2b(f"{period}\n{scope}".encode(), digest_size=16).hexdigest()
    return f"{PREFIX}{{budget:{digest}}}"


def spend(
    key: str,
    statement: Statement,
    wanted: Sum = NOTHING,
    limit: Sum | None = None,
    *,
    ahead: Sum = NOTHING,
    marks: Sequence[str] = (),
) -> Question:
    """Count what a process has spent. With a `limit`, reserve `wanted` within it (-1: unlimited).

    `ahead` is reserved, too, if at most half of `limit` is reserved or spent then.

    `marks` is the key of the mark, or nothing in a cluster, which may have it on another server.

    The reply is ``[status, now, born, tokens, nanos, wait, ahead]``: the server's time, when the
    account was born, all that is spent or reserved, 1 if `ahead` is reserved, and ``status``:

    - ``yes``: it is counted, and reserved;
    - ``no``: it is counted, but `wanted` exceeds what is left;
    - ``wait``: it is counted; ask again in ``wait`` ms, as the account was lost and the other
      processes have to report first, or as they may give back what they reserved ahead;
    - ``window``: nothing is counted, as ``now`` is in another window;
    - ``introduce``: nothing is counted, as the account was lost: begin an epoch;
    - ``late``: nothing is counted, as the process has begun another epoch.
    """
    args = (
        *(statement.process, statement.epoch, statement.start, statement.end, statement.born),
        *statement.base,
        *statement.reported,
        *statement.seen,
        *statement.spent,
        *wanted,
        *(limit or (-1, -1)),
        *(statement.seen_at, HOLD_MS, 0 if limit is None else 1),
        *ahead,
    )
    return Question("budget_spend", (key, *marks), args, retry=True)


def leave(key: str, process: str) -> Question:
    """The end of a process: its amounts stay counted. The reply is 1 if it had some."""
    return Question("budget_leave", (key,), (process,))


def trial(process: str) -> tuple[Question, ...]:
    """Each function once, about an account that no budget has."""
    key = account_key(process, None)
    nothing = Statement(process, epoch=1, start=0)
    return spend(key, nothing, marks=(f"{key}mark",)), leave(key, process)
