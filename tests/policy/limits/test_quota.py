"""No minute ever holds more than a key's limits, and what was taken comes back on the second."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import dataclass, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import ConfigurationError
from agentkit.policy.limits import WINDOW, Admission, Need, RateLimits, RateWindow
from agentkit.types import Quota

NAMES = [field.name for field in fields(RateLimits)]
TICK = 0.125  # exact in binary: sums of ticks have no rounding
AMOUNTS = st.integers(0, 60)
LIMITS = st.builds(
    RateLimits,
    st.none() | st.integers(1, 8),
    st.none() | st.integers(40, 120),
    st.none() | st.integers(40, 120),
    st.none() | st.integers(80, 200),
)
ASK = st.tuples(st.just("ask"), AMOUNTS, AMOUNTS)
PASS = st.tuples(st.just("pass"), st.integers(1, 500), st.just(0))
CORRECT = st.tuples(st.just("correct"), st.integers(0, 100), st.integers(0, 100))
REFUND = st.tuples(st.just("refund"), st.just(0), st.just(0))
STEPS = st.lists(st.one_of(ASK, ASK, PASS, CORRECT, REFUND), max_size=60)


@dataclass
class Sent:
    """What a provider sees of a request."""

    at: float
    requests: int
    inputs: int
    outputs: int
    admission: Admission | None


class Log:
    """A window, and beside it all that was admitted."""

    def __init__(self, limits: RateLimits) -> None:
        self.window = RateWindow(limits)
        self.limits = limits
        self.now = 1000.0
        self.sent: list[Sent] = []

    def ask(self, inputs: int, outputs: int) -> bool:
        need = Need(inputs, outputs)
        wait = self.window.wait(need, self.now)
        assert self.window.fits(need, self.now) is (wait == 0.0)
        if wait > 0.0:
            return False
        admission = self.window.admit(need, self.now)
        self.sent.append(Sent(self.now, 1, inputs, outputs, admission))
        return True

    def correct(self, inputs: int, outputs: int) -> None:
        last = self.sent[-1]
        if last.admission is not None:
            self.window.correct(last.admission, inputs, outputs)
        last.inputs, last.outputs = inputs, outputs

    def refund(self) -> None:
        last = self.sent[-1]
        if last.admission is not None:
            self.window.refund(last.admission)
        last.requests = last.inputs = last.outputs = 0

    def fullest(self) -> tuple[int, int, int, int]:
        """The most of each kind that any half-open minute holds."""
        sums = [(0, 0, 0, 0)]
        for first in self.sent:
            inside = [each for each in self.sent if first.at <= each.at < first.at + WINDOW]
            inputs, outputs = (sum(each.inputs for each in inside), sum(x.outputs for x in inside))
            sums.append((sum(each.requests for each in inside), inputs, outputs, inputs + outputs))
        return tuple(max(column) for column in zip(*sums, strict=True))

    def assert_kept(self, *names: str) -> None:
        for name, most in zip(NAMES, self.fullest(), strict=True):
            limit = getattr(self.limits, name)
            assert limit is None or name not in names or most <= limit, name


@pytest.mark.promise("S4-02")
@given(LIMITS, STEPS)
def test_no_minute_exceeds_any_limit_where_estimates_are_upper_bounds(
    limits: RateLimits, steps: list[tuple[str, int, int]]
) -> None:
    log = Log(limits)
    for kind, first, second in steps:
        if kind == "ask":
            log.ask(first, second)
        elif kind == "pass":
            log.now += first * TICK
        elif log.sent and kind == "correct":
            last = log.sent[-1]
            log.correct(last.inputs * first // 100, last.outputs * second // 100)
        elif log.sent:
            log.refund()
        log.assert_kept(*NAMES)


@pytest.mark.promise("N3")
@given(LIMITS, STEPS)
def test_no_minute_exceeds_the_requests_whatever_the_real_usage(
    limits: RateLimits, steps: list[tuple[str, int, int]]
) -> None:
    log = Log(limits)
    for kind, first, second in steps:
        if kind == "ask":
            log.ask(first, second)
        elif kind == "pass":
            log.now += first * TICK
        elif log.sent and kind == "correct":
            log.correct(first * 5, second * 5)
        log.assert_kept("requests_per_minute")


@given(LIMITS, STEPS, AMOUNTS, AMOUNTS)
def test_the_wait_is_exact(
    limits: RateLimits, steps: list[tuple[str, int, int]], inputs: int, outputs: int
) -> None:
    log = Log(limits)
    for kind, first, second in steps:
        if kind == "pass":
            log.now += first * TICK
        else:
            log.ask(first, second)
    need = Need(inputs, outputs)
    wait = log.window.wait(need, log.now)
    if log.window.too_large(need, 0.0):
        assert wait == math.inf
        return
    if wait > 0.0:
        assert not log.window.fits(need, log.now + wait - TICK)
    assert log.window.fits(need, log.now + wait)


@pytest.mark.promise("S4-06")
def test_an_admission_expires_exactly_sixty_seconds_later() -> None:
    window = RateWindow(RateLimits(requests_per_minute=2))
    for at in (0.0, 7.5):
        window.admit(Need(), at)
    assert not window.fits(Need(), math.nextafter(60.0, 0.0))
    assert window.wait(Need(), 59.0) == 1.0
    assert window.fits(Need(), 60.0)
    window.admit(Need(), 60.0)
    assert not window.fits(Need(), math.nextafter(67.5, 0.0))
    assert window.fits(Need(), 67.5)


@pytest.mark.promise("S4-05")
def test_capacity_returns_second_by_second_as_it_was_taken() -> None:
    window = RateWindow(RateLimits(requests_per_minute=50))
    for second in range(50):
        window.admit(Need(), float(second))
    free = [50 - window.used(60.0 + second)["requests_per_minute"] for second in range(-1, 50)]
    assert free == list(range(51))


@pytest.mark.promise("N3")
def test_fifty_a_minute_are_fifty_and_not_seventy_five() -> None:
    log = Log(RateLimits(requests_per_minute=50))
    assert sum(log.ask(0, 0) for _ in range(200)) == 50
    log.now += 30.0
    assert not log.ask(0, 0), "half a minute later nothing has expired"


@pytest.mark.promise("N3")
def test_polling_a_full_window_frees_nothing() -> None:
    log = Log(RateLimits(requests_per_minute=50))
    for _ in range(59 * 8):
        log.ask(0, 0)
        log.now += TICK
    assert len(log.sent) == 50


@pytest.mark.promise("S4-04")
@pytest.mark.parametrize(
    ("limits", "taken", "refused", "fitting"),
    [
        (RateLimits(input_tokens_per_minute=100), Need(100, 0), Need(1, 0), Need(0, 999)),
        (RateLimits(output_tokens_per_minute=100), Need(0, 100), Need(0, 1), Need(999, 0)),
        (RateLimits(tokens_per_minute=100), Need(60, 40), Need(0, 1), Need(0, 0)),
        (RateLimits(None, 100, 50), Need(100, 10), Need(1, 1), Need(0, 40)),
        (RateLimits(9, 100, 50), Need(20, 50), Need(1, 1), Need(80, 0)),
    ],
)
def test_input_and_output_have_windows_of_their_own(
    limits: RateLimits, taken: Need, refused: Need, fitting: Need
) -> None:
    window = RateWindow(limits)
    window.admit(taken, 0.0)
    assert not window.fits(refused, 1.0)
    assert window.fits(fitting, 1.0)


@pytest.mark.promise("S4-03")
def test_requests_and_tokens_are_independent() -> None:
    requests = RateWindow(RateLimits(requests_per_minute=1, tokens_per_minute=1000))
    requests.admit(Need(1, 1), 0.0)
    assert not requests.fits(Need(1, 1), 1.0), "no request is left, tokens are"
    tokens = RateWindow(RateLimits(requests_per_minute=100, tokens_per_minute=1000))
    tokens.admit(Need(600, 400), 0.0)
    assert not tokens.fits(Need(1, 0), 1.0), "no token is left, requests are"
    assert tokens.used(1.0)["requests_per_minute"] == 1


def test_all_or_nothing_a_refused_request_takes_nothing_of_any_kind() -> None:
    log = Log(RateLimits(10, 100, 100))
    log.ask(90, 10)
    before = log.window.used(log.now)
    assert not log.ask(20, 10)
    assert log.window.used(log.now) == before


def test_a_smaller_usage_gives_back_at_once() -> None:
    log = Log(RateLimits(tokens_per_minute=1000))
    assert log.ask(500, 500)
    assert not log.ask(1, 0)
    log.correct(8, 2)
    assert log.window.used(log.now)["tokens_per_minute"] == 10
    assert log.ask(490, 500)


def test_a_larger_usage_is_owed_until_its_own_minute_is_over() -> None:
    window = RateWindow(RateLimits(tokens_per_minute=100))
    admission = window.admit(Need(10, 10), 0.0)
    assert admission is not None
    window.correct(admission, 150, 150)
    assert window.used(1.0)["tokens_per_minute"] == 300
    assert window.wait(Need(1, 0), 1.0) == 59.0
    assert window.fits(Need(50, 50), 60.0)


def test_a_correction_after_its_minute_changes_nothing() -> None:
    window = RateWindow(RateLimits(tokens_per_minute=100))
    admission = window.admit(Need(50, 50), 0.0)
    assert admission is not None
    assert window.fits(Need(), 60.0)
    window.correct(admission, 1000, 1000)
    assert window.fits(Need(50, 50), 60.0)
    window.refund(admission)
    window.admit(Need(50, 50), 60.0)
    assert not window.fits(Need(1, 0), 60.0)


def test_negative_usage_mints_nothing() -> None:
    window = RateWindow(RateLimits(tokens_per_minute=100))
    admission = window.admit(Need(50, 50), 0.0)
    assert admission is not None
    window.correct(admission, -500, -500)
    assert window.used(0.0)["tokens_per_minute"] == 0


def test_a_clock_reading_that_is_used_late_keeps_the_order() -> None:
    window = RateWindow(RateLimits(requests_per_minute=2))
    window.admit(Need(), 10.0)
    window.admit(Need(), 9.0)
    assert window.wait(Need(), 69.0) == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_a_request_larger_than_a_limit_is_known_at_once_and_by_name(name: str) -> None:
    window = RateWindow(RateLimits(**{name: 1}))
    need = Need(3, 2)
    reason = window.too_large(need, 0.0)
    assert (reason is None) is (name == "requests_per_minute")
    assert reason is None or name in reason
    assert reason is None or window.wait(need, 0.0) == math.inf


@given(
    st.lists(st.builds(Quota, *[st.none() | st.integers(-3, 50)] * 4), max_size=8),
    st.builds(RateLimits, *[st.none() | st.integers(1, 50)] * 4),
)
def test_learned_limits_only_tighten(quotas: list[Quota], limits: RateLimits) -> None:
    window = RateWindow(limits)
    for quota in quotas:
        before = window.limits()
        tightened = window.learn(quota, 0.0)
        after = window.limits()
        assert tightened is (after != before)
        assert window.limited is any(value is not None for value in after.values())
        for name in NAMES:
            old, reported = before[name], getattr(quota, name)
            known = [each for each in (old, reported) if each is not None and each > 0]
            assert after[name] == min(known, default=None)


def test_without_limits_nothing_is_kept() -> None:
    window = RateWindow()
    assert window.admit(Need(5, 5), 0.0) is None
    assert not window.limited
    assert not window.counts_tokens
    assert set(window.limits().values()) == {None}


@pytest.mark.promise("S4-35")
def test_a_hundred_thousand_requests_leave_no_more_than_a_minute_of_them() -> None:
    window = RateWindow(RateLimits(requests_per_minute=600))
    for number in range(1000):
        window.admit(Need(), number * 0.2)
        window.fits(Need(), number * 0.2)
    tracemalloc.start()
    try:
        for number in range(1000, 100_000):
            window.admit(Need(), number * 0.2)
            window.fits(Need(), number * 0.2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert window.used(99_999 * 0.2)["requests_per_minute"] <= 301
    assert peak < 128 * 1024


def test_looking_at_the_usage_changes_nothing() -> None:
    window = RateWindow(RateLimits(requests_per_minute=1))
    window.admit(Need(), 0.0)
    assert window.used(1000.0)["requests_per_minute"] == 0
    assert window.used(1.0)["requests_per_minute"] == 1


def test_a_recount_finds_what_the_entries_say() -> None:
    window = RateWindow(RateLimits(10, 100, 100))
    window.admit(Need(7, 3), 0.0)
    window.admit(Need(2, 1), 1.0)
    before = window.used(2.0)
    window.recount()
    assert not window.fits(Need(92, 0), 2.0)
    assert window.fits(Need(91, 96), 2.0)
    assert window.used(2.0) == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "50", math.inf])
def test_a_limit_is_a_whole_number_from_one(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RateLimits(**{name: value})  # type: ignore[arg-type]
    assert name in str(caught.value)
    assert "leave it out" in str(caught.value)


def test_a_reported_limit_holds_for_a_minute_from_the_last_report() -> None:
    window = RateWindow()
    need = Need(500, 100)
    window.learn(Quota(tokens_per_minute=1), 0.0)
    assert window.too_large(need, 59.0)
    assert window.wait(need, 59.0) == 1.0
    window.learn(Quota(tokens_per_minute=1), 30.0)
    assert window.too_large(need, 89.0)
    assert window.too_large(need, 90.0) is None
    assert window.fits(need, 90.0)
    assert not window.limited


def test_the_users_own_limits_hold_after_a_reported_one() -> None:
    window = RateWindow(RateLimits(requests_per_minute=2))
    first = window.admit(Need(), 0.0)
    window.learn(Quota(requests_per_minute=1), 50.0)
    assert not window.fits(Need(), 55.0)
    assert window.wait(Need(), 55.0) == 5.0
    window.admit(Need(), 60.0)
    window.learn(Quota(requests_per_minute=1), 60.0)
    assert not window.fits(Need(), 119.0)
    assert window.fits(Need(), 120.0)
    assert window.limits()["requests_per_minute"] == 2
    assert first is not None
    window.correct(first, 5, 5)
    assert window.used(120.0)["requests_per_minute"] == 0


def test_a_reported_limit_that_ended_leaves_no_debt() -> None:
    window = RateWindow()
    window.learn(Quota(tokens_per_minute=1000), 0.0)
    admission = window.admit(Need(500, 0), 1.0)
    assert admission is not None
    assert window.fits(Need(), 60.0)
    window.correct(admission, 10, 10)
    window.learn(Quota(tokens_per_minute=1000), 61.0)
    assert window.fits(Need(1000, 0), 61.0)
    assert not window.fits(Need(1001, 0), 61.0)
