"""The functions over the circuits of a fleet in this process; see `agentkit.state.local`."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from agentkit.state.circuit_questions import SCALE, CircuitState

FIRST_PAUSE: Final = 1_000
"""Milliseconds after the first dispute in which failures in a row do not open a circuit."""
LONGEST_PAUSE: Final = 30_000
"""The same after many disputes; it doubles with each."""
BUCKETS: Final = 6
"""In how many parts the window of the rates slides."""
MOST_TALLIES: Final = 32
"""The most witnesses that have a tally."""

Reply: TypeAlias = "list[Any]"


class _Tally(NamedTuple):
    bucket: int
    calls: int
    failures: int
    slow: int


@dataclass(slots=True)
class _Circuit:
    """A circuit. Times are milliseconds; its fields are those of the scripts."""

    expires: int
    state: CircuitState = "closed"
    era: int = 0
    until: int = 0
    """When the next probe is due."""
    holder: str = ""
    """Who holds the probe."""
    good: int = 0
    """Probes that succeeded in a row."""
    opened: int = 0
    since: int = 0
    """The time of the oldest failure for which it opened; 0: a success does not dispute it."""
    by: str = ""
    """The witnesses that opened it."""
    quiet: int = 0
    """Until when failures in a row do not open it, after a dispute."""
    pause: int = 0
    """How long that was."""
    mode: str = ""
    """Whether its witnesses are hosts or processes."""
    failures: list[tuple[int, str]] = field(default_factory=list)
    """When, and the witness."""
    tallies: dict[str, list[_Tally]] = field(default_factory=dict)


class LocalBreakers:
    """The circuits of a fleet in memory; its arguments are those of `LocalState`."""

    def __init__(self, now: Callable[[], int], publish: Callable[[str, bytes], None]) -> None:
        self._now = now
        self._publish = publish
        self._circuits: dict[str, _Circuit] = {}
        self._hosts: dict[str, tuple[dict[str, int], list[tuple[int, str]]]] = {}

    def flush(self) -> None:
        """Lose everything."""
        self._circuits.clear()
        self._hosts.clear()

    def breaker_report(
        self,
        key: str,
        hosts: str,
        host: str,
        process: str,
        needed: int,
        alive: int,
        known: int,
        failures: int,
        age: int,
        calls: int,
        failed: int,
        slow: int,
        threshold: int,
        recovery: int,
        window: int,
        minimum: int,
        failure_rate: int,
        slow_rate: int,
        channel: str,
        topic: str,
        open_for: int,
        reporters: str,
        disputed: int,
    ) -> Reply:
        """See `agentkit.state.circuit_questions.report`."""
        now = self._now()
        several = self._count_hosts(hosts, host, now, alive) > 1
        mode, witness = ("host", host) if several else ("process", f"{host}/{process}")
        needed = max(needed, 2) if several else needed
        found = self._alive(key)
        expires = now + recovery * 4 + window
        circuit = found or _Circuit(expires)
        lost = open_for > 0 or (open_for == 0 and circuit.state in ("open", "half-open"))
        if known > circuit.era and lost:
            circuit = self._circuits[key] = _Circuit(expires, "closed", max(now, known + 1))
            if open_for > 0:
                circuit.state, circuit.until = "open", now + open_for
                circuit.opened, circuit.by = now, reporters
            self._publish_state(key, channel, topic)
            return self._reply(key)
        if circuit.state == "open" and circuit.since > 0 and disputed == circuit.era:
            self._dispute(key, circuit, now, expires)
            self._publish_state(key, channel, topic)
            return self._reply(key)
        says_nothing = not failures and not calls and (age < 0 or not circuit.failures)
        wrong_era = known not in (circuit.era, -1) and circuit.era > 0
        if says_nothing or circuit.state not in ("closed", "disputed") or wrong_era:
            return self._reply(key)
        if circuit.mode != mode:
            circuit.mode, circuit.failures, circuit.tallies = mode, [], {}
        most = threshold if needed == 1 else -(-threshold // 2)
        row = [
            each
            for each in circuit.failures
            if each[0] > now - window and (age < 0 or each[0] > now - age)
        ]
        row += [(now, witness)] * min(failures, most)
        circuit.failures = _newest(row, most=most, total=max(threshold, needed))
        witnesses = sorted({who for _, who in circuit.failures})
        circuit.expires = expires
        self._circuits[key] = circuit
        enough = len(circuit.failures) >= threshold and len(witnesses) >= needed
        if enough and now >= circuit.quiet:
            self._open(key, circuit, now, recovery, since=circuit.failures[0][0], by=witnesses)
            self._publish_state(key, channel, topic)
            return self._reply(key)
        bucket = now // max(1, window // BUCKETS)
        tallies = circuit.tallies = _recent(circuit.tallies, bucket)
        if calls and (witness in tallies or len(tallies) < MOST_TALLIES):
            tallies.setdefault(witness, []).append(_Tally(bucket, calls, failed, slow))
            rates = (failure_rate, slow_rate)
            by = _witnesses_of_rates(tallies, needed=needed, minimum=minimum, rates=rates)
            if by:
                self._open(key, circuit, now, recovery, since=0, by=by)
                self._publish_state(key, channel, topic)
        return self._reply(key)

    def breaker_admit(self, key: str, holder: str, lease: int) -> Reply:
        """See `agentkit.state.circuit_questions.admit`."""
        now, circuit = self._now(), self._alive(key)
        if circuit is None or circuit.state in ("closed", "disputed"):
            return self._reply(key)
        wait = circuit.until - now
        if wait > 0 and not (circuit.state == "half-open" and circuit.holder == holder):
            return self._reply(key, settled=True)
        circuit.state, circuit.holder, circuit.until = "half-open", holder, now + lease
        return [b"probe", circuit.era, lease, -1, circuit.by.encode()]

    def breaker_renew(self, key: str, holder: str, lease: int) -> int:
        """See `agentkit.state.circuit_questions.renew`."""
        circuit = self._alive(key)
        if circuit is None or circuit.state != "half-open" or circuit.holder != holder:
            return 0
        circuit.until = self._now() + lease
        return 1

    def breaker_settle(
        self,
        key: str,
        holder: str,
        outcome: str,
        success_threshold: int,
        recovery: int,
        window: int,
        channel: str,
        topic: str,
    ) -> Reply:
        """See `agentkit.state.circuit_questions.settle`."""
        now, circuit = self._now(), self._alive(key)
        if circuit is None or circuit.state != "half-open" or circuit.holder != holder:
            return self._reply(key, settled=True)
        circuit.until, circuit.holder = now, ""
        if outcome == "failure":
            circuit.state, circuit.era = "open", max(now, circuit.era + 1)
            circuit.until, circuit.good, circuit.since = now + recovery, 0, 0
        elif outcome == "success" and circuit.good + 1 < success_threshold:
            circuit.good += 1
        elif outcome == "success":
            circuit = _Circuit(circuit.expires, "closed", max(now, circuit.era + 1))
            self._circuits[key] = circuit
        if outcome != "left":
            circuit.expires = now + recovery * 4 + window
        self._publish_state(key, channel, topic)
        return self._reply(key, settled=True)

    def breaker_reset(self, key: str, channel: str, topic: str) -> int:
        """See `agentkit.state.circuit_questions.reset`."""
        now, circuit = self._now(), self._alive(key)
        if circuit is None:
            return 0
        self._circuits[key] = _Circuit(now + 60_000, "closed", max(now, circuit.era + 1))
        self._publish_state(key, channel, topic)
        return 1

    def _count_hosts(self, key: str, host: str, now: int, alive: int) -> int:
        hosts, due = self._hosts.setdefault(key, ({}, []))
        hosts[host] = now + alive
        heapq.heappush(due, (now + alive, host))
        while due and due[0][0] <= now:
            until, gone = heapq.heappop(due)
            if hosts.get(gone) == until:
                del hosts[gone]
        return len(hosts)

    def _dispute(self, key: str, circuit: _Circuit, now: int, expires: int) -> None:
        pause = FIRST_PAUSE
        if now < circuit.quiet + 2 * circuit.pause:
            pause = min(circuit.pause * 2, LONGEST_PAUSE)
        after = _Circuit(expires, "disputed", max(now, circuit.era + 1))
        after.quiet, after.pause = now + pause, pause
        self._circuits[key] = after

    def _open(
        self, key: str, circuit: _Circuit, now: int, recovery: int, *, since: int, by: list[str]
    ) -> None:
        opened = _Circuit(circuit.expires, "open", max(now, circuit.era + 1), now + recovery)
        opened.opened, opened.since, opened.by = now, since, ",".join(by)
        opened.quiet, opened.pause = circuit.quiet, circuit.pause
        self._circuits[key] = opened

    def _alive(self, key: str) -> _Circuit | None:
        circuit = self._circuits.get(key)
        return None if circuit is None or circuit.expires <= self._now() else circuit

    def _reply(self, key: str, *, settled: bool = False) -> Reply:
        circuit, now = self._alive(key), self._now()
        if circuit is None:
            return [b"closed", 0, 0, -1, b""]
        disputable = circuit.state == "open" and circuit.since > 0 and not settled
        return [
            circuit.state.encode(),
            circuit.era,
            max(0, circuit.until - now),
            now - circuit.since if disputable else -1,
            circuit.by.encode(),
        ]

    def _publish_state(self, key: str, channel: str, topic: str) -> None:
        state, *numbers, by = self._reply(key)
        words = [key.encode(), state, *(str(number).encode() for number in numbers), by]
        self._publish(channel, f"{topic}\n".encode() + b" ".join(words))


def _newest(row: list[tuple[int, str]], *, most: int, total: int) -> list[tuple[int, str]]:
    """The newest of `row`, the oldest first: at most `most` of each witness, `total` in all."""
    count: Counter[str] = Counter()
    kept: list[tuple[int, str]] = []
    for at, who in reversed(row):
        count[who] += 1
        if count[who] <= most and len(kept) < total:
            kept.insert(0, (at, who))
    return kept


def _recent(tallies: dict[str, list[_Tally]], bucket: int) -> dict[str, list[_Tally]]:
    recent = {
        who: [each for each in kept if each.bucket > bucket - BUCKETS]
        for who, kept in tallies.items()
    }
    return {who: kept for who, kept in recent.items() if kept}


def _witnesses_of_rates(
    tallies: dict[str, list[_Tally]], *, needed: int, minimum: int, rates: tuple[int, int]
) -> list[str]:
    """The witnesses on whose word the circuit opens; none if the rates are not too high.

    Both the rate of all together and the rates of `needed` witnesses must be, so that a host with
    a broken network does not outvote those that had few calls.
    """
    sums = {
        who: [sum(column) for column in zip(*kept, strict=True)] for who, kept in tallies.items()
    }
    total = [sum(column) for column in zip(*sums.values(), strict=True)]
    if total[1] < minimum:
        return []
    for column, rate in ((2, rates[0]), (3, rates[1])):
        against = [
            who
            for who, own in sums.items()
            if own[1] > 0 and own[1] * 4 >= minimum and own[column] * SCALE >= rate * own[1]
        ]
        if rate and len(against) >= needed and total[column] * SCALE >= rate * total[1]:
            return sorted(against)
    return []
