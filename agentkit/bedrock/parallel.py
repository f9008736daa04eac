"""Many requests at once, over models and Regions."""

from __future__ import annotations

import functools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from agentkit.bedrock.converse_request import BedrockConverseRequest
from agentkit.bedrock.hedge import ahedged, hedged
from agentkit.bedrock.manager import LLMManager
from agentkit.bedrock.options import (
    FailureHandlingStrategy,
    LoadBalancingStrategy,
    ParallelProcessingConfig,
    ResponseValidationConfig,
)
from agentkit.bedrock.parallel_response import ParallelExecutionStats, ParallelResponse
from agentkit.bedrock.response import BedrockResponse
from agentkit.errors import (
    ConfigurationError,
    DeadlineExceededError,
    LLMError,
    ParallelExecutionError,
    RequestIdCollisionError,
)
from agentkit.manager.runner import arun_bounded, run_bounded
from agentkit.policy.validation import whole_number

R = TypeVar("R")
Progress = Callable[[int, int], None]
"""Called with (finished, total) after each request, one call at a time."""


class ParallelLLMManager(LLMManager):
    """An `LLMManager` that can also run many requests concurrently.

    Args:
        models: as for `LLMManager`.
        regions: as for `LLMManager`.
        parallel_config: concurrency, how failures are handled, how Regions are assigned.
        options: the other arguments of `LLMManager`.
    """

    def __init__(
        self,
        models: Sequence[str],
        regions: Sequence[str],
        parallel_config: ParallelProcessingConfig | None = None,
        **options: Any,
    ) -> None:
        self._parallel = parallel_config or ParallelProcessingConfig()
        options.setdefault("max_concurrency", max(50, self._parallel.max_concurrent_requests))
        super().__init__(models, regions, **options)

    def get_parallel_config(self) -> ParallelProcessingConfig:
        """The settings of parallel runs."""
        return self._parallel

    def converse_parallel(
        self,
        requests: Sequence[BedrockConverseRequest],
        target_regions_per_request: int = 2,
        response_validation_config: ResponseValidationConfig | None = None,
        *,
        on_progress: Progress | None = None,
        resume_from: ParallelResponse | None = None,
    ) -> ParallelResponse:
        """Send `requests`, at most ``max_concurrent_requests`` at once.

        Args:
            requests: with different ids.
            target_regions_per_request: how many assigned Regions a request tries first (default
                2; at most all). The others follow.
            response_validation_config: validation of each response.
            on_progress: called with (finished, total).
            resume_from: an earlier run of the same requests; its answers are kept, and only the
                rest is sent.

        Raises:
            RequestIdCollisionError: two requests have the same id.
            ParallelExecutionError: a failure stopped the run; `.response` has what was finished.
        """
        run = _Run(
            self,
            requests,
            regions_each=target_regions_per_request,
            validation=response_validation_config,
            on_progress=on_progress,
            resume_from=resume_from,
        )
        run.run()
        return run.finish()

    async def aconverse_parallel(
        self,
        requests: Sequence[BedrockConverseRequest],
        target_regions_per_request: int = 2,
        response_validation_config: ResponseValidationConfig | None = None,
        *,
        on_progress: Progress | None = None,
        resume_from: ParallelResponse | None = None,
    ) -> ParallelResponse:
        """Like `converse_parallel`, for asyncio."""
        run = _Run(
            self,
            requests,
            regions_each=target_regions_per_request,
            validation=response_validation_config,
            on_progress=on_progress,
            resume_from=resume_from,
        )
        await run.arun()
        return run.finish()


class _Assigned(NamedTuple):
    """A request, and the Regions it tries first."""

    request: BedrockConverseRequest
    regions: list[str]


