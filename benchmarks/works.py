"""The works: what is measured, in which columns, and what agentkit has to reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One figure of a work."""

    key: str
    label: str
    unit: str = ""
    at_most: float | None = None  # what agentkit has to reach
    drawn: bool = False
    log: bool = False

    def shown(self, value: float) -> str:
        """The figure with as many digits as it deserves."""
        whole = abs(value) >= 100 or float(value).is_integer()
        text = f"{value:,.0f}" if whole else f"{value:.3g}"
        return f"{text} {self.unit}".rstrip()


@dataclass(frozen=True)
class Work:
    """One thing to measure; `method` stands on the page above its table."""

    name: str
    title: str
    method: str
    columns: tuple[Column, ...]
    alone: bool = False  # nobody else is measured
    served: bool = False  # needs the local server

    def met(self, figures: Mapping[str, float]) -> bool:
        """Whether agentkit's figures are within every limit."""
        limits = [(c.key, c.at_most) for c in self.columns if c.at_most is not None]
        return all(figures[key] <= limit for key, limit in limits)

    @property
    def reach(self) -> str:
        """The limits in one line."""
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
        "A callable that returns at once, with a fallback behind it: retries, breaker, deadline "
        "and telemetry on, response cache off, no OpenTelemetry SDK configured. " + _EACH,
        _p50s(30, 40),
    ),
    Work(
        "telemetry",
        "Cost of a call that OpenTelemetry records",
        "The same with the OpenTelemetry SDK: spans are batched and discarded, metrics "
        "aggregated. " + _EACH,
        _p50s(120, 120),
    ),
    Work(
        "throughput",
        "3,000 calls, 500 at a time",
        "The model answers after 50 ms, so 0.30 s is what nobody can beat. Best of three.",
        (Column("seconds", "wall time", "s", 0.45, drawn=True, log=True),),
    ),
    Work(
        "dead-primary",
        "A dead primary",
        "The primary fails with status 503 after 50 ms, from the first call on; the fallback "
        "answers after 50 ms. 200 calls, 20 at a time, default policies.",
        (
            Column("attempts", "attempts at the dead one", "", 25, drawn=True),
            Column("p50_ms", "p50", "ms", 60, drawn=True, log=True),
            Column("p99_ms", "p99", "ms", 250, drawn=True, log=True),
            Column("seconds", "wall time", "s"),
        ),
    ),
    Work(
        "silent-primary",
        "A silent primary",
        "The primary says nothing for 30 s; an attempt may take 1 s; the fallback answers after "
        "50 ms. One call.",
        (
            Column("seconds", "answered after", "s", 1.2, drawn=True),
            Column("attempts", "attempts at the silent one", "", 1, drawn=True),
        ),
    ),
    Work(
        "sdk",
        "Over the openai SDK",
        "Chat completions of one local server over real sockets, each library next to the openai "
        "SDK of its own environment, turn by turn in one process: what a call adds to the SDK's "
        "p50, and the time of 320 calls 16 at a time and of streams of 61 chunks 4 at a time as a "
        "multiple of the SDK's own.",
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
        "Nothing is cached yet, the response cache is on where there is one, the model takes "
        "50 ms. Counted is what reaches the model.",
        (
            Column("upstream_calls", "upstream calls", "", 1, drawn=True, log=True),
            Column("upstream_calls_streaming", "streaming", "", 1, drawn=True, log=True),
        ),
    ),
    Work(
        "memory-hit",
        "A hit of the response cache in memory",
        "100 prompts asked again and again. " + _EACH,
        _p50s(25, 25),
    ),
    Work(
        "disk-hit",
        "A hit of the response cache on disk",
        "agentkit: each prompt is asked once of a new manager, whose memory holds no answer yet. "
        + _EACH,
        _p50s(80, 80),
    ),
    Work(
        "weight",
        "Weight",
        "Median of eight imports, each in a fresh interpreter and after `import pydantic` in "
        "another, bytecode compiled; distributions that a plain installation consists of, "
        "extras left out.",
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
        "Microseconds to admit a call and give it back: with room, with all four limits a minute, "
        "and over three keys that have them; and 100 threads and 400 tasks that ask one window of "
        "100 requests a minute at once, on a hurried clock.",
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
        "Over real sockets against one local server: what `converse` adds to bare boto3's p50, "
        "turn by turn in one process; a manager made offline; 200 streams of 43 events, 50 ms "
        "apart, on one event loop, and how late that loop is; the clients that 100 requests over "
        "two Regions make; and 500 parallel requests, ten at a time, while one Region dies.",
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
        "Eight threads and 32 tasks ask four models of all kinds of callables that raise, answer "
        "nothing, hang, and break in the middle of a stream; some callers cancel or leave a "
        "stream early. Resident memory is compared with that after 40,000 calls before; then "
        "everything else is counted that is not gone.",
        (
            Column("growth_mb", "memory growth", "MB", 2),
            Column("threads_left", "threads left", "", 0),
            Column("tasks_left", "tasks left", "", 0),
            Column("descriptors_left", "descriptors and sockets left", "", 0),
            Column("permits_left", "permits left", "", 0),
            Column("models_not_healed", "models not healed", "", 0),
            Column("stuck_calls", "calls still stuck", "", 0),
            Column("retries", "retries"),
            Column("seconds", "wall time", "s"),
        ),
        alone=True,
    ),
    Work(
        "scale",
        "Size",
        "A call with more models registered, p50; and the processor time of a call through the "
        "manager while others wait inside it for their model. Flat: the larger sizes cost at "
        "most a quarter more than the smallest.",
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
