"""Clients without AWS: each Region answers what its script says, through botocore's own checks."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3  # noqa: F401 - imported here, so that the import is not part of a time that a test looks at
import botocore.session
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from agentkit.bedrock import LLMManager, RetryConfig, create_user_message

SERVICE = botocore.session.get_session().get_service_model("bedrock-runtime")
HAIKU, SONNET = "Claude 3 Haiku", "Claude 3.5 Sonnet"


def refused(code: str, message: str = "no", status: int = 400) -> ClientError:
    """An error as the SDK raises it."""
    return ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
        },
        "Converse",
    )


def throttled() -> ClientError:
    return refused("ThrottlingException", status=429)


def message(text: str = "hi") -> dict[str, Any]:
    built: dict[str, Any] = create_user_message().add_text(text).build()
    return built


def answer(text: str, **more: Any) -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
        "metrics": {"latencyMs": 7},
        **more,
    }


def echo(region: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A step that answers with the last message's text."""
    return answer(f"to {arguments['messages'][-1]['content'][0]['text']}")


def text_events(*texts: str, stop: str | None = "end_turn") -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [{"messageStart": {"role": "assistant"}}]
    events += [
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": text}}} for text in texts
    ]
    if stop is not None:
        events.append({"contentBlockStop": {"contentBlockIndex": 0}})
        events.append({"messageStop": {"stopReason": stop}})
        usage = {"inputTokens": 3, "outputTokens": len(texts), "totalTokens": 3 + len(texts)}
        events.append({"metadata": {"usage": usage, "metrics": {"latencyMs": 7}}})
    return events


class EventStream:
    """The service's events, closable."""

    def __init__(self, events: Iterable[Any]) -> None:
        self._events = deque(events)
        self.closed = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while self._events and not self.closed:
            event = self._events.popleft()
            if isinstance(event, Exception):
                raise event
            yield event

    async def __aiter__(self) -> AsyncIterator[Iterator[dict[str, Any]]]:
        """As over the native transport: the events that come together."""
        yield iter(self)

    def close(self) -> None:
        self.closed = True


class FakeClients:
    """In the place of `Clients`. A step is a string, a dict, an exception, a list of events, or a
    function of the arguments that gives one."""

    def __init__(self, *steps: Any, then: Any = None, **regions: Iterable[Any]) -> None:
        self.concurrency = 8
        self.steps = deque(steps)
        self.then = then
        self._regions = {name.replace("_", "-"): deque(own) for name, own in regions.items()}
        self._lock = threading.Lock()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.made: Counter[str] = Counter()
        self._runtimes: dict[str, Any] = {}
        self._executor: ThreadPoolExecutor | None = None
        self.streams: list[EventStream] = []

    @property
    def executor(self) -> ThreadPoolExecutor:
        self._executor = self._executor or ThreadPoolExecutor(self.concurrency)
        return self._executor

    def runtime(self, region: str) -> Any:
        with self._lock:
            if region not in self._runtimes:
                self.made[region] += 1
                self._runtimes[region] = _Runtime(self, region)
            return self._runtimes[region]

    def native(self, region: str) -> Any:
        return self.runtime(region)

    async def anative(self, region: str) -> Any:
        return self.runtime(region)

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False)

    @property
    def order(self) -> list[str]:
        """The Regions asked, in order."""
        return [region for region, _ in self.asked]

    def next(self, region: str, operation: str, arguments: dict[str, Any]) -> Any:
        report = ParamValidator().validate(
            arguments, SERVICE.operation_model(operation).input_shape
        )
        assert not report.has_errors(), report.generate_report()
        with self._lock:
            self.asked.append((region, arguments))
            own = self._regions.get(region)
            steps = own or self.steps
            step = steps.popleft() if steps else self.then
        if callable(step):
            step = step(region, arguments)
        if isinstance(step, Exception):
            raise step
        assert step is not None, "the script has no step left"
        return step


class _Runtime:
    def __init__(self, clients: FakeClients, region: str) -> None:
        self._clients = clients
        self._region = region

    def converse(self, **arguments: Any) -> dict[str, Any]:
        step = self._clients.next(self._region, "Converse", arguments)
        return answer(step) if isinstance(step, str) else step

    def converse_stream(self, **arguments: Any) -> dict[str, Any]:
        step = self._clients.next(self._region, "ConverseStream", arguments)
        if isinstance(step, str):
            step = text_events(*step.split("|"))
        stream = EventStream(step)
        self._clients.streams.append(stream)
        return {"stream": stream}

    async def aconverse(self, **arguments: Any) -> dict[str, Any]:
        return self.converse(**arguments)

    async def aconverse_stream(self, **arguments: Any) -> dict[str, Any]:
        return self.converse_stream(**arguments)


QUICK = {"base_delay": 0.001, "jitter": 0.0}


def manager(clients: FakeClients, **how: Any) -> LLMManager:
    """A manager over `clients` whose back-off takes no time to speak of."""
    retry = {**QUICK, **how.pop("retry", {})}
    return LLMManager(
        how.pop("models", [HAIKU]),
        how.pop("regions", ["us-east-1", "us-west-2"]),
        retry_config=RetryConfig(**retry),
        clients=clients,  # type: ignore[arg-type]
        **how,
    )
