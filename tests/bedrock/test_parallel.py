"""Many requests at once: spread as assigned, none lost, every failure kept."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from agentkit.bedrock import (
    AuthConfig,
    AuthenticationType,
    BedrockConverseRequest,
    ConfigurationError,
    FailureHandlingStrategy,
    LoadBalancingStrategy,
    ParallelExecutionError,
    ParallelLLMManager,
    ParallelProcessingConfig,
    ParallelProcessingError,
    RequestIdCollisionError,
    RequestValidationError,
    ResponseValidationConfig,
    RetryExhaustedError,
)
from agentkit.testing import WireServer, faults
from tests.bedrock.crews import carry_out, crew, echo, jobs, text_of
from tests.bedrock.runtime import HAIKU, FakeClients, message, refused, throttled
from tests.providers.bedrock.wired import clients_at

EAST, WEST, EU = REGIONS = ["us-east-1", "us-west-2", "eu-west-1"]
DEAD = refused("ServiceUnavailableException", status=503)
INVALID = refused("ValidationException", "messages: wrong")
STOP_FIRST = FailureHandlingStrategy.STOP_ON_FIRST_FAILURE
STOP_THRESHOLD = FailureHandlingStrategy.STOP_ON_THRESHOLD

MADE_UP = AuthConfig(
    auth_type=AuthenticationType.CREDENTIALS, access_key_id="AKIA", secret_access_key="made up"
)

both = pytest.mark.parametrize("mode", ["sync", "async"])


def failing(*numbers: int) -> Callable[[str, dict[str, Any]], Any]:
    """Requests of these numbers are refused as the caller's fault."""
    return lambda region, sent: INVALID if int(text_of(sent)) in numbers else echo(region, sent)


@both
def test_answers_are_kept_by_id_in_the_order_of_the_requests(mode: str) -> None:
    run = carry_out(crew(FakeClients(then=echo)), jobs(7), mode)
    assert run.success
    assert list(run.request_responses) == [f"r{number}" for number in range(7)]
    assert run.request_responses["r4"].get_content() == "answer 4"
    assert run.total_duration_ms > 0


@pytest.mark.promise("S1-51")
@both
def test_concurrency_is_real_and_the_limit_holds(mode: str) -> None:
    """Four meet at a barrier: fewer at once would never pass it, and a fifth breaks the count."""
    barrier = threading.Barrier(4, timeout=10)
    lock = threading.Lock()
    running, most = 0, 0

    def meet(region: str, arguments: dict[str, Any]) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait()
        with lock:
            running -= 1
        return "met"

    run = carry_out(crew(FakeClients(then=meet), max_concurrent_requests=4), jobs(12), mode)
    assert run.success
    assert most == 4
    assert run.parallel_execution_stats.concurrent_executions == 4


@pytest.mark.promise("B23", "S1-46")
@both
def test_b23_first_attempts_go_where_they_were_assigned(mode: str) -> None:
    clients = FakeClients(then=echo)
    run = carry_out(crew(clients), jobs(6), mode)
    assert Counter(clients.order) == dict.fromkeys(REGIONS, 2)
    assert run.parallel_execution_stats.region_distribution == dict.fromkeys(REGIONS, 2)
    went = {text_of(sent): region for region, sent in clients.asked}
    assert [went[str(number)] for number in range(6)] == REGIONS * 2


@pytest.mark.promise("B23")
def test_b23_the_distribution_counts_the_regions_that_answered() -> None:
    clients = FakeClients(then=echo, us_east_1=[DEAD] * 9)
    run = carry_out(crew(clients, [EAST, WEST]), jobs(4), "sync", 1)
    assert run.parallel_execution_stats.region_distribution == {WEST: 4}


def test_the_second_region_of_an_assignment_is_the_next_one() -> None:
    clients = FakeClients(then=echo, us_west_2=[DEAD] * 9)
    run = carry_out(crew(clients, max_concurrent_requests=1), jobs(2), "sync", 2)
    assert run.success
    assert clients.order == [EAST, WEST, EU]


@pytest.mark.promise("S1-50")
@both
def test_round_robin_is_even_within_one(mode: str) -> None:
    clients = FakeClients(then=echo)
    carry_out(crew(clients), jobs(100), mode)
    counts = Counter(clients.order).values()
    assert max(counts) - min(counts) <= 1


def test_random_uses_every_region() -> None:
    clients = FakeClients(then=echo)
    carry_out(crew(clients, load_balancing_strategy=LoadBalancingStrategy.RANDOM), jobs(200))
    counts = Counter(clients.order)
    assert set(counts) == set(REGIONS)
    assert min(counts.values()) > 20


