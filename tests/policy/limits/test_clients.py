"""When a key's client is made anew, and what a forked child takes over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from agentkit.policy.limits.pool import Member, Pool
from agentkit.policy.limits.window import RateLimits
from agentkit.policy.target import Endpoint
from agentkit.providers.endpoint import endpoint_of
from tests.forks import forks, in_child
from tests.policy.limits.pools import ONE


class Clients:
    """Makes numbered endpoints and notes which were closed."""

    def __init__(self) -> None:
        self.made: list[Endpoint] = []
        self.closed: list[int] = []

    def __call__(self) -> Endpoint:
        number = len(self.made)
        plain = endpoint_of(
            lambda prompt, kwargs: "", name="a", provider="p", fingerprint="", durable=False
        )
        self.made.append(replace(plain, close=lambda: self.closed.append(number)))
        return self.made[-1]


def recycling(clients: Callable[[], Endpoint], **times: float) -> Pool:
    return Pool([Member(clients(), renew=clients, **times)])  # type: ignore[arg-type]


def used(pool: Pool, clients: Clients, now: float) -> int:
    lease = pool.request(ONE, now)
    lease.release(now)
    assert lease.endpoint is not None
    return clients.made.index(lease.endpoint)


def test_an_idle_client_is_made_anew_and_the_old_one_closed() -> None:
    clients = Clients()
    pool = recycling(clients, idle_timeout=10.0)
    assert [used(pool, clients, at) for at in (100.0, 109.0, 118.9, 128.9, 130.0)] == [
        0, 0, 0, 1, 1,
    ]  # fmt: skip
    assert clients.closed == [0]


def test_a_client_past_its_lifetime_is_made_anew() -> None:
    clients = Clients()
    pool = recycling(clients, max_lifetime=10.0)
    assert [used(pool, clients, 100.0 + at) for at in range(0, 26, 5)] == [0, 0, 1, 1, 2, 2]
    assert clients.closed == [0, 1]


def test_a_client_in_use_is_closed_with_its_last_call() -> None:
    clients = Clients()
    pool = recycling(clients, max_lifetime=10.0, idle_timeout=1.0)
    early = [pool.request(ONE, 0.0), pool.request(ONE, 5.0)]
    late = pool.request(ONE, 10.0)
    assert [each.endpoint for each in (*early, late)] == [clients.made[n] for n in (0, 0, 1)]
    for lease in (late, early[0]):
        lease.release(11.0)
    assert clients.closed == []
    early[1].release(11.0)
    assert clients.closed == [0]


def test_each_of_several_replaced_clients_is_closed_with_its_own_last_call() -> None:
    clients = Clients()
    pool = recycling(clients, max_lifetime=10.0)
    leases = [pool.request(ONE, at) for at in (0.0, 10.0, 20.0)]
    leases[1].release(21.0)
    assert clients.closed == [1]
    leases[2].release(21.0)
    leases[0].release(21.0)
    assert clients.closed == [1, 0], "the last one is still in service"


def test_the_client_of_a_running_call_is_not_idle() -> None:
    clients = Clients()
    pool = recycling(clients, idle_timeout=10.0)
    pool.request(ONE, 0.0)
    pool.request(ONE, 50.0)
    assert len(clients.made) == 1


def test_a_client_is_made_with_the_first_call_where_there_is_none() -> None:
    clients = Clients()
    pool = Pool([Member(renew=clients)])
    assert clients.made == []
    assert used(pool, clients, 0.0) == 0
    assert used(pool, clients, 1e6) == 0


def test_a_client_that_cannot_be_made_leaves_the_old_one(caplog: pytest.LogCaptureFixture) -> None:
    clients = Clients()

    def renew() -> Endpoint:
        raise OSError("sk-secret")

    pool = Pool([Member(clients(), name="#1", renew=renew, max_lifetime=10.0)])
    waiting = [pool.request(ONE, at) for at in (0.0, 20.0, 21.0)]
    assert {each.endpoint for each in waiting} == {clients.made[0]}
    [record] = caplog.records
    assert record.getMessage() == "key #1: no fresh client: OSError"


def test_a_client_that_cannot_be_closed_disturbs_nobody() -> None:
    clients = Clients()

    def make() -> Endpoint:
        def close() -> None:
            raise OSError

        return replace(clients(), close=close)

    pool = recycling(make, max_lifetime=1.0)
    assert all(pool.request(ONE, at).granted for at in (0.0, 5.0, 10.0))


def test_a_pool_may_be_asked_while_a_client_is_closed() -> None:
    clients = Clients()
    seen: list[int] = []

    def make() -> Endpoint:
        return replace(clients(), close=lambda: seen.append(pool.request(ONE, 5.0).granted))

    pool = recycling(make, max_lifetime=1.0)
    used_at = [pool.request(ONE, 0.0)]
    used_at[0].release(0.5)
    pool.request(ONE, 5.0)
    assert seen == [True], "it is closed outside the lock"


@forks
def test_a_forked_child_starts_empty_with_clients_of_its_own() -> None:
    clients = Clients()
    unused = Pool([Member(renew=clients)])
    pool = Pool([Member(clients(), renew=clients, max_concurrency=2, limits=RateLimits(3))])
    leases = [pool.request(ONE, 0.0) for _ in range(3)]

    def work() -> None:
        assert (pool.in_use, pool.waiting) == (0, 0)
        assert clients.closed == [], "the parent's connections are the parent's"
        for lease in leases:
            lease.release(1.0)
        assert pool.in_use == 0, "a call of the parent is given back there"
        mine = [pool.request(ONE, 1.0) for _ in range(2)]
        assert [each.granted for each in mine] == [True, False], "the parent's two still count"
        assert mine[0].endpoint is clients.made[1]
        assert unused.members[0].endpoint is None

    in_child(work)
