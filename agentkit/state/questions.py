"""The questions to shared state: keys and arguments of each function, and what it returns.

The keys that one function touches have one hash tag (the part in braces), so that a cluster keeps
them on one server.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from agentkit.types.fleet import Question

PREFIX: Final = "ak1:"
"""The prefix of every key and channel; it has the version of their layout."""

ALIVE_MS: Final = 5_000
"""Milliseconds after its last heartbeat when a process counts as gone."""
LEASE_MS: Final = 3_000
"""Milliseconds for which a process leads a shared call without renewing its lease."""
LEAD: Final = 0
"""The reply to a claim that gives the lead."""
LONGEST_WAIT: Final = 0.25
"""Seconds that a caller waits for a reply at most."""
LARGEST_MESSAGE: Final = 16_384
"""The most bytes of an answer that are sent with the message that it is there."""

SharedOutcome: TypeAlias = Literal["answer", "error", "left"]

NEWS: Final = f"{PREFIX}news"
"""The channel on which every process gets messages."""

FLEET: Final = "fleet"
"""The hash tag of what belongs to no group of keys."""

_LIVE: Final = f"{PREFIX}{{{FLEET}}}live"


def inbox_of(process: str) -> str:
    """The channel on which a process gets messages."""
    return f"{PREFIX}inbox:{process}"


_INBOXES: Final = inbox_of("")
"""What the channels of all processes begin with."""


def mark_key(tag: str = FLEET) -> str:
    """The key of the mark of a server: since when it remembers everything, in ms.

    It is negative if nothing was there before. It is lost with everything else, so that a process
    which has read another mark before knows of the loss, as does one that finds none.
    """
    return f"{PREFIX}{{{tag}}}mark"


def beat(process: str, known: int = 0) -> Question:
    """A heartbeat of a process that has read the mark `known` before (0: none).

    The reply is the number of live processes, the server's time in ms, and its mark.
    """
    return Question("beat", (_LIVE, mark_key()), (process, ALIVE_MS, known))


def leave(process: str) -> Question:
    """The end of a process."""
    return Question("leave", (_LIVE,), (process,))


class SharedKeys(NamedTuple):
    """The keys of one shared call."""

    answer: str
    call: str

    @classmethod
    def of(cls, group: str, key: str) -> SharedKeys:
        """The keys for a request `key` in the namespace `group`."""
        stem = f"{PREFIX}{group}:{{{key}}}"
        return cls(f"{stem}a", f"{stem}c")


def shared_claim(keys: SharedKeys, holder: str, process: str) -> Question:
    """Ask for the answer, or for the lead of the upstream call.

    The reply is the answer as bytes, `LEAD`, or the number of milliseconds until the lease
    of the process that leads ends. Whoever waits gets a message when the call has ended.
    """
    undo = shared_leave(keys, holder)
    return Question("shared_claim", keys, (holder, process, LEASE_MS), undo=undo)


def shared_renew(keys: SharedKeys, holder: str) -> Question:
    """Renew the lease of `holder`. The reply is 1, or 0 if it does not lead."""
    return Question("shared_renew", (keys.call,), (holder, LEASE_MS))


def shared_leave(keys: SharedKeys, holder: str) -> Question:
    """End the shared call of `holder` without an outcome: one of those that wait takes over."""
    return shared_complete(keys, holder, "left", b"", ttl=1.0)


def shared_complete(
    keys: SharedKeys, holder: str, outcome: SharedOutcome, data: bytes, *, ttl: float
) -> Question:
    """End the shared call of `holder`, and send its outcome to all that wait.

    The reply is the number of processes that waited, or -1 if `holder` does not lead any more.
    `ttl` is the number of seconds for which an answer is kept.
    """
    milliseconds = max(1, int(ttl * 1000))
    args = (holder, outcome, data, milliseconds, _INBOXES, LARGEST_MESSAGE)
    return Question("shared_complete", keys, args)
