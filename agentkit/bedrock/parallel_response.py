"""The responses of a parallel run, by request id."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentkit.bedrock.response import BedrockResponse


@dataclass(frozen=True, slots=True)
class ParallelExecutionStats:
    """Counts and times of one parallel run. Durations are in milliseconds.

    Attributes:
        average_request_duration_ms, max_request_duration_ms, min_request_duration_ms: over all
            requests; 0 without any.
        concurrent_executions: the most requests that ran at once, as measured.
        region_distribution: the number of answers by the Region that gave them.
    """

    total_requests: int = 0
    successful_requests: int = 0
    failed_requests_count: int = 0
    average_request_duration_ms: float = 0.0
    max_request_duration_ms: float = 0.0
    min_request_duration_ms: float = 0.0
    concurrent_executions: int = 0
    region_distribution: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, responses: Iterable[BedrockResponse], concurrent_executions: int = 0
    ) -> ParallelExecutionStats:
        """The statistics of `responses`."""
        every = list(responses)
        times = [response.total_duration_ms for response in every] or [0.0]
        good = sum(response.success for response in every)
        regions = Counter(one.region_used for one in every if one.success and one.region_used)
        return cls(
            total_requests=len(every),
            successful_requests=good,
            failed_requests_count=len(every) - good,
            average_request_duration_ms=sum(times) / len(times),
            max_request_duration_ms=max(times),
            min_request_duration_ms=min(times),
            concurrent_executions=concurrent_executions,
            region_distribution=dict(regions),
        )

    @property
    def success_rate(self) -> float:
        """Successful requests among all, 0 to 1; 0 without any."""
        return self.successful_requests / self.total_requests if self.total_requests else 0.0


@dataclass(slots=True)
class ParallelResponse:
    """The responses of one parallel run, in the order of the requests.

    Attributes:
        request_responses: the response of each request, by id; a failed one has its error.
        total_duration_ms: of the run, in milliseconds.
        parallel_execution_stats: see `ParallelExecutionStats`.
        warnings: remarks for the caller.
        timed_out_request_ids: requests that ran out of time.
        original_requests: the requests themselves, by their ids.
    """

    request_responses: dict[str, BedrockResponse] = field(default_factory=dict)
    total_duration_ms: float = 0.0
    parallel_execution_stats: ParallelExecutionStats = field(default_factory=ParallelExecutionStats)
    warnings: list[str] = field(default_factory=list)
    timed_out_request_ids: list[str] = field(default_factory=list)
    original_requests: dict[str, Any] = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether there were requests and all of them were answered."""
        return bool(self.request_responses) and not self.failed_request_ids

    @property
    def successful_request_ids(self) -> list[str]:
        """Ids of the requests that were answered."""
        return list(self.get_successful_responses())

    @property
    def failed_request_ids(self) -> list[str]:
        """Ids of the requests that were not."""
        return list(self.get_failed_responses())

    def get_successful_responses(self) -> dict[str, BedrockResponse]:
        """The answers, by request id."""
        return {id_: one for id_, one in self.request_responses.items() if one.success}

    def get_failed_responses(self) -> dict[str, BedrockResponse]:
        """The failures, by request id."""
        return {id_: one for id_, one in self.request_responses.items() if not one.success}

    def get_success_rate(self) -> float:
        """Requests answered among all, 0 to 1; 0 without any."""
        every = len(self.request_responses)
        return len(self.successful_request_ids) / every if every else 0.0

    def get_failed_by_exception_type(
        self, exception_type: type[BaseException] | str | None = None
    ) -> dict[str, list[str]]:
        """Ids of failed requests by the class name of their last error; of one class if given."""
        wanted = getattr(exception_type, "__name__", exception_type)
        found: dict[str, list[str]] = {}
        for id_, response in self.get_failed_responses().items():
            error = response.get_last_error()
            name = "unknown" if error is None else type(error).__name__
            if wanted in {None, name}:
                found.setdefault(name, []).append(id_)
        return found

    def filter_failed_requests(self, retryable: bool | None = None) -> dict[str, Any]:
        """The original requests that failed: all, or those whose last error is retryable or not."""
        return {
            id_: self.original_requests[id_]
            for id_, response in self.get_failed_responses().items()
            if id_ in self.original_requests
            and (retryable is None or _retryable(response) is retryable)
        }

    def get_warnings(self) -> list[str]:
        """The `warnings`."""
        return list(self.warnings)

    def to_dict(self) -> dict[str, Any]:
        """The run as a JSON value, without the original requests."""
        stats = self.parallel_execution_stats
        counts = {name: getattr(stats, name) for name in ParallelExecutionStats.__slots__}
        return {
            "success": self.success,
            "total_duration_ms": self.total_duration_ms,
            "request_responses": {
                id_: one.to_dict() for id_, one in self.request_responses.items()
            },
            "parallel_execution_stats": counts | {"success_rate": stats.success_rate},
            "warnings": list(self.warnings),
            "timed_out_request_ids": list(self.timed_out_request_ids),
        }

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict` as a JSON string."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)


def _retryable(response: BedrockResponse) -> bool:
    return bool(getattr(response.get_last_error(), "retryable", False))