def test_least_loaded_goes_to_the_region_with_the_fewest_under_way() -> None:
    """The first Region holds its request until every other one was answered elsewhere."""
    held = threading.Event()
    answered = []

    def step(region: str, arguments: dict[str, Any]) -> str:
        if text_of(arguments) == "0":
            assert held.wait(10)
        else:
            answered.append(region)
            if len(answered) == 5:
                held.set()
        return "x"

    how: dict[str, Any] = {"load_balancing_strategy": "least_loaded", "max_concurrent_requests": 2}
    crew_ = crew(FakeClients(then=step), [EAST, WEST], **how)
    assert carry_out(crew_, jobs(6)).success
    assert answered == [WEST] * 5


@pytest.mark.promise("S0-57")
@both
def test_a_failure_leaves_the_others_alone(mode: str) -> None:
    run = carry_out(crew(FakeClients(then=failing(1, 3))), jobs(5), mode)
    assert run.failed_request_ids == ["r1", "r3"]
    assert run.get_success_rate() == 0.6
    assert f"{run.get_success_rate():.1%}" == "60.0%"


@pytest.mark.promise("B25")
@both
def test_b25_a_failed_request_keeps_its_exception_attempts_and_ledger(mode: str) -> None:
    clients = FakeClients(then=throttled())
    requests = jobs(1)
    run = carry_out(crew(clients, [EAST, WEST], retry={"max_attempts": 3}), requests, mode)
    (failed,) = run.get_failed_responses().values()
    assert len(failed.attempts) == len(clients.asked) == len(failed.ledger.sent) == 3
    assert run.get_failed_by_exception_type() == {"RateLimitError": ["r0"]}
    assert run.filter_failed_requests() == {"r0": requests[0]}
    assert requests[0].failure_history[-1].exception_type == "RateLimitError"


@pytest.mark.promise("B24")
@both
def test_stopping_at_the_first_failure_keeps_what_was_done(
    mode: str,
) -> None:
    clients = FakeClients(then=failing(2))
    how: dict[str, Any] = {"failure_handling_strategy": STOP_FIRST, "max_concurrent_requests": 1}
    with pytest.raises(ParallelExecutionError) as raised:
        carry_out(crew(clients, **how), jobs(5), mode)
    assert isinstance(raised.value, ParallelProcessingError)
    assert len(clients.asked) == 3
    kept = raised.value.response
    assert kept.successful_request_ids == ["r0", "r1"]
    assert kept.failed_request_ids == ["r2"]
    assert "2 were not sent" in str(raised.value)


@both
def test_b24_stopping_at_a_threshold_counts_over_all_requests(mode: str) -> None:
    clients = FakeClients(then=failing(0, 1, 3, 5))
    how: dict[str, Any] = {
        "failure_handling_strategy": STOP_THRESHOLD,
        "max_concurrent_requests": 1,
    }
    with pytest.raises(ParallelExecutionError) as raised:
        carry_out(crew(clients, failure_threshold=0.3, **how), jobs(10), mode)
    assert len(clients.asked) == 4
    assert raised.value.response.failed_request_ids == ["r0", "r1", "r3"]
    below = crew(FakeClients(then=failing(0, 1, 3, 5)), failure_threshold=0.5, **how)
    assert carry_out(below, jobs(10), mode).get_success_rate() == 0.6


@pytest.mark.promise("B25")
@pytest.mark.wire
@both
def test_b25_a_timeout_ends_a_silent_call_and_the_others_continue(mode: str) -> None:
    with WireServer(reply="x") as server, clients_at(server.bedrock_url) as clients:
        config = ParallelProcessingConfig(max_concurrent_requests=1, request_timeout_seconds=1.0)
        llm = ParallelLLMManager([HAIKU], [EAST], config, clients=clients)
        carry_out(llm, jobs(1), mode)  # the first one makes the client, which may take long
        server.script(faults.silence())
        run = carry_out(llm, jobs(3), mode)
    assert run.total_duration_ms < 15_000  # the SDK itself gives up after 20 s
    assert run.timed_out_request_ids == ["r0"]
    assert run.successful_request_ids == ["r1", "r2"]
    assert isinstance(run.request_responses["r0"].final_error, TimeoutError | RetryExhaustedError)


@both
def test_higher_priorities_start_first_and_equal_ones_in_order(mode: str) -> None:
    requests = jobs(5)
    requests[3].priority, requests[1].priority = 9, 4
    for prioritised, order in ((True, "31024"), (False, "01234")):
        clients = FakeClients(then=echo)
        how: dict[str, Any] = {
            "max_concurrent_requests": 1,
            "enable_request_prioritization": prioritised,
        }
        run = carry_out(crew(clients, **how), requests, mode)
        assert "".join(text_of(sent) for _, sent in clients.asked) == order
        assert list(run.request_responses) == [f"r{number}" for number in range(5)]


