"""Which key serves a call, and what a fault means for a key."""

from __future__ import annotations

import logging
import math

import pytest

from agentkit import errors as e
from agentkit.policy.classification import Blame, Retry, classify
from agentkit.policy.limits import COOLDOWN, Member, Pool
from agentkit.types import Usage
from tests.policy.limits.pools import ONE, Waiter, keys, served, settle, soonest


@pytest.mark.promise("S2-15")
def test_round_robin_is_an_exact_sequence() -> None:
    pool = Pool(keys(3))
    assert [served(pool.request(ONE, 0.0)) for _ in range(7)] == [
        "#1", "#2", "#3", "#1", "#2", "#3", "#1",
    ]  # fmt: skip


def test_round_robin_continues_after_a_key_that_cannot() -> None:
    members = keys(3)
    pool = Pool(members)
    members[1].available_at = 5.0
    assert [served(pool.request(ONE, 0.0)) for _ in range(4)] == ["#1", "#3", "#1", "#3"]
    assert [served(pool.request(ONE, 5.0)) for _ in range(4)] == ["#1", "#2", "#3", "#1"]


def test_least_loaded_prefers_the_key_with_the_fewest_calls() -> None:
    pool = Pool(keys(3), strategy="least_loaded")
    leases = [pool.request(ONE, 0.0) for _ in range(6)]
    assert [served(each) for each in leases] == ["#1", "#2", "#3", "#1", "#2", "#3"]
    leases[1].release(1.0)
    leases[4].release(1.0)
    more = [pool.request(ONE, 1.0) for _ in range(3)]
    assert [served(each) for each in more] == ["#2", "#2", "#3"]


@pytest.mark.promise("S2-30")
def test_the_sixth_call_on_one_key_waits() -> None:
    pool = Pool(keys(1, slots=5))
    leases = [pool.request(ONE, 0.0) for _ in range(6)]
    assert [each.granted for each in leases] == [True] * 5 + [False]
    assert leases[5].wait(0.0) == math.inf
    leases[2].release(1.0)
    assert leases[5].granted


def test_limits_are_per_key_so_two_keys_are_twice_as_much() -> None:
    pool = Pool(keys(2, requests_per_minute=10))
    assert sum(pool.request(ONE, 0.0).granted for _ in range(50)) == 20


@pytest.mark.promise("S4-39")
def test_pools_do_not_know_of_each_other() -> None:
    one, other = Pool(keys(1, requests_per_minute=1)), Pool(keys(1, requests_per_minute=1))
    assert one.request(ONE, 0.0).granted
    assert other.request(ONE, 0.0).granted
    assert not one.request(ONE, 0.0).granted


def test_all_members_together_have_a_bound() -> None:
    pool = Pool(keys(3, slots=5), max_in_use=4)
    leases = [pool.request(ONE, 0.0) for _ in range(5)]
    assert [each.granted for each in leases] == [True] * 4 + [False]
    assert soonest(pool, ONE, 0.0) == math.inf
    leases[0].release(1.0)
    assert leases[4].granted


def test_the_soonest_of_several_keys() -> None:
    members = keys(3, requests_per_minute=1)
    pool = Pool(members)
    for at in (0.0, 10.0):
        pool.request(ONE, at)
    members[2].available_at = 65.0
    assert soonest(pool, ONE, 11.0) == 49.0
    members[2].available_at = 0.0
    assert soonest(pool, ONE, 11.0) == 0.0


def fail(pool: Pool, error: e.LLMError, now: float = 0.0) -> Retry:
    """One call that ends with `error`; whether the next key is asked at once."""
    lease = pool.request(ONE, now)
    assert lease.granted
    classification = lease.failed(error, classify(error), now)
    lease.release(now, Usage())
    if classification.retry is Retry.IMMEDIATELY:
        assert classification.blame is Blame.NEUTRAL, "a key's fault is not the target's"
    else:
        assert classification == classify(error)
    return classification.retry


def throttled(after: float | None) -> e.RateLimitError:
    return e.RateLimitError("slow down", retry_after=after)


@pytest.mark.parametrize(("after", "rest"), [(7.0, 7.0), (None, COOLDOWN)])
def test_after_a_429_the_next_key_is_used_immediately(after: float | None, rest: float) -> None:
    pool = Pool(keys(2))
    assert fail(pool, throttled(after)) is Retry.IMMEDIATELY
    assert {served(pool.request(ONE, 0.0)) for _ in range(5)} == {"#2"}
    assert {served(pool.request(ONE, rest - 0.001)) for _ in range(5)} == {"#2"}
    assert {served(pool.request(ONE, rest)) for _ in range(5)} == {"#1", "#2"}


def test_when_every_key_is_rate_limited_the_error_says_when_the_first_is_back() -> None:
    pool = Pool(keys(3))
    for after in (9.0, 4.0):
        assert fail(pool, throttled(after)) is Retry.IMMEDIATELY
    last = throttled(60.0)
    assert fail(pool, last, now=1.0) is Retry.AFTER_DELAY
    assert last.retry_after == 3.0
    assert served(pool.request(ONE, 4.0)) == "#2"


