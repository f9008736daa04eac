"""The works: what is measured, in which columns, and the targets for agentkit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One figure of a work."""

    key: str
    label: str
    unit: str = ""
    at_most: float | None = None  # the target for agentkit
    drawn: bool = False
    log: bool = False

    def shown(self, value: float) -> str:
        """The figure with three significant digits, or as an integer from 100 on."""
        rounded = abs(value) >= 100 or float(value).is_integer()
        text = f"{value:,.0f}" if rounded else f"{value:.3g}"
        return f"{text} {self.unit}".rstrip()


@dataclass(frozen=True)
class Work:
    """One thing to measure; the page shows `method` above the table."""

    name: str
    title: str
    method: str
    columns: tuple[Column, ...]
    alone: bool = False  # only agentkit is measured
    served: bool = False  # uses the local server

    def reached(self, figures: Mapping[str, float]) -> bool:
        """Whether agentkit's figures reach every target."""
        limits = [(c.key, c.at_most) for c in self.columns if c.at_most is not None]
        return all(figures[key] <= limit for key, limit in limits)

    @property
    def target(self) -> str:
        """The targets in one line."""
        return ", ".join(
            f"{c.label} ≤ {c.shown(c.at_most)}" for c in self.columns if c.at_most is not None
        )


def _p50s(sync: float, other: float, *, log: bool = True) -> tuple[Column, ...]:
    return (
        Column("sync_p50_us", "sync p50", "µs", sync, drawn=True, log=log),
        Column("async_p50_us", "async p50", "µs", other, drawn=True, log=log),
        Column("sync_p99_us", "sync p99", "µs"),
        Column("async_p99_us", "async p99", "µs"),
    )


_EACH = "One call after another; p50 and p99 of the quietest of seven rounds."

