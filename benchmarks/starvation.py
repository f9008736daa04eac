"""An outage of a fleet whose processes get no processor now and then, in virtual time.

    python -m benchmarks.starvation [--runs 20]

Eight processes send 40 calls a second each to a model that dies; a failure takes 10 ms. A process
stands still for a while again and again, and runs for a third as long. What was due meanwhile, its
calls included, happens at once when it runs again. Counts the attempts in the first second of the
outage. Breakers, shared circuits and the functions over shared state are those of the package.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Callable
from typing import Any, Final

from agentkit import BreakerPolicy, CircuitBreaker
from agentkit.policy.breaker import Permit
from agentkit.state.circuits import FleetCircuit, SharedCircuits
from agentkit.state.local import LocalState
from agentkit.types.fleet import Hear, Question
from benchmarks.simulation import DELAY, FAILURE, Member, World

STANDSTILLS: Final = (0.0, 0.05, 0.1, 0.3, 0.6, 1.0)
"""Seconds, on average."""
PROCESSES: Final = 8
RATE: Final = 40.0
"""Calls a second of each process."""
DIES: Final = 2.0
LATENCY: Final = 0.01
POLICY: Final = BreakerPolicy(recovery_timeout=2.0)


class Process(Member):
    """A process that stands still now and then."""

    def __init__(self, outage: Outage, number: int, standstill: float) -> None:
        super().__init__(outage.world, outage.state, f"p{number}", PROCESSES)
        self.in_flight = 0
        self._outage = outage
        self._rng = random.Random(f"{outage.seed} {number}")
        self._standstill = standstill
        self._stands = False
        self._due: list[Callable[[], None]] = []
        self._breaker = CircuitBreaker(policy=POLICY, name="m", clock=outage.clock)
        self._circuit: FleetCircuit | None = None
        if outage.shared:
            circuits = SharedCircuits(self, now=outage.clock, host="host")
            self._circuit = circuits.share(self._breaker, "model")
            # What it asks may be older than the moment at which it can send it.
            outage.world.after(self._rng.random(), self.beat)
        outage.world.after(self._rng.random() / RATE, self._start_calls)
        if standstill:
            outage.world.after(self._rng.random() * standstill, self._stand)

    def post(self, question: Question, hear: Hear | None = None) -> None:
        def arrive() -> None:
            reply = self._outage.state.ask(question)
            if hear is not None:
                self._after(DELAY, lambda: hear(reply))

        self._act(lambda: self._outage.world.after(DELAY, arrive))

    def receive(self, topic: str, message: bytes) -> None:
        self._act(lambda: Member.receive(self, topic, message))

    def _stand(self) -> None:
        self._stands = True
        self._outage.world.after(self._standstill * self._rng.uniform(0.5, 1.5), self._run)

    def _run(self) -> None:
        self._stands = False
        due, self._due = self._due, []
        for act in due:
            act()
        self._outage.world.after(self._standstill / 3 * self._rng.uniform(0.5, 1.5), self._stand)

    def _act(self, act: Callable[[], None]) -> None:
        """Do `act` now, or when it runs again."""
        if self._stands:
            self._due.append(act)
        else:
            act()

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._outage.world.after(seconds, lambda: self._act(act))

    def _start_calls(self) -> None:
        self._act(self._call)
        self._outage.world.after(1 / RATE, self._start_calls)

    def _call(self) -> None:
        permit = self._breaker.admit()  # the outage ends before a probe is due
        if permit is not None:
            self.in_flight += 1
            self._after(LATENCY, lambda: self._end(permit))

    def _end(self, permit: Permit) -> None:
        self.in_flight -= 1
        if self._outage.world.now < DIES:
            permit.succeeded(LATENCY)
            return
        self._outage.attempts += 1
        permit.failed(FAILURE, duration=LATENCY)


class Outage:
    """One run."""

    def __init__(self, seed: int, *, standstill: float, shared: bool) -> None:
        self.seed, self.shared = seed, shared
        self.world = World()
        self.state = LocalState(lambda: 10**12 + int(self.world.now * 1000), self._publish)
        self.attempts = 0
        self.line: int | None = None
        """The threshold, the calls in flight when the circuit of the fleet opens, and two."""
        self._processes = [Process(self, number, standstill) for number in range(PROCESSES)]

    def clock(self) -> float:
        """The virtual time."""
        return self.world.now

    def run(self) -> int:
        """Run it. Returns the attempts in the first second of the outage."""
        self.world.run(DIES + 1.0)
        return self.attempts

    def _publish(self, _channel: str, message: bytes) -> None:
        topic, _, rest = message.partition(b"\n")
        if b" open " in rest and self.line is None:
            in_flight = sum(each.in_flight for each in self._processes)
            self.line = POLICY.failure_threshold + in_flight + 2

        def arrive() -> None:
            for each in self._processes:
                each.receive(topic.decode(), rest)

        self.world.after(DELAY, arrive)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.starvation", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for standstill in STANDSTILLS:
        row = results[f"{standstill} s"] = {}
        for name in ("alone", "fleet"):
            found = [
                Outage(seed, standstill=standstill, shared=name == "fleet").run()
                for seed in range(options.runs)
            ]
            row[name] = {"median": statistics.median_low(found), "most": max(found)}
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
