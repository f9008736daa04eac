"""The circuits that this process shares with its fleet.

The circuit breaker of a model stays the only one that is asked. What it counts is reported to the
store, off the path of the call, and what other processes report opens and closes it. So a call
through a closed circuit costs nothing, and a process that loses the store has its own breaker.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from agentkit._fork import fork_safe_lock, on_fork
from agentkit.policy.breaker import CircuitBreaker, Permit, ProbeOutcome, SerialQueue
from agentkit.state import circuit_questions
from agentkit.state.circuit_questions import UNKNOWN_ERA, Circuit, CircuitKeys, Witness
from agentkit.types.fleet import Fleet, Hear, Question

LONGEST_AGE_MS: Final = 10**9
"""Milliseconds after which a success is as good as none."""
REPORTS_A_SECOND: Final = 1_000
"""The most regular reports of all processes together on one circuit. In a larger fleet each one
reports less often than once a second."""
NEWER_MS: Final = 100
"""Milliseconds after a circuit has opened in which a success still disputes it."""
KNOWN_SECONDS: Final = 5.0
"""Seconds after its time when a process no longer believes that a circuit is open."""
HOST_INTERVALS: Final = 5
"""Intervals between two reports for which a host counts as a user of a model."""

_probes = itertools.count(1)


def host_name() -> str:
    """The name of this machine among those of a fleet: ``AGENTKIT_FLEET_HOST``, or its own name.

    Its own name comes with four digits that distinguish machines of the same name.
    """
    given = os.environ.get("AGENTKIT_FLEET_HOST", "").strip()
    if not given:
        import platform

        given = f"{platform.node() or 'host'}-{sha256(_boot_id()).hexdigest()[:4]}"
    return "".join(each if each.isalnum() or each in "-._" else "-" for each in given)[:64]


def _boot_id() -> bytes:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        return b""


class SharedCircuits:
    """The circuits of one manager in its fleet.

    Args:
        fleet: the processes that share the circuits.
        now: the clock of the breakers, in seconds.
        host: the name of this machine (default: `host_name`).
    """

    def __init__(
        self, fleet: Fleet, *, now: Callable[[], float] = time.monotonic, host: str = ""
    ) -> None:
        self.fleet = fleet
        self.now = now
        self.host = host or host_name()
        self._circuits: WeakSet[FleetCircuit] = WeakSet()
        self._process = ""
        self._session = -1
        fleet.at_heartbeat(self._reports)

    def share(self, breaker: CircuitBreaker, identity: str) -> FleetCircuit:
        """Share the circuit of `breaker` with all processes that call `identity`.

        Breakers of one process with the same rules and identity share it, too.
        """
        keys = CircuitKeys.of(identity, breaker.policy)
        circuit = breaker.reporter = FleetCircuit(self, breaker, keys)
        self._circuits.add(circuit)
        circuit.refresh()
        return circuit

    def interval(self) -> float:
        """Seconds between two regular reports on a circuit."""
        return max(1.0, self.fleet.processes / REPORTS_A_SECOND)

    def _receive(self, message: bytes) -> None:
        key, _, text = message.partition(b" ")
        news = Circuit.of(text)
        if news is None:
            return
        for circuit in list(self._circuits):
            if circuit.key == key.decode():
                circuit.receive(news)

    def _reports(self) -> Iterator[tuple[Question, Hear | None]]:
        process, session = self.fleet.process, self.fleet.session
        if process != self._process:  # also in a forked child, whose inbox is new
            self.fleet.subscribe(circuit_questions.TOPIC, self._receive)
        missed, self._process, self._session = session != self._session, process, session
        for circuit in list(self._circuits):
            yield from circuit.regular_reports(missed=missed)


class FleetCircuit:
    """One shared circuit; see `agentkit.policy.target.SharedCircuit`."""

    def __init__(
        self, circuits: SharedCircuits, breaker: CircuitBreaker, keys: CircuitKeys
    ) -> None:
        self.breaker = breaker
        self._circuits = circuits
        self._keys = keys
        self._lock = fork_safe_lock()
        self._known = Circuit("closed", UNKNOWN_ERA, 0, -1, ())
        self._until = 0.0
        """Clock time until which the circuit of the fleet is open."""
        self._tallied = -1
        self._reported = -math.inf
        self._ticket: _Ticket | None = None
        self._changes: SerialQueue[Callable[[], None]] = SerialQueue(_call)
        """What to do with the breaker, without a lock, as it calls listeners."""
        on_fork(self._leave_to_parent)

    @property
    def key(self) -> str:
        """The key of the circuit in the store."""
        return self._keys.circuit

    def ask(self) -> Question:
        """Asks for the probe of the fleet."""
        holder = f"{self._circuits.fleet.process}:{next(_probes)}"
        return circuit_questions.admit(self._keys, holder)

    def admit(self, question: Question, reply: Any, *, lease: float | None) -> Permit | None:
        """A permit of the breaker, if the `reply` to `question` allows it."""
        circuit = Circuit.of(reply)
        if circuit is None:
            return self.breaker.admit(lease=lease)
        if circuit.era < self._known.era and self._open_for() > 0:
            self.refresh()  # the store has lost the circuit, and takes it from this process
            return None
        if circuit.state != "probe":
            self._follow(circuit, pushed=True)
            return self.breaker.admit(lease=lease)
        ticket = _Ticket(self, str(question.args[0]), self._circuits.now() + (lease or 60.0))
        permit = self.breaker.admit(lease=lease)
        if permit is None or not permit.probe:
            ticket.use("left")
        else:
            with self._lock:
                self._known, self._ticket = circuit._replace(state="half-open"), ticket
                self._until = self._circuits.now() + circuit.wait / 1000
            permit.ticket = ticket
        return permit

    def explain(self) -> str | None:
        """Until when the circuit of the fleet is open, and who reported it; None if it is not."""
        known, left = self._known, self._until - self._circuits.now()
        if not known.is_open or self.breaker.state == "closed":
            return None
        until = datetime.fromtimestamp(time.time() + max(left, 0.0), UTC)
        by = f", reported by {', '.join(known.reporters)}" if known.reporters else ""
        return f"the fleet's circuit is open until {until:%H:%M:%S} UTC{by}"

    def statistics(self) -> dict[str, Any]:
        """The circuit of the fleet, as this process knows it.

        Keys: ``state`` (``closed``, ``open``, ``half-open``, or ``unknown``), ``retry_after`` in
        seconds, and ``reported_by``.
        """
        known = self._known
        is_open = known.is_open
        state = known.state if is_open else "closed"
        return {
            "state": "unknown" if known.era == UNKNOWN_ERA else state,
            "retry_after": max(0.0, self._until - self._circuits.now()) if is_open else 0.0,
            "reported_by": list(known.reporters) if is_open else [],
        }

    def failed(self) -> None:
        """Report a failure, in the background."""
        self._post(failures=1)

    def reset(self) -> None:
        """Close the circuit of all processes."""
        self._circuits.fleet.post(circuit_questions.reset(self._keys))

    def refresh(self) -> None:
        """Get the circuit from the store, in the background."""
        self._post()

    def receive(self, news: Circuit) -> None:
        """Follow a message of the store, or dispute it."""
        if not self._dispute(news):
            self._follow(news, pushed=True)

    def regular_reports(self, *, missed: bool) -> Iterator[tuple[Question, Hear | None]]:
        """What to ask at a heartbeat, while the model is used or its circuit is not closed.

        `missed`: messages may have been lost.
        """
        now, ticket = self._circuits.now(), self._ticket
        if ticket is not None and now < ticket.until:
            yield circuit_questions.renew(self._keys, ticket.holder), None
        used = self.breaker.statistics().calls > 0 or self.breaker.state != "closed"
        is_due = used and now - self._reported >= self._circuits.interval() - 0.5
        if not missed and self._known.era != UNKNOWN_ERA and not is_due:
            return
        self._reported = now
        yield self._report(tally=self._tally())

    def _tally(self) -> tuple[int, int, int]:
        """Calls, failures and slow calls since the last tally; zeros if none of them was bad."""
        policy = self.breaker.policy
        last, calls, failures, slow = self.breaker.tally(self._tallied)
        bad = (failures and policy.failure_rate is not None) or (
            slow and policy.slow_call_duration is not None
        )
        if not bad:
            return 0, 0, 0
        self._tallied = last
        return calls, failures, slow

    def _report(self, **what: Any) -> tuple[Question, Hear]:
        circuits, known = self._circuits, self._known
        fleet = circuits.fleet
        witness = Witness(
            circuits.host,
            fleet.process,
            witnesses=min(fleet.processes, 2),
            alive=round(circuits.interval() * HOST_INTERVALS * 1000),
        )
        question = circuit_questions.report(
            self._keys,
            self.breaker.policy,
            witness,
            era=known.era,
            success_age=self._success_age(),
            open_for=self._open_for(),
            reporters=known.reporters,
            **what,
        )
        return question, lambda reply: self._hear(reply, known.era)

    def _open_for(self) -> int:
        """See `circuit_questions.report`. What was open long ago is unknown."""
        known, left = self._known, self._until - self._circuits.now()
        if known.is_open:
            return -1 if left < -KNOWN_SECONDS else max(1, round(left * 1000))
        return -1 if known.era == UNKNOWN_ERA else 0

    def _post(self, **what: Any) -> None:
        self._circuits.fleet.post(*self._report(**what))

    def _hear(self, reply: Any, asked: int) -> None:
        circuit = Circuit.of(reply)
        if circuit is not None and not self._dispute(circuit):
            self._follow(circuit, asked=asked)

    def _dispute(self, news: Circuit) -> bool:
        """Dispute that the circuit is open if this process had a success during the failures.

        The age of the success grows while the news are on their way, so that late news are disputed
        too rarely, and not too often.
        """
        age = self._success_age()
        opened_for = self.breaker.policy.recovery_timeout * 1000 - news.wait
        disputes = opened_for - NEWER_MS <= age < news.failing_for and age >= 0
        if disputes:
            self._post(disputed=news.era)
        return disputes

    def _success_age(self) -> int:
        age = self.breaker.last_success_age * 1000
        return int(age) if 0.0 <= age < LONGEST_AGE_MS else -1

    def _follow(self, news: Circuit, *, asked: int | None = None, pushed: bool = False) -> None:
        """Do as the fleet does. News that are older than what is known are dropped.

        The store lost what it knew if its era is older than that which the question named.
        """
        with self._lock:
            known = self._known
            if news.era < known.era and (pushed or (asked is not None and asked != known.era)):
                return
            self._known = news
            self._until = self._circuits.now() + news.wait / 1000
            self._changes.add(self._change_for(known, news))
        self._changes.run()

    def _change_for(self, known: Circuit, news: Circuit) -> Callable[[], None]:
        breaker, wait = self.breaker, news.wait / 1000
        if news.state == "open":
            return lambda: breaker.hold(wait)
        if news.state == "half-open":
            if self._ticket is not None:
                return _do_nothing
            return lambda: breaker.hold(min(wait, breaker.policy.recovery_timeout))
        if news.state == "closed" and UNKNOWN_ERA != known.era < news.era:
            return breaker.recover
        return breaker.release

    def _leave_to_parent(self) -> None:
        """In a forked child: the probe is the parent's."""
        self._ticket = None

    def use_ticket(self, ticket: _Ticket, outcome: ProbeOutcome) -> None:
        """End a probe."""
        with self._lock:
            if self._ticket is ticket:
                self._ticket = None
        question = circuit_questions.settle(self._keys, self.breaker.policy, ticket.holder, outcome)
        asked = self._known.era
        self._circuits.fleet.post(question, lambda reply: self._hear(reply, asked))


def _call(change: Callable[[], None]) -> None:
    change()


def _do_nothing() -> None:
    """Nothing: this process holds the probe."""


class _Ticket:
    """The probe of the fleet, held by one call."""

    def __init__(self, circuit: FleetCircuit, holder: str, until: float) -> None:
        self.holder = holder
        self.until = until
        self._circuit = circuit

    def use(self, outcome: ProbeOutcome) -> None:
        self._circuit.use_ticket(self, outcome)