def test_the_last_key_able_to_serve_does_not_rest_on_a_429_without_a_time() -> None:
    pool = Pool(keys(2))
    fail(pool, throttled(None))
    assert fail(pool, throttled(None)) is Retry.AFTER_DELAY
    assert served(pool.request(ONE, 0.0)) == "#2"


def test_a_key_alone_leaves_a_429_to_its_target() -> None:
    pool = Pool(keys(1))
    assert fail(pool, throttled(5.0)) is Retry.AFTER_DELAY
    assert pool.request(ONE, 0.0).granted


def test_a_refused_key_retires_with_one_warning_that_names_its_fingerprint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = Pool([Member(name="#1a2b3c4d", max_concurrency=2), *keys(1)], name="gpt")
    error = e.AuthenticationError("bad key sk-secret", status=401)
    leases = [pool.request(ONE, 0.0) for _ in range(3)]
    assert [served(each) for each in leases] == ["#1a2b3c4d", "#1", "#1a2b3c4d"]
    for lease in (leases[0], leases[2]):
        assert lease.failed(error, classify(error), 0.0).retry is Retry.IMMEDIATELY
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "gpt: key #1a2b3c4d was refused and is not used again"
    for lease in leases:
        lease.release(0.0)
    assert {served(pool.request(ONE, 1e9)) for _ in range(5)} == {"#1"}


def test_after_a_refused_key_a_rate_limited_one_is_used_rather_than_none() -> None:
    pool = Pool(keys(2))
    fail(pool, throttled(3.0))
    assert fail(pool, e.AuthenticationError("no", status=401)) is Retry.IMMEDIATELY
    assert soonest(pool, ONE, 0.0) == 3.0


def test_the_last_key_is_never_retired(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool(keys(2))
    error = e.AuthenticationError("no", status=401)
    assert fail(pool, error) is Retry.IMMEDIATELY
    assert fail(pool, error) is Retry.NEVER
    assert served(pool.request(ONE, 0.0)) == "#2"
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "error",
    [
        e.AuthenticationError("no credit", status=402),
        e.AuthenticationError("no right", status=403),
        e.ModelNotFoundError("not with this key", status=404),
    ],
)
def test_a_key_is_not_used_for_a_while_after_an_error_that_may_pass(error: e.LLMError) -> None:
    pool = Pool(keys(2))
    assert fail(pool, error) is Retry.IMMEDIATELY
    assert served(pool.request(ONE, COOLDOWN - 1)) == "#2"
    assert fail(pool, error, COOLDOWN - 1) is Retry.NEVER, "the last one that serves is not rested"
    assert {served(pool.request(ONE, COOLDOWN)) for _ in range(4)} == {"#1", "#2"}


def down() -> e.ServerError:
    return e.ServerError("down", status=503)


@pytest.mark.promise("N7", "S2-29")
def test_three_failures_in_a_row_rest_a_key_until_its_cooldown_is_over() -> None:
    members = keys(2)
    pool = Pool(members)
    for _ in range(3):
        assert fail(pool, down()) is Retry.AFTER_DELAY
        pool.request(ONE, 0.0).succeeded()  # the other key is well
    assert {served(pool.request(ONE, COOLDOWN - 0.1)) for _ in range(4)} == {"#2"}
    assert {served(pool.request(ONE, COOLDOWN)) for _ in range(4)} == {"#1", "#2"}
    assert members[0].failures == 2, "one more failure is enough"
    members[1].available_at = 2 * COOLDOWN
    pool.request(ONE, COOLDOWN).succeeded()
    assert members[0].failures == 0


def test_a_success_between_failures_starts_counting_anew() -> None:
    members = keys(2)
    pool = Pool(members)
    for _ in range(5):
        members[1].available_at = 1.0
        fail(pool, down())
        fail(pool, down())
        pool.request(ONE, 0.0).succeeded()
    members[1].available_at = 0.0
    assert {served(pool.request(ONE, 0.0)) for _ in range(4)} == {"#1", "#2"}


def test_when_all_fail_the_last_one_keeps_serving() -> None:
    pool = Pool(keys(3))
    for _ in range(30):
        assert fail(pool, down()) is Retry.AFTER_DELAY
    assert pool.request(ONE, 0.0).granted
    assert sum(each.available_at > 0 for each in pool.members) == 2


def test_a_callers_own_fault_is_not_the_keys() -> None:
    members = keys(2)
    pool = Pool(members)
    for _ in range(10):
        fail(pool, e.InvalidRequestError("bad", status=400))
    assert [each.failures for each in members] == [0, 0]


def test_unavailable_and_retired_keys_do_not_take_a_waiters_turn() -> None:
    members = keys(2, slots=1)
    pool = Pool(members)
    first, second = pool.request(ONE, 0.0), pool.request(ONE, 0.0)
    waiter = Waiter(pool, ONE, 0.0)
    error = throttled(20.0)
    first.failed(error, classify(error), 1.0)
    first.release(1.0)
    settle([waiter], 1.0)
    assert waiter.until == 21.0
    second.release(2.0)
    assert served(waiter.lease) == "#2"
