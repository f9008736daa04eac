"""The circuit that a fleet shares: who opens it, who probes, and who closes it."""

from __future__ import annotations

from typing import Any

import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import BreakerPolicy
from agentkit.state import circuit_questions
from agentkit.state.circuit_questions import Circuit, CircuitKeys, Witness
from agentkit.state.questions import NEWS
from tests.state.both import START, Both

POLICY = BreakerPolicy(
    failure_threshold=5,
    recovery_timeout=30.0,
    success_threshold=2,
    window=12.0,
    minimum_calls=10,
    slow_call_duration=1.0,
)
KEYS = CircuitKeys.of("model", POLICY)
RECOVERY = 30_000


class Reporter:
    """A process that reports to both homes."""

    def __init__(self, both: Both, host: str, process: str = "p", *, of: int = 8) -> None:
        self.both = both
        self.witness = Witness(host, process, witnesses=min(of, 2), alive=5_000)
        self.holder = f"{host}-{process}"

    def report(self, **what: Any) -> Circuit:
        era = what.pop("era", circuit_questions.UNKNOWN_ERA)
        return self._ask(circuit_questions.report(KEYS, POLICY, self.witness, era=era, **what))

    def fail(self, times: int = 1, **what: Any) -> Circuit:
        circuit = self.report()
        for _ in range(times):
            circuit = self.report(failures=1, **what)
        return circuit

    def admit(self) -> Circuit:
        return self._ask(circuit_questions.admit(KEYS, self.holder))

    def settle(self, outcome: Any) -> Circuit:
        return self._ask(circuit_questions.settle(KEYS, POLICY, self.holder, outcome))

    def _ask(self, question: Any) -> Circuit:
        circuit = Circuit.of(self.both.ask(question))
        assert circuit is not None
        return circuit


def two_hosts(both: Both) -> tuple[Reporter, Reporter]:
    first, second = Reporter(both, "h1"), Reporter(both, "h2")
    for each in (first, second):
        each.report()
    return first, second


def opened(both: Both) -> tuple[Reporter, Reporter]:
    first, second = two_hosts(both)
    first.fail(3)
    second.fail(2)
    return first, second


names = st.sampled_from(["h1", "h2"])
reports = st.fixed_dictionaries(
    {
        "era": st.sampled_from([-1, 0, START, START + 1_000_000]),
        "failures": st.integers(0, 2),
        "success_age": st.sampled_from([-1, -1, 0, 50, 3000]),
        "tally": st.sampled_from([(0, 0, 0), (0, 0, 0), (4, 3, 0), (12, 1, 12), (9, 0, 0)]),
        "open_for": st.sampled_from([-1, -1, 0, 2_000]),
        "reporters": st.sampled_from([(), ("h1", "h2")]),
        "disputed": st.sampled_from([-1, -1, START]),
    }
)
steps = st.one_of(
    st.tuples(st.just("report"), names, names, reports),
    st.tuples(st.just("fail"), names, names, st.integers(1, 3)),
    st.tuples(st.just("admit"), names, names),
    st.tuples(st.just("renew"), names, names),
    st.tuples(st.just("settle"), names, names, st.sampled_from(["success", "failure", "left"])),
    st.sampled_from(["flush", "reset"]),
    st.sampled_from([1, 40, 600, 2500, RECOVERY, -5_000]),
)


@given(st.lists(steps, min_size=3, max_size=30), st.sampled_from([1, 8]))
@settings(max_examples=80)
def test_the_scripts_do_what_the_functions_in_memory_do(
    client: redis.Redis, taken: list[Any], processes: int
) -> None:
    both = Both(client)
    era = 0
    try:
        for step in taken:
            if step == "flush":
                both.flush()
            elif step == "reset":
                both.ask(circuit_questions.reset(KEYS))
            elif isinstance(step, int):
                both.advance(step)
            else:
                kind, host, process, *what = step
                reporter = Reporter(both, host, process, of=processes)
                if kind == "report":
                    known = era if what[0]["era"] == START else what[0]["era"]
                    disputed = era if what[0]["disputed"] == START else -1
                    report = {**what[0], "era": known, "disputed": disputed}
                    era = reporter.report(**report).era
                elif kind == "fail":
                    era = reporter.fail(what[0]).era
                elif kind == "admit":
                    reporter.admit()
                elif kind == "renew":
                    both.ask(circuit_questions.renew(KEYS, reporter.holder))
                else:
                    reporter.settle(what[0])
        assert both.heard() == both.messages
    finally:
        both.close()


