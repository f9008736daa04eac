"""The questions about the quota that processes share: what each function does and returns.

A *member* is one key of a provider with its window of 60 seconds. An *asker* is a pool of a
process, named ``process:number``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from agentkit.policy.limits import LONGEST_PAUSE
from agentkit.state.questions import ALIVE_MS, NEWS, PREFIX, inbox_of, mark_key
from agentkit.types.fleet import Argument, Question

SPAN: Final = 61
"""Seconds for which a bucket counts: its last admission is then at least 60 seconds old."""
SEND_WITHIN_MS: Final = 100
"""Milliseconds within which an admitted call leaves: it counts in the bucket of then."""
RETURNED_MS: Final = 500
"""Milliseconds after which places that were taken ahead, and not used, were given back:
`SEND_WITHIN_MS`, and something for a busy machine."""
HOLD_MS: Final = 2_500
"""Milliseconds for which a member that may have lost entries grants nothing: a heartbeat of every
process, another second for one that has to connect again, and something for a busy machine."""
LONGEST_HOLD_MS: Final = 5_000
"""Milliseconds for which it waits for as many processes as used it before."""
GRACE_MS: Final = 1_000
"""Milliseconds that whoever is next in the line has to ask."""
TOGETHER_MS: Final = 5_000
"""Milliseconds by which a call may come after the first one of another process, and still be
admitted with the calls of its own: half a step of priority. Less would need more questions."""
KEPT_MS: Final = 2 * SPAN * 1_000
"""Milliseconds for which a process that is silent is known, and a server keeps an unused member."""

INTRODUCE: Final = -2
"""The wait of a process that first has to say what it took."""

Entry: TypeAlias = tuple[int, int, int, int]
"""Its age in seconds or its bucket; and requests, input and output tokens."""


class QuotaKeys(NamedTuple):
    """The keys of a pool, apart from those of its members.

    `group` is what has the same provider; all of it lies on one server of a cluster. So does its
    `mark` there; see `mark_key`.
    """

    group: str
    line: str
    head: str
    mark: str

    @classmethod
    def of(cls, group: str, line: str, *, is_cluster: bool = False) -> QuotaKeys:
        """The keys for a provider `group`, and those who wait in one `line`."""
        stem = f"{PREFIX}{{{group}}}{line}"
        return cls(group, f"{stem}l", f"{stem}h", mark_key(group) if is_cluster else mark_key())

    def member(self, name: str, server: str) -> tuple[str, str]:
        """The keys of a member on one server; after a failover they are others."""
        stem = f"{PREFIX}{{{self.group}}}{name}:{server}"
        return f"{stem}m", f"{stem}k"

    def pause(self, name: str) -> str:
        """The key of the pause of a member; the same on every server."""
        return f"{PREFIX}{{{self.group}}}{name}p"

    def topic(self, name: str) -> str:
        """The topic of messages about a member."""
        return f"{PREFIX}{{{self.group}}}{name}"


class Report(NamedTuple):
    """What another process heard from the provider of a member."""

    pause: int
    """Milliseconds."""
    limits: tuple[int, ...]
    """As in an `Offer`."""


def read_room(message: bytes) -> float | None:
    """The seconds until there is room, or None: the message says something else."""
    kind, *numbers = message.split()
    return int(numbers[0]) / 1000 if kind == b"room" else None


def read_report(message: bytes) -> Report | None:
    """The report in a message about a member, or None: the message says something else."""
    kind, *numbers = message.split()
    if kind != b"report":
        return None
    pause, _, *limits = map(int, numbers)
    return Report(pause, tuple(limits))


class Offer(NamedTuple):
    """A member that an asker can use: its free places, calls under way, and limits (0: none)."""

    keys: tuple[str, str]
    had: bool
    """Whether the asker took something in its window."""
    users: int
    """The processes that use it, as far as the asker knows: after a loss, they have to report."""
    free: int
    load: int
    limits: tuple[int, int, int, int]


def reserve(
    keys: QuotaKeys,
    asker: str,
    server: str,
    offers: Sequence[Offer],
    needs: Sequence[tuple[int, int, int]],
    *,
    ahead: tuple[int, int, int] = (0, 0, 0),
) -> Question:
    """Reserve `needs` (input, output, milliseconds of waiting), in their order, as far as possible.

    Of several members that have room, one with the least load serves. Whoever has to wait stands
    in a line, and no other overtakes the first in it while it asks in time. No needs: leave it.

    `ahead` is how many places to take for calls that are expected next, and the input and output
    tokens of each. As many are taken as fit into half of each limit if all `needs` are granted and
    no process waits.

    The reply is the bucket, the milliseconds to wait (0: all is granted; `INTRODUCE`), the number
    of the offer for each need that is granted, from 1, and five numbers for each member: what it
    has counted, for how many milliseconds it may grant nothing because of a loss, and when it
    began, in ms: what was reserved before that is lost; and how many places were taken ahead in
    each member, or nothing.
    """
    args: list[Argument] = [asker, inbox_of(""), keys.line, server, *ahead]
    for offer in offers:
        args += [int(offer.had), offer.users, offer.free, offer.load, *offer.limits]
    for need in needs:
        args += need
    members = [key for offer in offers for key in offer.keys]
    of_all = (keys.line, keys.head, keys.mark)
    return Question("quota_reserve", (*of_all, *members), tuple(args), retry=True)


class Reserved(NamedTuple):
    """The reply to `reserve`."""

    bucket: int
    wait: int
    granted: Sequence[int]
    numbers: Sequence[int]
    ahead: Sequence[int]

    @property
    def states(self) -> list[Sequence[int]]:
        """The five numbers of each member."""
        return [self.numbers[at : at + 5] for at in range(0, len(self.numbers), 5)]


def introduce(
    keys: QuotaKeys,
    member: tuple[str, str],
    asker: str,
    server: str,
    *,
    entries: Sequence[Entry],
    missing: Sequence[Entry],
) -> Question:
    """Say what `asker` took in the window, and what of that the store was not asked for.

    The reply is the bucket; 1 if all `entries` were counted, 0 if only the `missing` ones, as the
    asker was known; and when the member began.
    """
    args: list[Argument] = [asker, server, len(entries)]
    for each in (*entries, *missing):
        args += each
    return Question("quota_introduce", (keys.mark, *member), tuple(args))


def settle(
    keys: QuotaKeys, member: tuple[str, str], born: int, changes: Sequence[Entry]
) -> Question:
    """Correct reservations, by bucket, in the member that began at `born`.

    The reply is how many of them still count.
    """
    args: list[Argument] = [inbox_of(""), keys.line, born]
    for each in changes:
        args += each
    return Question("quota_settle", (keys.head, member[0]), tuple(args))


def pause(keys: QuotaKeys, name: str, seconds: float = 0.0) -> Question:
    """Let every process know that the provider asks for a pause of a member; 0.0: only ask.

    The reply is the number of milliseconds for which it still lasts.
    """
    args = (_milliseconds(seconds), NEWS, keys.topic(name))
    return Question("quota_pause", (keys.pause(name),), args)


def report(
    keys: QuotaKeys,
    name: str,
    member: tuple[str, str],
    server: str,
    *,
    rest: float = 0.0,
    lasting: float = 0.0,
    limits: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Question:
    """Let every process know that a member pauses, or of limits that hold for `lasting` seconds."""
    numbers = (_milliseconds(rest), int(lasting * 1000), *limits)
    asked = (keys.mark, *member, keys.pause(name))
    return Question("quota_report", asked, (server, NEWS, keys.topic(name), *numbers))


class Watched(NamedTuple):
    """A member that an asker watches; see `Offer`."""

    keys: tuple[str, str]
    had: bool
    users: int


def watch(
    keys: QuotaKeys, asker: str, server: str, known: int, members: Sequence[Watched]
) -> Question:
    """Ask for the server's name, and for the state of each member if `server` is its name.

    `known` is the mark of the server that the process has read before (0: none).

    The reply is the name, and a row for each member: whether the asker has to introduce itself,
    milliseconds that the member pauses, may grant nothing because of a loss, and has learned
    limits; those; when it began; live processes; and the age, requests, input and output of each
    bucket.
    """
    args: list[Argument] = [asker, server, known, ALIVE_MS]
    for each in members:
        args += [int(each.had), each.users]
    watched = [key for each in members for key in each.keys]
    return Question("quota_watch", (keys.mark, *watched), tuple(args))


class MemberState(NamedTuple):
    """A row of the reply to `watch`."""

    is_unknown: bool
    """Whether the asker has to introduce itself."""
    pause: int
    """Milliseconds."""
    unsure: int
    """Milliseconds for which the member may grant nothing because of a loss."""
    limits: Sequence[int]
    """Those that a provider reported; 0 is none."""
    born: int
    """When the member began, in ms of the server's time."""
    processes: int
    buckets: Sequence[int]
    """The age in seconds, requests, input and output tokens of each bucket in turn."""

    @classmethod
    def of(cls, row: Sequence[int]) -> MemberState:
        """The state in a row."""
        unknown, pause, unsure, lasting, *numbers = row
        limits = numbers[:4] if lasting else (0, 0, 0, 0)
        born, processes, *buckets = numbers[4:]
        return cls(
            is_unknown=bool(unknown),
            pause=pause,
            unsure=unsure,
            limits=limits,
            born=born,
            processes=processes,
            buckets=buckets,
        )


def _milliseconds(pause: float) -> int:
    return int(min(pause, LONGEST_PAUSE) * 1000)
