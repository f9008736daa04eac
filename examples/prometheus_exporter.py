"""Metrics for Prometheus, from a run with every kind of failure. Requires the extra ``otel``.

Without arguments it plays one round. With ``--serve 9464`` it repeats rounds and serves the metrics
on that port of the loopback interface until it is stopped; port 0 chooses a free port.
"""

import argparse
import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import generate_latest, start_http_server

from agentkit import (
    BreakerPolicy,
    LLMError,
    LLMManager,
    RateLimitError,
    Response,
    RetryPolicy,
    Telemetry,
    Usage,
)

calls = itertools.count(1)
rounds = itertools.count(1)
stopped = threading.Event()


def flaky(prompt: str, kwargs: dict) -> Response:
    think(0.015)
    match next(calls) % 4:
        case 0:
            raise ConnectionError
        case 2:
            raise RateLimitError("slow down")
    return Response("fine", Usage(input_tokens=120, output_tokens=30))


def down(prompt: str, kwargs: dict) -> str:
    raise TimeoutError


def steady(prompt: str, kwargs: dict) -> Response:
    think(0.03)
    return Response("fine", Usage(input_tokens=800, output_tokens=200))


def spelled(prompt: str, kwargs: dict) -> Iterator[str]:
    think(0.01)
    yield from ("f", "i", "ne")


def think(seconds: float) -> None:
    stopped.wait(seconds)


def play(llm: LLMManager) -> None:
    """One round: a retry, a fallback, a breaker rejection, a cache hit, a stream and a queue."""
    number = next(rounds)
    for part in range(3):
        llm.complete(f"question {number}.{part}", model="flaky")
    llm.complete(f"question {number}.0", model="flaky")  # the response cache has this one
    for part in range(2):
        llm.complete(f"essay {number}.{part}", model=["down", "steady"])
    with contextlib.suppress(LLMError):
        llm.complete(f"poem {number}", model="down")
    with llm.stream(f"word {number}", model="spelled") as stream:
        "".join(stream)
    llm.batch([{"prompt": f"page {number}.{part}", "model": "steady"} for part in range(3)])


parser = argparse.ArgumentParser()
parser.add_argument("--serve", type=int, metavar="PORT")
port = parser.parse_args().serve  # the arguments may be those of a test runner

meters = MeterProvider([PrometheusMetricReader()])
with LLMManager(
    name="demo",
    cache="memory",
    retry=RetryPolicy(
        base_delay=0.005, budget=None
    ),  # a retry budget would soon stop these retries
    breaker=BreakerPolicy(failure_threshold=3, recovery_timeout=1.0, failure_rate=None),
    telemetry=Telemetry(meter_provider=meters),
) as llm:
    llm.register_model("flaky", flaky, {"provider": "openai", "cost_per_1k_tokens": 0.002})
    llm.register_model("down", down, {"provider": "mistral_ai"})
    llm.register_model(
        "steady", steady, {"provider": "anthropic", "cost_per_1k_tokens": 0.01}, max_concurrency=1
    )
    llm.register_model("spelled", spelled, {"provider": "openai"})

    server, thread = start_http_server(port or 0, "127.0.0.1")
    print(f"http://127.0.0.1:{server.server_port}/metrics", flush=True)
    play(llm)
    if port is None:
        lines = generate_latest().decode().splitlines()
        print(*[line for line in lines if line.startswith("agentkit_fallbacks_total")], sep="\n")
        print(*[line for line in lines if line.startswith("agentkit_retries_total")], sep="\n")
    else:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: stopped.set())
        while not stopped.wait(0.1):
            play(llm)
    server.shutdown()
    server.server_close()
    thread.join()

meters.shutdown()