def test_a_circuit_opens_at_the_threshold_on_the_word_of_two_hosts(both: Both) -> None:
    first, second = two_hosts(both)
    assert first.fail(20).state == "closed"
    assert second.fail(1).state == "closed"
    circuit = second.fail(1)
    assert circuit == Circuit("open", START, RECOVERY, 0, ("h1", "h2"))
    assert both.heard() == [
        (NEWS, f"circuit\n{KEYS.circuit} open {START} {RECOVERY} 0 h1,h2".encode())
    ]


def test_on_a_single_host_processes_are_witnesses(both: Both) -> None:
    first, second = Reporter(both, "h", "p1"), Reporter(both, "h", "p2")
    first.fail(20)
    assert second.fail(2).reporters == ("h/p1", "h/p2")


def test_processes_of_one_host_do_not_confirm_each_other_beside_another_host(both: Both) -> None:
    Reporter(both, "h2").report()
    for name in ("p1", "p2", "p3", "p4"):
        assert Reporter(both, "h1", name).fail(5).state == "closed"


def test_a_process_that_is_alone_needs_no_other_witness(both: Both) -> None:
    assert Reporter(both, "h", of=1).fail(5).state == "open"


def test_failures_before_a_success_of_a_reporter_are_forgotten(both: Both) -> None:
    first, second = two_hosts(both)
    first.fail(3)
    both.advance(100)
    second.fail(1, success_age=50)
    first.fail(1)
    assert second.fail(2).state == "closed"
    assert first.fail(1).state == "open"


def test_a_process_without_failures_reports_its_success_when_it_asks(both: Both) -> None:
    first, second = two_hosts(both)
    first.fail(3)
    both.advance(100)
    Reporter(both, "h3").report(success_age=10)
    assert second.fail(2).state == "closed"


def test_failures_of_an_older_era_are_ignored(both: Both) -> None:
    first, second = opened(both)
    both.advance(RECOVERY)
    assert first.admit().state == "probe"
    assert first.settle("success")[:3] == ("half-open", START, 0)
    assert second.admit().state == "probe"
    closed = second.settle("success")
    assert closed.state == "closed"
    assert second.fail(9, era=START).era == closed.era
    first.fail(3, era=START)
    assert second.fail(1, era=closed.era).state == "closed"


def test_a_success_during_the_failures_disputes_the_circuit(both: Both) -> None:
    first, second = two_hosts(both)
    first.fail(3)
    both.advance(100)
    assert second.fail(2).failing_for == 100
    both.advance(5)
    third = Reporter(both, "h3")
    assert third.report(success_age=50).state == "open"
    assert third.report(disputed=START).state == "open"  # of another era
    assert third.report(disputed=START + 100).state == "disputed"
    first.fail(3)
    assert second.fail(3).state == "disputed"
    both.advance(1_000)
    first.fail(3)
    assert second.fail(3).state == "open"


def test_a_circuit_that_is_disputed_again_and_again_is_left_alone_for_longer(both: Both) -> None:
    first, second = two_hosts(both)
    pauses = []
    for _ in range(3):
        began = both.now
        while True:
            first.fail(3)
            both.advance(10)
            if second.fail(2).state == "open":
                break
            both.advance(490)
        pauses.append(both.now - began)
        both.advance(1)
        assert second.report(disputed=second.report().era).state == "disputed"
    assert pauses[0] < 1_000 <= pauses[1] < 2_000 <= pauses[2]


def test_one_process_holds_the_probe(both: Both) -> None:
    first, second = opened(both)
    assert first.admit().state == "open"
    both.advance(RECOVERY)
    assert first.admit().state == "probe"
    assert second.admit()[:3] == ("half-open", START, circuit_questions.PROBE_LEASE_MS)
    both.advance(circuit_questions.PROBE_LEASE_MS - 1)
    assert both.ask(circuit_questions.renew(KEYS, first.holder)) == 1
    both.advance(circuit_questions.PROBE_LEASE_MS - 1)
    assert second.admit().state == "half-open"
    both.advance(1)
    assert second.admit().state == "probe"
    assert both.ask(circuit_questions.renew(KEYS, first.holder)) == 0
    assert first.settle("success").state == "half-open"  # it took too long


