"""Whatever happens in whatever order, the breaker does what a model of twenty lines does."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from agentkit.policy.breaker import Permit
from tests.policy.breaker.breakers import build

THRESHOLD, RECOVERY, PROBES, LEASE = 3, 10.0, 2, 4.0


class Model:
    """A breaker that follows consecutive failures alone, written as plainly as possible."""

    def __init__(self) -> None:
        self.state, self.era = "closed", 0
        self.failures: list[int] = []
        self.good_probes = 0
        self.opened_at = 0.0
        self.probe: tuple[int, float] | None = None

    def enter(self, state: str, now: float) -> None:
        self.state, self.era, self.probe = state, self.era + 1, None
        self.good_probes = 0
        if state == "open":
            self.opened_at = now
        if state == "closed":
            self.failures = []

    def would_admit(self, now: float) -> bool:
        if self.state == "open":
            return now >= self.opened_at + RECOVERY
        return self.state == "closed" or self.probe is None or now >= self.probe[1]

    def admit(self, number: int, now: float) -> bool:
        if not self.would_admit(now):
            return False
        if self.state == "open":
            self.enter("half-open", now)
        if self.state == "half-open":
            self.probe = (number, now + LEASE)
        return True

    def settle(self, number: int, era: int, how: str, now: float) -> None:
        if era != self.era:
            return
        if self.state == "half-open":
            if self.probe is None or self.probe[0] != number:
                return
            self.probe = None
        if how == "failed":
            self.failures.append(number)
            if self.state == "half-open" or len(self.failures) >= THRESHOLD:
                self.enter("open", now)
        elif how == "succeeded":
            self.failures = [each for each in self.failures if each > number]
            self.good_probes += 1
            if self.state == "half-open" and self.good_probes >= PROBES:
                self.enter("closed", now)


class BreakerFollowsModel(RuleBasedStateMachine):
    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[tuple[str, str]] = []
        self.breaker, self.clock = build(
            failure_threshold=THRESHOLD,
            recovery_timeout=RECOVERY,
            success_threshold=PROBES,
            failure_rate=None,
            listeners=(lambda _, previous, state: self.changes.append((previous, state)),),
        )
        self.model = Model()
        self.number = 0
        self.settled: set[int] = set()

    @rule(target=permits)
    def admit(self) -> Any:
        self.number += 1
        expected = self.model.admit(self.number, self.clock.now)
        permit = self.breaker.admit(lease=LEASE)
        assert (permit is not None) is expected
        if permit is not None:
            assert permit.probe is (self.model.state == "half-open")
            assert permit.state == self.model.state
        return permit, self.number, self.model.era

    @rule(
        entry=permits,
        how=st.sampled_from(["failed", "failed", "succeeded", "neutral", "abandoned"]),
    )
    def settle(self, entry: tuple[Permit | None, int, int], how: str) -> None:
        permit, number, era = entry
        if permit is None:
            return
        if number not in self.settled:
            self.settled.add(number)
            self.model.settle(number, era, how, self.clock.now)
        if how == "failed":
            permit.failed(RuntimeError("down"))
        else:
            getattr(permit, how)()

    @rule(times=st.integers(1, THRESHOLD))
    def fail(self, times: int) -> None:
        for _ in range(times):
            self.settle(self.admit(), "failed")

    @rule(seconds=st.sampled_from([0.0, 1.0, LEASE, RECOVERY - 1.0, RECOVERY]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.model.enter("closed", self.clock.now)

    @invariant()
    def agrees(self) -> None:
        now, figures = self.clock.now, self.breaker.statistics()
        assert self.breaker.state == figures.state == self.model.state
        assert figures.era == self.model.era
        assert self.breaker.would_admit() is self.model.would_admit(now)
        assert (self.breaker.retry_after == 0.0) is self.model.would_admit(now)
        if self.model.state == "closed":
            assert figures.consecutive_failures == len(self.model.failures)

    @invariant()
    def changes_form_one_chain(self) -> None:
        state = "closed"
        for previous, following in self.changes:
            assert previous == state
            assert following != state
            state = following
        assert state == self.breaker.state


TestBreakerFollowsModel = BreakerFollowsModel.TestCase
TestBreakerFollowsModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
