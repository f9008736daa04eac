"""Connections that are opened ahead of the first call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from agentkit.errors import LLMError
from agentkit.policy.target import Endpoint, EndpointSource, Target
from agentkit.policy.validation import whole_number

_MOST_AT_ONCE = 16


class _Way(NamedTuple):
    """One way to a model: its only one, or that of one key."""

    model: str
    usual: Endpoint
    source: EndpointSource | None

    @contextmanager
    def endpoint(self, now: float) -> Iterator[Endpoint]:
        """Its endpoint, in use."""
        if self.source is None:
            yield self.usual
            return
        endpoint = self.source.take(now)
        try:
            yield endpoint
        finally:
            self.source.give_back(endpoint, now)


def open_connections(
    targets: Sequence[Target], count: int, now: Callable[[], float]
) -> dict[str, LLMError]:
    """Open connections to `targets`, until `count` are idle for each key of each.

    Returns what failed, by the name of the model: the last failure of each.

    Raises:
        ConfigurationError: `count` is not a number from 1 on.
    """
    whole_number("connections", count)

    def open_one(way: _Way) -> LLMError | None:
        with way.endpoint(now()) as endpoint:
            try:
                if endpoint.prepare is not None:
                    endpoint.prepare()
                if endpoint.warm_up is not None:
                    endpoint.warm_up(count)
            except Exception as error:  # noqa: BLE001 - the next call shows whether it matters
                return endpoint.translate(error)
        return None

    ways = _ways(targets)
    if not ways:
        return {}
    with ThreadPoolExecutor(min(len(ways), _MOST_AT_ONCE), "agentkit-warm-up") as threads:
        return _failures(ways, list(threads.map(open_one, ways)))


async def aopen_connections(
    targets: Sequence[Target], count: int, now: Callable[[], float]
) -> dict[str, LLMError]:
    """Like `open_connections`, for the running event loop."""
    whole_number("connections", count)

    async def open_one(way: _Way) -> LLMError | None:
        with way.endpoint(now()) as endpoint:
            try:
                if endpoint.prepare is not None:
                    await asyncio.to_thread(endpoint.prepare)
                if endpoint.awarm_up is not None:
                    await endpoint.awarm_up(count)
            except Exception as error:  # noqa: BLE001 - the next call shows whether it matters
                return endpoint.translate(error)
        return None

    ways = _ways(targets)
    return _failures(ways, await asyncio.gather(*map(open_one, ways)))


def _ways(targets: Sequence[Target]) -> list[_Way]:
    return [
        _Way(target.name, target.endpoint, source)
        for target in targets
        for source in (target.clients.values() or [None])
    ]


def _failures(ways: list[_Way], outcomes: list[LLMError | None]) -> dict[str, LLMError]:
    pairs = zip(ways, outcomes, strict=True)
    return {way.model: error for way, error in pairs if error is not None}