def test_a_probe_that_was_given_up_is_free_for_the_next(both: Both) -> None:
    first, second = opened(both)
    both.advance(RECOVERY)
    first.admit()
    undo = circuit_questions.admit(KEYS, first.holder).undo
    assert undo is not None
    both.ask(undo)
    assert second.admit().state == "probe"


def test_a_probe_that_fails_opens_the_circuit_for_another_recovery_time(both: Both) -> None:
    first, _ = opened(both)
    both.advance(RECOVERY)
    first.admit()
    assert first.settle("failure")[:3] == ("open", START + RECOVERY, RECOVERY)
    assert first.report(disputed=START + RECOVERY).state == "open"  # nothing disputes a probe


def test_the_rates_of_two_witnesses_open_the_circuit(both: Both) -> None:
    first, second = two_hosts(both)
    assert first.report(tally=(50, 50, 0)).state == "closed"
    assert second.report(tally=(50, 1, 0)).state == "closed"  # 51 of 100, but only h1's are many
    both.advance(2_000)
    assert second.report(tally=(80, 79, 0)) == Circuit(
        "open", START + 2_000, RECOVERY, -1, ("h1", "h2")
    )


def test_slow_calls_open_the_circuit(both: Both) -> None:
    first, second = two_hosts(both)
    first.report(tally=(10, 0, 10))
    assert second.report(tally=(10, 0, 10)).state == "open"


def test_a_tally_leaves_the_window(both: Both) -> None:
    first, second = two_hosts(both)
    first.report(tally=(20, 20, 0))
    both.advance(12_000)
    second.report()
    assert first.report(tally=(5, 0, 0)).state == "closed"
    assert second.report(tally=(20, 20, 0)).state == "closed"


def test_after_a_flush_the_circuit_is_closed_and_unknown(both: Both) -> None:
    first, _ = opened(both)
    both.flush()
    assert first.report() == Circuit("closed", 0, 0, -1, ())
    assert both.ask(circuit_questions.reset(KEYS)) == 0


def test_a_process_that_knows_the_circuit_gives_it_back_after_a_flush(both: Both) -> None:
    first, second = opened(both)
    both.flush()
    both.advance(10)
    knows: Any = {"era": START, "open_for": 5_000, "reporters": ("h1", "h2")}
    again = Circuit("open", START + 10, 5_000, -1, ("h1", "h2"))
    assert first.report(**knows) == again
    both.advance(1_000)
    assert second.report(**knows) == again._replace(wait=4_000)
    both.advance(4_000)
    assert first.admit().state == "probe"
    assert second.admit().state == "half-open"


def test_a_clock_that_jumps_moves_the_next_probe(both: Both) -> None:
    first, second = opened(both)
    both.advance(-5_000)
    assert first.admit()[:3] == ("open", START, RECOVERY + 5_000)
    both.advance(RECOVERY + 5_000)
    assert first.admit().state == "probe"
    both.advance(60_000)
    assert second.admit().state == "probe"
    both.advance(-120_000)
    assert second.settle("failure")[:3] == ("open", START + 1, RECOVERY)  # a later era


def test_a_recovery_that_a_failover_lost_is_known_to_the_processes(both: Both) -> None:
    first, _ = opened(both)  # as the replica has it
    assert first.report(era=START + 2_000, open_for=0).state == "closed"
    assert both.heard()[-1][1].endswith(f"closed {START + 2_001} 0 -1 ".encode())


def test_a_reset_closes_the_circuit_for_all(both: Both) -> None:
    first, _ = opened(both)
    both.heard()
    assert both.ask(circuit_questions.reset(KEYS)) == 1
    assert first.report()[:2] == ("closed", START + 1)
    assert both.heard() == [(NEWS, f"circuit\n{KEYS.circuit} closed {START + 1} 0 -1 ".encode())]
