"""What a forked child takes over: limits and states, and no call that its parent has begun."""

from __future__ import annotations

from agentkit.policy.limits import Member, Need, Pool
from tests.forks import forks, in_child
from tests.policy.breaker.breakers import admitted, expired


@forks
def test_the_probe_and_the_waiting_calls_are_the_parents() -> None:
    breaker, _ = expired()
    woken: list[str] = []
    breaker.opened.subscribe(lambda: woken.append("woken"))
    probe = admitted(breaker)
    assert not breaker.would_admit()

    def child() -> tuple[bool, int]:
        figures = breaker.statistics()
        return breaker.would_admit(), figures.waiting

    assert in_child(child) == "(True, 0)"
    probe.failed(RuntimeError("down"))
    assert woken


@forks
def test_slots_and_places_in_the_queue_are_the_parents() -> None:
    pool = Pool([Member(max_concurrency=1)], name="m")
    held, waiting = pool.request(Need(), 0.0), pool.request(Need(), 0.0)
    assert held.granted
    assert not waiting.granted

    def child() -> tuple[int, int, bool, int]:
        found = pool.in_use, pool.waiting
        own = pool.request(Need(), 0.0)
        held.release(0.0)
        return *found, own.granted, pool.in_use

    assert in_child(child) == "(0, 0, True, 1)", "the parent's lease frees no slot of the child"
    held.release(0.0)
    assert waiting.granted
