"""The questions about the circuits that a fleet shares; see `agentkit.state.questions`.

The circuit of a fleet is a circuit breaker over what all of its processes report. It opens on the
word of two witnesses, who are hosts, or processes while a single host uses the model. Each function
returns a `Circuit`, or 1 or 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from agentkit.policy.breaker import BreakerPolicy, ProbeOutcome
from agentkit.state.questions import NEWS, PREFIX
from agentkit.types.fleet import Question

TOPIC: Final = "circuit"
"""The topic of messages about circuits."""
PROBE_LEASE_MS: Final = 3_000
"""Milliseconds for which a process holds a probe without renewing its lease."""
UNKNOWN_ERA: Final = -1
"""The era of a process that has not heard of a circuit yet."""
SCALE: Final = 1_000_000
"""Rates are sent as millionths."""

CircuitState: TypeAlias = Literal["closed", "disputed", "open", "half-open", "probe"]


class Circuit(NamedTuple):
    """What the store knows of a circuit."""

    state: CircuitState
    """``disputed`` if it was closed because a process had had successes meanwhile, ``probe`` if
    whoever asked holds the probe."""
    era: int
    """Server time in ms of the last change; 0 if the store knows nothing."""
    wait: int
    """Milliseconds until a probe may be asked for."""
    failing_for: int
    """Milliseconds since the oldest failure for which it opened; -1: successes do not matter."""
    reporters: tuple[str, ...]
    """The witnesses that opened it."""

    @property
    def is_open(self) -> bool:
        """Whether only a probe is admitted."""
        return self.state in ("open", "half-open")

    @classmethod
    def of(cls, reply: Any) -> Circuit | None:
        """The circuit in a reply or a message; None if there is none."""
        if isinstance(reply, bytes):
            reply = reply.split(b" ")
        if not isinstance(reply, list) or len(reply) != 5:
            return None
        state, era, wait, failing_for, reporters = reply
        names = tuple(reporters.decode().split(",")) if reporters else ()
        return cls(state.decode(), int(era), int(wait), int(failing_for), names)


class CircuitKeys(NamedTuple):
    """The keys of one circuit."""

    circuit: str
    hosts: str

    @classmethod
    def of(cls, identity: str, policy: BreakerPolicy) -> CircuitKeys:
        """The keys for a model; processes with other rules have another circuit."""
        rules = [getattr(policy, name) for name in _RULES]
        digest = sha256(f"{identity} {rules}".encode()).hexdigest()[:32]
        stem = f"{PREFIX}{{{digest}}}"
        return cls(f"{stem}b", f"{stem}h")


_RULES: Final = (
    "failure_threshold",
    "recovery_timeout",
    "success_threshold",
    "failure_rate",
    "window",
    "minimum_calls",
    "slow_call_duration",
    "slow_call_rate",
)


class Witness(NamedTuple):
    """Who reports, and how."""

    host: str
    process: str
    witnesses: int
    """How many must agree, 1 for a process that is alone; several hosts are never alone."""
    alive: int
    """Milliseconds for which its host counts as a user of the model."""


def report(
    keys: CircuitKeys,
    policy: BreakerPolicy,
    witness: Witness,
    *,
    era: int,
    failures: int = 0,
    success_age: int = -1,
    tally: tuple[int, int, int] = (0, 0, 0),
    open_for: int = -1,
    reporters: Sequence[str] = (),
    disputed: int = -1,
) -> Question:
    """Report failures in a row, or none, and ask for the circuit.

    A store that has lost the era that the process knows takes the circuit from it.

    Args:
        keys: the circuit.
        policy: the rules of the circuit.
        witness: the process that reports.
        era: the era that it knows. Failures of another era are ignored.
        failures: how many calls failed now.
        success_age: milliseconds since its last success, -1 without one. Older failures of all
            witnesses are forgotten.
        tally: calls, failures and slow calls that were not reported yet.
        open_for: milliseconds for which the circuit is open in this era, as far as the process
            knows; 0 if it is closed, -1 if it knows nothing.
        reporters: the witnesses that opened it.
        disputed: an era in which it opened on failures that are older than a success of this
            process, so that it closes; -1: none. The store cannot judge that by the age of the
            success, which is greater by the time that the question took.
    """
    slow_rate = None if policy.slow_call_duration is None else policy.slow_call_rate
    args = (
        witness.host,
        witness.process,
        witness.witnesses,
        witness.alive,
        era,
        failures,
        success_age,
        *tally,
        policy.failure_threshold,
        _milliseconds(policy.recovery_timeout),
        _milliseconds(policy.window),
        policy.minimum_calls,
        _millionths(policy.failure_rate),
        _millionths(slow_rate),
        NEWS,
        TOPIC,
        open_for,
        ",".join(reporters),
        disputed,
    )
    return Question("breaker_report", keys, args, retry=failures > 0)


def admit(keys: CircuitKeys, holder: str) -> Question:
    """Ask for the probe of an open circuit, for `PROBE_LEASE_MS`."""
    asked = (keys.circuit,)
    undo = Question("breaker_settle", asked, (holder, "left", 1, 1, 1, NEWS, TOPIC))
    return Question("breaker_admit", asked, (holder, PROBE_LEASE_MS), undo=undo)


def renew(keys: CircuitKeys, holder: str) -> Question:
    """Renew the lease of a probe. The reply is 1, or 0 if `holder` does not hold it."""
    return Question("breaker_renew", (keys.circuit,), (holder, PROBE_LEASE_MS))


def settle(
    keys: CircuitKeys, policy: BreakerPolicy, holder: str, outcome: ProbeOutcome
) -> Question:
    """End a probe. The circuit closes after enough successes, and opens again after a failure."""
    recovery, window = _milliseconds(policy.recovery_timeout), _milliseconds(policy.window)
    args = (holder, outcome, policy.success_threshold, recovery, window, NEWS, TOPIC)
    return Question("breaker_settle", (keys.circuit,), args, retry=True)


def reset(keys: CircuitKeys) -> Question:
    """Close the circuit, and forget everything. The reply is whether it was known."""
    return Question("breaker_reset", (keys.circuit,), (NEWS, TOPIC))


def trial(process: str) -> tuple[Question, ...]:
    """Each function once, about a circuit that nothing else uses."""
    policy = BreakerPolicy()
    keys = CircuitKeys.of(process, policy)
    witness = Witness(process, process, witnesses=2, alive=1_000)
    return (
        report(keys, policy, witness, era=UNKNOWN_ERA, failures=1, tally=(1, 1, 0)),
        report(keys, policy, witness, era=UNKNOWN_ERA, tally=(1, 1, 0)),
        admit(keys, process),
        renew(keys, process),
        settle(keys, policy, process, "left"),
        reset(keys),
    )


def _milliseconds(seconds: float) -> int:
    return max(1, round(min(seconds, 1e9) * 1000))


def _millionths(rate: float | None) -> int:
    return 0 if rate is None else max(1, round(rate * SCALE))
