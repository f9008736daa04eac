"""An outage in virtual time: fleets of 1 to 10,000 workers, with the code of the package.

    python -m benchmarks.simulation [--most 10000] [--draw docs/benchmarks]

Breakers, shared circuits and the functions over shared state are those of the package. Calls, the
network and the clock are made up: each worker is a process on a host of its own and makes one call
a second, a call fails 50 ms after its start, and a message of the store takes 1 ms. The model fails
from the first second on, for a minute. Prints one JSON object, and draws it.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import io
import itertools
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from agentkit import BreakerPolicy, CircuitBreaker
from agentkit.errors import ServerError
from agentkit.policy.breaker import Permit
from agentkit.state.circuits import SharedCircuits
from agentkit.state.local import LocalState
from agentkit.state.questions import NEWS
from agentkit.types.fleet import Fleet, Hear, MakeQuestions, Question, Receive

SIZES: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
OUTAGE: Final = (1.0, 61.0)
END: Final = 70.0
LATENCY: Final = 0.05
DELAY: Final = 0.001
"""Seconds of a message from or to the store."""
POLICY: Final = BreakerPolicy(recovery_timeout=5.0)
FAILURE: Final = ServerError("down", provider="made up", status=503)


class World:
    """The virtual clock, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do `act` after `seconds`."""
        heapq.heappush(self._due, (self.now + seconds, next(self._order), act))

    def run(self, until: float) -> None:
        """Let the time pass."""
        while self._due and self._due[0][0] <= until:
            self.now, _, act = heapq.heappop(self._due)
            act()
        self.now = until


class Member(Fleet):
    """One process of the fleet."""

    def __init__(self, world: World, state: LocalState, name: str, processes: int) -> None:
        self._world, self._state, self._name, self._processes = world, state, name, processes
        self._receivers: dict[str, Receive] = {}
        self._rounds: list[MakeQuestions] = []

    @property
    def process(self) -> str:
        return self._name

    @property
    def processes(self) -> int:
        return self._processes

    @property
    def session(self) -> int:
        return 0

    @property
    def is_up(self) -> bool:
        return True

    @property
    def lost_for(self) -> float:
        return 0.0

    @property
    def is_cluster(self) -> bool:
        return False

    @property
    def mark(self) -> int:
        return 0

    def ask(self, question: Question) -> Any:
        return self._state.ask(question)

    async def aask(self, question: Question) -> Any:
        return self._state.ask(question)

    def catch_up(self) -> None:
        """Replies never wait to be read."""

    def post(self, question: Question, hear: Hear | None = None) -> None:
        def arrive() -> None:
            reply = self._state.ask(question)
            if hear is not None:
                self._world.after(DELAY, lambda: hear(reply))

        self._world.after(DELAY, arrive)

    def subscribe(self, topic: str, receive: Receive) -> None:
        self._receivers[topic] = receive

    def unsubscribe(self, topic: str, receive: Receive) -> None:
        self._receivers.pop(topic, None)

    def lead(self, question: Question, release: Question) -> None:
        raise NotImplementedError

    def stop_leading(self, question: Question) -> None:
        raise NotImplementedError

    def soon(self, make: MakeQuestions, seconds: float = 0.01) -> None:
        raise NotImplementedError

    def at_heartbeat(self, make: MakeQuestions) -> None:
        self._rounds.append(make)

    def stop_at_heartbeat(self, make: MakeQuestions) -> None:
        self._rounds.remove(make)

    def beat(self) -> None:
        """Do what a process does once a second."""
        for make in self._rounds:
            for question, hear in make():
                self.post(question, hear)
        self._world.after(1.0, self.beat)

    def receive(self, topic: str, message: bytes) -> None:
        """Get a message of the store."""
        if topic in self._receivers:
            self._receivers[topic](message)


class Worker:
    """A process that makes one call a second."""

    def __init__(self, outage: Outage, number: int, member: Member | None) -> None:
        self._outage, self._member = outage, member
        self._breaker = CircuitBreaker(policy=POLICY, name="m", clock=outage.clock)
        self._circuit = None
        if member is not None:
            self._circuits = SharedCircuits(member, now=outage.clock, host=f"host-{number}")
            self._circuit = self._circuits.share(self._breaker, "model")

    def call(self) -> None:
        """Make a call, and the next one a second later."""
        world = self._outage.world
        world.after(1.0, self.call)
        permit = self._admit()
        if permit is None:
            return
        began = world.now
        self._outage.attempts.append(began)
        world.after(LATENCY, lambda: self._end(permit, began))

    def _admit(self) -> Permit | None:
        breaker, circuit, member = self._breaker, self._circuit, self._member
        if circuit is None or member is None:
            return breaker.admit()
        if breaker.state == "closed" or not breaker.would_admit():
            return breaker.admit()
        question = circuit.ask()
        return circuit.admit(question, member.ask(question), lease=None)

    def _end(self, permit: Permit, began: float) -> None:
        outage = self._outage
        if OUTAGE[0] <= began < OUTAGE[1]:
            permit.failed(FAILURE, duration=LATENCY)
        else:
            permit.succeeded(LATENCY)
            if began >= OUTAGE[1]:
                outage.served_again.setdefault(id(self), outage.world.now)


class Outage:
    """One run."""

    def __init__(self, workers: int, *, shared: bool) -> None:
        self.world = World()
        self.attempts: list[float] = []
        self.served_again: dict[int, float] = {}
        self.opened: float | None = None
        self._members: list[Member] = []
        state = LocalState(lambda: 10**12 + int(self.world.now * 1000), self._publish)
        rng = random.Random(workers)
        for number in range(workers):
            member = Member(self.world, state, f"p{number}", workers) if shared else None
            if member is not None:
                self._members.append(member)
                self.world.after(rng.random(), member.beat)
            self.world.after(rng.random(), Worker(self, number, member).call)

    def clock(self) -> float:
        """The virtual time."""
        return self.world.now

    def _publish(self, channel: str, message: bytes) -> None:
        topic, _, rest = message.partition(b"\n")
        assert channel == NEWS
        if b" open " in rest and self.opened is None:
            self.opened = self.world.now

        def arrive() -> None:
            for member in self._members:
                member.receive(topic.decode(), rest)

        self.world.after(DELAY, arrive)

    def run(self) -> dict[str, Any]:
        """Run it. Returns the figures."""
        self.world.run(END)
        begin, end = OUTAGE
        during = [at for at in self.attempts if begin <= at < end]
        opened = self.opened
        late = [] if opened is None else [at for at in during if at > opened + 2 * DELAY]
        again = [at - end for at in self.served_again.values()]
        return {
            "attempts": len(during),
            "probes": None if opened is None else len(late),
            "opened_after_s": None if opened is None else round(opened - begin, 3),
            "served_again_first_s": round(min(again), 3),
            "served_again_last_s": round(max(again), 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.simulation", description=__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1])
    parser.add_argument("--draw", type=Path)
    options = parser.parse_args()
    results: dict[str, dict[int, Any]] = {"alone": {}, "fleet": {}}
    for size in (each for each in SIZES if each <= options.most):
        for name, found in results.items():
            found[size] = Outage(size, shared=name == "fleet").run()
            gc.collect()
            print(name, size, found[size], file=sys.stderr, flush=True)
    print(json.dumps(results, indent=2))
    if options.draw is not None:
        draw(results, options.draw / "fleet-outage.svg")


def draw(results: dict[str, dict[int, Any]], out: Path) -> None:
    """Draw attempts by workers, alone and as a fleet."""
    from matplotlib import pyplot as plt

    from benchmarks.plot import INK, OTHERS, OURS, STYLE, TARGET, themed

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
        sizes = list(results["fleet"])
        several = [size for size in sizes if results["fleet"][size]["probes"] is not None]
        rows = (
            ("each on its own", OTHERS, sizes, [results["alone"][n]["attempts"] for n in sizes]),
            ("fleet", OURS, sizes, [results["fleet"][n]["attempts"] for n in sizes]),
            ("of these, probes", TARGET, several, [results["fleet"][n]["probes"] for n in several]),
        )
        for label, shade, across, up in rows:
            axes.plot(across, up, marker="o", markersize=4, color=shade)
            axes.annotate(
                label,
                (across[-1], up[-1]),
                (6, 0),
                textcoords="offset points",
                va="center",
                color=INK,
            )
        axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="attempts in the outage")
        axes.set_xlim(right=sizes[-1] * 6)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None}, transparent=True)
        plt.close(figure)
    out.write_text(themed(drawn.getvalue()), encoding="utf-8")


if __name__ == "__main__":
    main()