@both
def test_progress_is_reported_after_each_request(mode: str) -> None:
    seen: list[tuple[int, int]] = []
    carry_out(
        crew(FakeClients(then=failing(2))),
        jobs(6),
        mode,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(number, 6) for number in range(1, 7)]


@both
def test_attempts_are_as_configured_or_as_the_request_says(mode: str) -> None:
    cases: list[tuple[dict[str, Any], int | None, int]] = [
        ({"max_retries_per_request": 1}, None, 2),
        ({"max_retries_per_request": 1}, 4, 5),
        ({"enable_automatic_retry": False}, None, 1),
    ]
    for how, own, expected in cases:
        clients = FakeClients(then=throttled())
        carry_out(crew(clients, **how), jobs(1, max_retries=own), mode)
        assert len(clients.asked) == expected


@both
def test_a_request_that_cannot_be_sent_is_one_failure_not_the_end_of_the_run(mode: str) -> None:
    clients = FakeClients(then=echo)
    requests = [*jobs(2), BedrockConverseRequest([], request_id="bad")]
    run = carry_out(crew(clients), requests, mode)
    assert run.successful_request_ids == ["r0", "r1"]
    assert isinstance(run.request_responses["bad"].get_last_error(), RequestValidationError)
    assert run.get_failed_by_exception_type() == {"RequestValidationError": ["bad"]}
    assert len(clients.asked) == 2


@both
def test_answers_are_validated_each(mode: str) -> None:
    clients = FakeClients("bad", then=echo)
    check = ResponseValidationConfig(lambda response: "bad" not in response.get_content())
    run = carry_out(crew(clients, max_concurrent_requests=1), jobs(2), mode, 2, check)
    assert run.success
    assert run.request_responses["r0"].had_validation_failures()
    assert not run.request_responses["r1"].had_validation_failures()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_region_that_dies_midway_through_500_requests_loses_none(mode: str) -> None:
    concurrency, deaths = 20, Counter[str]()
    lock = threading.Lock()
    count = 0

    def step(region: str, arguments: dict[str, Any]) -> Any:
        nonlocal count
        with lock:
            count += 1
            if region == EAST and count > 250:
                deaths[region] += 1
                return DEAD
        return echo(region, arguments)

    run = carry_out(
        crew(FakeClients(then=step), [EAST, WEST], max_concurrent_requests=concurrency),
        jobs(500),
        mode,
    )
    assert run.get_success_rate() == 1.0
    assert len(run.request_responses) == 500
    # Five failures in a row open the breaker, and as many calls as run at once may be under way by
    # then. Late answers to calls that began before the Region died do not end the row.
    assert 0 < deaths[EAST] <= concurrency + 5


@pytest.mark.promise("S1-52")
def test_b27_clients_are_one_a_region() -> None:
    clients = FakeClients(then=echo)
    carry_out(crew(clients), jobs(60))
    assert clients.made == dict.fromkeys(REGIONS, 1)


@pytest.mark.promise("S1-45")
def test_two_requests_of_one_id_are_refused_before_anything_is_sent() -> None:
    clients = FakeClients(then=echo)
    with pytest.raises(RequestIdCollisionError, match="r0"):
        carry_out(crew(clients), jobs(1) * 2)
    assert clients.asked == []


@pytest.mark.promise("S1-45")
def test_ids_that_are_made_up_never_collide() -> None:
    messages = [message("the same")]
    made = {BedrockConverseRequest(messages).request_id for _ in range(10_000)}
    assert len(made) == 10_000


@pytest.mark.parametrize("wrong", [[], None, "hi", [{"messages": []}], BedrockConverseRequest([])])
def test_an_invalid_list_of_requests_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        carry_out(crew(FakeClients()), wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_concurrent_requests": 0},
        {"request_timeout_seconds": 0},
        {"failure_threshold": 1.5},
        {"max_retries_per_request": -1},
        {"load_balancing_strategy": "sideways"},
        {"failure_handling_strategy": "panic"},
    ],
)
def test_configurations_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ParallelProcessingConfig(**wrong)


def test_regions_each_are_at_least_one_and_too_many_is_row() -> None:
    with pytest.raises(ConfigurationError):
        carry_out(crew(FakeClients(then=echo)), jobs(1), "sync", 0)
    run = carry_out(crew(FakeClients(then=echo), [EAST]), jobs(1), "sync", 2)
    assert "there are 1" in run.get_warnings()[0]


def test_one_manager_does_both_and_returns_its_configuration() -> None:
    clients = FakeClients(then=echo)
    manager = crew(clients, max_concurrent_requests=3)
    assert manager.get_parallel_config().max_concurrent_requests == 3
    assert manager.converse([message("1")]).get_content() == "answer 1"