WORKS = (
    Work(
        "overhead",
        "Cost of a call",
        "A callable that returns immediately, with a fallback behind it. Retries, breaker, "
        "deadline and telemetry are on, the response cache is off, no OpenTelemetry SDK is used. "
        + _EACH,
        _p50s(30, 40),
    ),
    Work(
        "telemetry",
        "Cost of a call that OpenTelemetry records",
        "The same with the OpenTelemetry SDK, which batches and discards spans and aggregates "
        "metrics. " + _EACH,
        _p50s(120, 120),
    ),
    Work(
        "throughput",
        "3,000 calls, 500 at a time",
        "The model answers after 50 ms, so the lower bound is 0.30 s. Best of three.",
        (Column("seconds", "wall time", "s", 0.45, drawn=True, log=True),),
    ),
    Work(
        "dead-primary",
        "A dead primary",
        "The primary fails with status 503 after 50 ms, from the first call on; the fallback "
        "answers after 50 ms. 200 calls, 20 at a time, with default policies.",
        (
            Column("attempts", "attempts at the primary", "", 25, drawn=True),
            Column("p50_ms", "p50", "ms", 60, drawn=True, log=True),
            Column("p99_ms", "p99", "ms", 250, drawn=True, log=True),
            Column("seconds", "wall time", "s"),
        ),
    ),
    Work(
        "silent-primary",
        "A silent primary",
        "The primary sends nothing for 30 s, the attempt timeout is 1 s, and the fallback answers "
        "after 50 ms. One call.",
        (
            Column("seconds", "answered after", "s", 1.2, drawn=True),
            Column("attempts", "attempts at the primary", "", 1, drawn=True),
        ),
    ),
    Work(
        "sdk",
        "Over the openai SDK",
        "Chat completions from one local server over real sockets. Each library alternates with "
        "the openai SDK of its own environment in one process. Measured are the time that a call "
        "adds to the SDK's p50, and the time of 320 calls, 16 at a time, and of streams of 61 "
        "chunks, 4 at a time, as multiples of the SDK's own.",
        (
            Column("p50_ms", "p50", "ms"),
            Column("added_ms", "added to the SDK's p50", "ms", 0.3, drawn=True),
            Column("calls_ratio", "time of calls, 16 at a time", "×", 1.11, drawn=True),
            Column("streams_ratio", "time of streams", "×", 1.11, drawn=True),
        ),
        served=True,
    ),
    Work(
        "identical-calls",
        "100 identical calls at once",
        "The response cache, where there is one, is on and empty; the model takes 50 ms. The "
        "figures are the calls that reach the model.",
        (
            Column("upstream_calls", "upstream calls", "", 1, drawn=True, log=True),
            Column("upstream_calls_streaming", "streaming", "", 1, drawn=True, log=True),
        ),
    ),
    Work(
        "memory-hit",
        "A hit of the response cache in memory",
        "100 prompts, repeated. " + _EACH,
        _p50s(25, 25),
    ),
    Work(
        "disk-hit",
        "A hit of the response cache on disk",
        "With agentkit, each prompt is sent once to a new manager whose memory tier is empty. "
        + _EACH,
        _p50s(80, 80),
    ),
    Work(
        "weight",
        "Weight",
        "Import time is the median of eight imports, each in a new interpreter with compiled "
        "bytecode; `import pydantic` is measured in the same way. Distributions are those that "
        "an installation without extras consists of.",
        (
            Column("import_ms", "import", "ms", drawn=True),
            Column("pydantic_ms", "`import pydantic`", "ms"),
            Column("ratio", "import / pydantic's", "", 2),
            Column("distributions", "distributions", "", 12, drawn=True),
        ),
    ),
    Work(
        "limits",
        "Limits",
        "Microseconds to admit and release a call: without limits, with all four limits per "
        "minute, and with three keys that have them. Then 100 threads and 400 tasks share a limit "
        "of 100 requests per minute, on an accelerated clock.",
        (
            Column("free_us", "no limits", "µs"),
            Column("limited_us", "four limits", "µs", 5),
            Column("three_keys_us", "three keys", "µs"),
            Column("overshoot", "requests over the limit", "", 0),
        ),
        alone=True,
    ),
    Work(
        "bedrock",
        "Bedrock",
        "Over real sockets against one local server: the time that `converse` adds to boto3's "
        "p50, alternating in one process; the construction of a manager, offline; 200 streams of "
        "43 events, 50 ms apart, on one event loop, and the lag of that loop; the clients made "
        "for 100 requests over two Regions; and 500 parallel requests, ten at a time, while one "
        "Region dies.",
        (
            Column("added_ms", "added to boto3's p50", "ms", 0.5),
            Column("construction_ms", "construction", "ms", 150),
            Column("streams_s", "200 streams", "s", 3),
            Column("loop_lag_p99_ms", "loop lag p99", "ms", 10),
            Column("clients", "clients", "", 2),
            Column("sts_calls", "STS calls", "", 1),
            Column("lost", "requests lost", "", 0),
            Column("attempts_at_the_dead", "attempts at the dead Region", "", 15),
        ),
        alone=True,
    ),
    Work(
        "soak",
        "100,000 calls through faults",
        "Eight threads and 32 tasks call models, one of each kind of callable and one over a "
        "socket, that raise, return nothing, hang, cancel themselves, and break in the middle of "
        "a stream; some callers cancel, leave a stream early, or leave it to the garbage "
        "collector. Beside them the process forks, its signal handlers make calls, and models are "
        "replaced. Resident memory, and the memory blocks that Python has allocated, are compared "
        "with those after 100,000 earlier calls, both times when idle worker threads have ended: "
        "one object left by each call would be 100,000 blocks. The other figures count what is "
        "left at the end.",
        (
            Column("growth_mb", "memory growth", "MB", 2),
            Column("growth_blocks", "blocks of Python's allocator", "", 5_000),
            Column("threads_left", "threads left", "", 0),
            Column("tasks_left", "tasks left", "", 0),
            Column("descriptors_left", "descriptors and sockets left", "", 0),
            Column("permits_left", "permits left", "", 0),
            Column("probes_left", "probes left", "", 0),
            Column("reservations_left", "reservations of the budget left", "", 0),
            Column("shared_calls_left", "shared calls left", "", 0),
            Column("replaced_left", "replaced models left", "", 0),
            Column("children_failed", "forked children that failed", "", 0),
            Column("handlers_failed", "signal handlers that failed", "", 0),
            Column("models_not_healed", "models not recovered", "", 0),
            Column("stuck_calls", "calls still stuck", "", 0),
            Column("forks", "forks"),
            Column("signals", "signals"),
            Column("retries", "retries"),
            Column("seconds", "wall time", "s"),
        ),
        alone=True,
    ),
    Work(
        "scale",
        "Size",
        "The p50 of a call by number of registered models, and the processor time of a call by "
        "number of calls in flight. The target: the larger sizes cost at most a quarter more "
        "than the smallest.",
        (
            Column("models_1_p50_us", "1 model", "µs"),
            Column("models_100_p50_us", "100 models", "µs"),
            Column("models_10000_p50_us", "10,000 models", "µs"),
            Column("models_ratio", "ratio by models", "", 1.25),
            Column("in_flight_1_us", "1 in flight", "µs"),
            Column("in_flight_1000_us", "1,000 in flight", "µs"),
            Column("in_flight_10000_us", "10,000 in flight", "µs"),
            Column("in_flight_ratio", "ratio by calls in flight", "", 1.25),
        ),
        alone=True,
    ),
)
