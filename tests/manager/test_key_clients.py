"""When a key's client is made, replaced and closed, and what a forked child inherits."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agentkit.errors import ConfigurationError
from agentkit.manager.keys import ConnectionPool, KeyClient
from agentkit.policy.limits import Need, RateLimits
from agentkit.policy.target import Endpoint
from agentkit.providers.endpoint import endpoint_of
from tests.forks import forks, in_child


def endpoint() -> Endpoint:
    return endpoint_of(
        lambda prompt, kwargs: "", name="a", provider="p", fingerprint="", durable=False
    )


USUAL = endpoint()


class Providers:
    """Makes numbered providers, which are their own endpoints, and notes which were closed."""

    def __init__(self) -> None:
        self.made: list[Endpoint] = []
        self.closed: list[int] = []

    def __call__(self) -> Endpoint:
        number = len(self.made)
        self.made.append(replace(endpoint(), close=lambda: self.closed.append(number)))
        return self.made[-1]

    def number(self, taken: Endpoint) -> int:
        return self.made.index(taken)


def client_of(make: Callable[[], Endpoint], **times: float) -> KeyClient:
    return KeyClient(make, lambda provider: provider, USUAL, name="#1", **times)


def used(client: KeyClient, providers: Providers, now: float) -> int:
    taken = client.take(now)
    client.give_back(taken, now)
    return providers.number(taken)


def test_an_idle_client_is_replaced_and_closed() -> None:
    providers = Providers()
    client = client_of(providers, idle_timeout=10.0)
    times = (100.0, 109.0, 118.9, 128.9, 130.0)
    assert [used(client, providers, at) for at in times] == [0, 0, 0, 1, 1]
    assert providers.closed == [0]


def test_a_client_past_its_lifetime_is_replaced() -> None:
    providers = Providers()
    client = client_of(providers, max_lifetime=10.0)
    numbers = [used(client, providers, 100.0 + at) for at in range(0, 26, 5)]
    assert numbers == [0, 0, 1, 1, 2, 2]
    assert providers.closed == [0, 1]


def test_the_age_of_a_client_made_in_advance_counts_from_its_first_call() -> None:
    providers = Providers()
    client = client_of(providers, max_lifetime=10.0, idle_timeout=10.0)
    client.open()
    assert [used(client, providers, at) for at in (100.0, 109.0, 110.0)] == [0, 0, 1]


def test_a_client_in_use_is_closed_with_its_last_call() -> None:
    providers = Providers()
    client = client_of(providers, max_lifetime=10.0, idle_timeout=1.0)
    early = [client.take(0.0), client.take(5.0)]
    late = client.take(10.0)
    assert [providers.number(each) for each in (*early, late)] == [0, 0, 1]
    client.give_back(late, 11.0)
    client.give_back(early[0], 11.0)
    assert providers.closed == []
    client.give_back(early[1], 11.0)
    assert providers.closed == [0]


def test_each_of_several_replaced_clients_is_closed_with_its_own_last_call() -> None:
    providers = Providers()
    client = client_of(providers, max_lifetime=10.0)
    taken = [client.take(at) for at in (0.0, 10.0, 20.0)]
    client.give_back(taken[1], 21.0)
    assert providers.closed == [1]
    client.give_back(taken[2], 21.0)
    client.give_back(taken[0], 21.0)
    assert providers.closed == [1, 0], "the last one is still in service"


def test_the_client_of_a_running_call_is_not_idle() -> None:
    providers = Providers()
    client = client_of(providers, idle_timeout=10.0)
    client.take(0.0)
    assert not client.is_idle(50.0, 10.0)
    client.take(50.0)
    assert len(providers.made) == 1


def test_a_client_is_made_with_the_first_call() -> None:
    providers = Providers()
    client = client_of(providers)
    assert (client.endpoint, providers.made) == (None, [])
    assert used(client, providers, 0.0) == 0
    assert used(client, providers, 1e6) == 0


def test_a_client_that_cannot_be_made_leaves_the_old_one(caplog: pytest.LogCaptureFixture) -> None:
    providers = Providers()

    def make() -> Endpoint:
        if providers.made:
            raise OSError("sk-secret")
        return providers()

    client = client_of(make, max_lifetime=10.0)
    assert {providers.number(client.take(at)) for at in (0.0, 20.0, 21.0)} == {0}
    [record] = caplog.records
    assert record.getMessage() == "key #1: no new client: OSError"


def test_the_usual_endpoint_serves_a_key_whose_own_cannot_be_made() -> None:
    def make() -> Endpoint:
        raise OSError

    client = client_of(make)
    taken = client.take(0.0)
    assert taken is USUAL
    client.give_back(taken, 1.0)


def test_a_client_that_cannot_be_closed_disturbs_no_call() -> None:
    def make() -> Endpoint:
        def close() -> None:
            raise OSError

        return replace(endpoint(), close=close)

    client = client_of(make, max_lifetime=1.0)
    for at in (0.0, 5.0, 10.0):
        client.give_back(client.take(at), at)


def test_a_client_may_be_taken_while_an_old_one_is_closed() -> None:
    providers = Providers()

    def make() -> Endpoint:
        return replace(providers(), close=lambda: seen.append(client.take(5.0)))

    seen: list[Endpoint] = []
    client = client_of(make, max_lifetime=1.0)
    client.give_back(client.take(0.0), 0.5)
    assert client.take(5.0) is seen[0]


def test_a_pool_serves_other_keys_while_a_client_is_made() -> None:
    making, finish = threading.Event(), threading.Event()

    def make(key: str, model: str | None) -> Endpoint:
        if key == "slow":
            making.set()
            assert finish.wait(10)
        return endpoint()

    def identity(provider: Any) -> Endpoint:
        return provider  # type: ignore[no-any-return]

    pool, clients = ConnectionPool(["slow", "quick"]).build("m", make, identity, USUAL)
    leases = [pool.request(Need(), 0.0) for _ in range(3)]
    slow, quick, waiting = (lease.member for lease in leases)
    assert slow is waiting
    assert slow is not None
    assert quick is not None
    thread = threading.Thread(target=clients[slow].take, args=(0.0,))
    thread.start()
    assert making.wait(10)
    assert clients[quick].take(0.0) is not USUAL
    leases[1].release(0.0)
    assert pool.request(Need(), 0.0).granted
    finish.set()
    thread.join()


@pytest.mark.parametrize(
    "times", [{"idle_timeout": 0}, {"max_lifetime": -1.0}, {"max_lifetime": math.inf}]
)
def test_times_that_cannot_work_are_refused(times: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        client_of(Providers(), **times)


@forks
def test_a_forked_child_makes_clients_of_its_own_and_closes_none_of_its_parent() -> None:
    providers = Providers()
    client, unused = client_of(providers, max_lifetime=10.0), client_of(providers)
    parents = client.take(0.0)

    def work() -> None:
        assert providers.number(client.take(1.0)) == 1
        client.give_back(parents, 2.0)
        assert providers.closed == []
        assert unused.endpoint is None

    in_child(work)
    assert providers.number(client.take(1.0)) == 0


@forks
def test_a_forked_child_starts_with_an_empty_pool_and_the_quota_that_is_left() -> None:
    keys = ConnectionPool(["k"], 2, limits=RateLimits(3))
    pool, _ = keys.build("m", lambda key, model: USUAL, lambda provider: provider, USUAL)
    leases = [pool.request(Need(), 0.0) for _ in range(3)]

    def work() -> None:
        assert (pool.in_use, pool.waiting) == (0, 0)
        for lease in leases:
            lease.release(1.0)
        assert pool.in_use == 0, "a call of the parent is released there"
        mine = [pool.request(Need(), 1.0) for _ in range(2)]
        assert [each.granted for each in mine] == [True, False], "the parent's two still count"

    in_child(work)
    assert (pool.in_use, pool.waiting) == (2, 1)