class _Run:
    """One parallel run: which request is next, where it goes, and what became of each."""

    def __init__(
        self,
        manager: ParallelLLMManager,
        requests: Sequence[BedrockConverseRequest],
        *,
        regions_each: int,
        validation: ResponseValidationConfig | None,
        on_progress: Progress | None,
        resume_from: ParallelResponse | None,
    ) -> None:
        self._manager = manager
        self._config = manager.get_parallel_config()
        self._requests = _distinct(requests)
        self._regions_each = whole_number("target_regions_per_request", regions_each)
        self._validation = validation
        self._on_progress = on_progress
        kept = {} if resume_from is None else resume_from.get_successful_responses()
        self._done = {id_: each for id_, each in kept.items() if id_ in self._requests}
        self._order = [id_ for id_ in self._requests if id_ not in self._done]
        if self._config.enable_request_prioritization:
            self._order.sort(key=lambda id_: -self._requests[id_].priority)
        self._turn = 0
        self._load: Counter[str] = Counter()
        self._most = 0
        self._timed_out: list[str] = []
        self._stopped = False
        self._began = time.monotonic()

    def run(self) -> None:
        """Send the requests on threads."""
        run_bounded(
            self._send,
            self._assignments(),
            self._keep,
            max_concurrency=self._config.max_concurrent_requests,
            name="agentkit-parallel",
        )

    async def arun(self) -> None:
        """Send the requests as tasks."""
        await arun_bounded(
            self._asend,
            self._assignments(),
            self._keep,
            max_concurrency=self._config.max_concurrent_requests,
        )

    def finish(self) -> ParallelResponse:
        """The response of the run. Raises `ParallelExecutionError` if it was stopped."""
        ids = [id_ for id_ in self._requests if id_ in self._done]
        response = ParallelResponse(
            request_responses={id_: self._done[id_] for id_ in ids},
            total_duration_ms=1000.0 * (time.monotonic() - self._began),
            parallel_execution_stats=ParallelExecutionStats.of(self._done.values(), self._most),
            warnings=self._warnings(),
            timed_out_request_ids=list(self._timed_out),
            original_requests=dict(self._requests),
        )
        if self._stopped:
            failed = len(response.get_failed_responses())
            raise ParallelExecutionError(
                f"{failed} of {len(ids)} requests failed and the run was stopped; "
                f"{len(self._requests) - len(ids)} were not sent",
                response=response,
                hint="the finished ones are in .response; CONTINUE_ON_FAILURE sends them all",
            )
        return response

    def _warnings(self) -> list[str]:
        have = len(self._manager.get_available_regions())
        if self._regions_each <= have:
            return []
        return [f"{self._regions_each} Regions per request were requested, but there are {have}"]

    def _send(self, assigned: _Assigned) -> BedrockResponse:
        first, second = self._ways(self._manager.converse_with_request, assigned)
        try:
            if second is None:
                return first()
            return hedged(first, second, self._hedge_after, _is_success)
        except LLMError as error:  # refused before anything was sent
            return BedrockResponse(False, final_error=error)

    async def _asend(self, assigned: _Assigned) -> BedrockResponse:
        first, second = self._ways(self._manager.aconverse_with_request, assigned)
        try:
            if second is None:
                return await first()
            return await ahedged(first, second, self._hedge_after, _is_success)
        except LLMError as error:  # refused before anything was sent
            return BedrockResponse(False, final_error=error)

    @property
    def _hedge_after(self) -> float:
        return self._config.hedge_after_seconds or 0.0

    def _ways(
        self, converse: Callable[..., R], assigned: _Assigned
    ) -> tuple[Callable[[], R], Callable[[], R] | None]:
        """How a request is sent, and how a second time in other Regions, if it is hedged."""
        request, regions = assigned
        options = self._options(request, regions)
        first = functools.partial(converse, request, self._validation, **options)
        others = [*regions[1:], *self._manager.get_available_regions()]
        again = list(dict.fromkeys(each for each in others if each != regions[0]))
        if self._config.hedge_after_seconds is None or not again:
            return first, None
        options = {**options, "regions": again}
        return first, functools.partial(converse, request, self._validation, **options)

    def _options(self, request: BedrockConverseRequest, regions: list[str]) -> dict[str, Any]:
        retries = request.max_retries
        if retries is None:
            retries = self._config.max_retries_per_request
        attempts = 1 if not self._config.enable_automatic_retry else None
        if attempts is None and retries is not None:
            attempts = retries + 1
        return {
            "timeout": self._config.request_timeout_seconds,
            "regions": regions,
            "attempts": attempts,
            "raises": False,
        }

    def _assignments(self) -> Iterator[_Assigned]:
        """The next request and its Regions, until a failure stops the run."""
        for id_ in self._order:
            if self._stopped:
                return
            regions = self._assigned()
            self._load[regions[0]] += 1
            self._most = max(self._most, self._load.total())
            yield _Assigned(self._requests[id_], regions)

    def _assigned(self) -> list[str]:
        """The Regions that the next request tries first."""
        regions = self._manager.get_available_regions()
        strategy = self._config.load_balancing_strategy
        if strategy is LoadBalancingStrategy.RANDOM:
            random.shuffle(regions)
        elif strategy is LoadBalancingStrategy.LEAST_LOADED:
            regions.sort(key=lambda region: self._load[region])
        else:
            turn = self._turn % len(regions)
            regions = regions[turn:] + regions[:turn]
        self._turn += 1
        return regions[: self._regions_each]

    def _keep(self, assigned: _Assigned, response: BedrockResponse) -> None:
        request, regions = assigned
        if not response.success:
            request.record_failure(response.get_last_error() or LLMError("not answered"))
        self._load[regions[0]] -= 1
        self._done[request.request_id] = response
        if _out_of_time(response.final_error):
            self._timed_out.append(request.request_id)
        self._stopped = self._stopped or self._must_stop(response)
        if self._on_progress is not None:
            self._on_progress(len(self._done), len(self._requests))

    def _must_stop(self, response: BedrockResponse) -> bool:
        strategy = self._config.failure_handling_strategy
        if response.success or strategy is FailureHandlingStrategy.CONTINUE_ON_FAILURE:
            return False
        if strategy is FailureHandlingStrategy.STOP_ON_FIRST_FAILURE:
            return True
        failures = sum(not each.success for each in self._done.values())
        return failures / len(self._requests) >= self._config.failure_threshold


def _out_of_time(error: Exception | None) -> bool:
    causes = getattr(error, "exceptions", (error,))
    return any(isinstance(each, DeadlineExceededError) for each in causes)


def _is_success(response: BedrockResponse) -> bool:
    return response.success


def _distinct(requests: Any) -> Mapping[str, BedrockConverseRequest]:
    if isinstance(requests, BedrockConverseRequest) or not isinstance(requests, Sequence):
        raise ConfigurationError(f"requests must be a list, got {type(requests).__name__}")
    if not requests:
        raise ConfigurationError("there are no requests", hint="give at least one")
    found: dict[str, BedrockConverseRequest] = {}
    for request in requests:
        if not isinstance(request, BedrockConverseRequest):
            raise ConfigurationError(
                f"a request must be a BedrockConverseRequest, got {type(request).__name__}"
            )
        if request.request_id in found:
            raise RequestIdCollisionError(
                f"two requests have the id {request.request_id!r}", hint="give each its own id"
            )
        found[request.request_id] = request
    return found
