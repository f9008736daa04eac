"""One client for a service and a Region, made at first use, that sends each request once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agentkit.bedrock import AuthConfig, Boto3Config, Clients
from agentkit.errors import ConfigurationError
from agentkit.providers.bedrock.sessions import open_session
from tests.forks import forks, in_child

KEYS = AuthConfig("credentials", access_key="k", secret_key="s")


class Sessions:
    """Counts sessions and clients; makes fakes."""

    def __init__(self) -> None:
        self.configs: list[AuthConfig] = []
        self.made: list[tuple[str, str]] = []
        self.closed = 0

    def __call__(self, config: AuthConfig) -> Sessions:
        self.configs.append(config)
        return self

    def client(self, service: str, *, region_name: str, **_: Any) -> Any:
        self.made.append((service, region_name))
        return self

    def close(self) -> None:
        self.closed += 1


def test_nothing_is_made_before_it_is_needed() -> None:
    sessions = Sessions()
    clients = Clients(KEYS, session_factory=sessions)
    assert sessions.configs == []
    clients.close()
    assert sessions.made == []


@pytest.mark.promise("B27", "S0-60")
def test_a_hundred_requests_to_two_regions_open_two_clients() -> None:
    sessions = Sessions()
    clients = Clients(KEYS, session_factory=sessions)
    start = threading.Barrier(10)

    def ask() -> None:
        start.wait()
        for number in range(10):
            clients.runtime(("us-east-1", "us-west-2")[number % 2])

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sessions.configs == [KEYS]
    assert sorted(sessions.made) == [
        ("bedrock-runtime", "us-east-1"),
        ("bedrock-runtime", "us-west-2"),
    ]


def test_real_clients_send_once_and_keep_enough_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "4")
    monkeypatch.setenv("AWS_RETRY_MODE", "legacy")
    clients = Clients(KEYS, Boto3Config(read_timeout=7, connect_timeout=3), concurrency=60)
    config = clients.runtime("eu-west-1").meta.config
    assert config.retries["total_max_attempts"] == 1
    assert (config.read_timeout, config.connect_timeout) == (7, 3)
    assert config.max_pool_connections == 60
    assert clients.runtime("eu-west-1").meta.region_name == "eu-west-1"
    assert clients.control("eu-west-1") is not clients.runtime("eu-west-1")
    assert clients.get("ssm", "eu-west-1", timeout=2).meta.config.read_timeout == 2
    clients.close()


def test_another_address_can_be_given() -> None:
    clients = Clients(KEYS, endpoint_url="http://127.0.0.1:1")
    assert clients.runtime("us-east-1").meta.endpoint_url == "http://127.0.0.1:1"


@pytest.mark.parametrize("bad", ["", "us_east_1", "US-EAST-1", "https://evil", None, 5])
def test_a_wrong_region_is_refused_before_anything_is_made(bad: Any) -> None:
    sessions = Sessions()
    with pytest.raises(ConfigurationError, match="not an AWS Region"):
        Clients(KEYS, session_factory=sessions).runtime(bad)
    assert sessions.configs == []


def test_the_threads_are_its_own_and_as_many_as_may_run_at_once() -> None:
    with Clients(KEYS, concurrency=3) as clients:
        executor = clients.executor
        assert executor is clients.executor
        meeting = threading.Barrier(3)

        def meet(_: int) -> str:
            meeting.wait(30)
            return threading.current_thread().name

        names = set(executor.map(meet, range(6)))
        assert len(names) == 3
        assert all(name.startswith("agentkit-bedrock") for name in names)


def test_closing_closes_every_client_and_the_next_use_opens_anew() -> None:
    sessions = Sessions()
    clients = Clients(KEYS, session_factory=sessions)
    clients.runtime("us-east-1")
    first = clients.executor
    clients.close()
    assert sessions.closed == 1
    clients.runtime("us-east-1")
    assert len(sessions.made) == 2
    assert clients.executor is not first
    clients.close()


@forks
def test_a_forked_child_makes_its_own() -> None:
    sessions = Sessions()
    clients = Clients(KEYS, session_factory=sessions)
    clients.runtime("us-east-1")

    def work() -> object:
        clients.runtime("us-east-1")
        return len(sessions.configs), sessions.closed

    assert in_child(work) == "(2, 0)"


@pytest.mark.parametrize(
    "fields", [{"read_timeout": 0}, {"connect_timeout": -1}, {"max_pool_connections": 0}]
)
def test_limits_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Boto3Config(**fields)


def test_retries_of_the_sdk_are_refused_with_a_word() -> None:
    with pytest.warns(UserWarning, match="RetryConfig") as seen:
        Boto3Config(retries_max_attempts=3)
    assert seen[0].filename == __file__


def test_no_session_is_shared_by_accident() -> None:
    assert open_session(KEYS) is not open_session(KEYS)
