"""The responses that the processes of a fleet share, and their shared calls."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha512
from typing import Any, Final

from agentkit import errors
from agentkit.cache.response import ResponseCache
from agentkit.errors import LLMError, ProviderError
from agentkit.state import questions
from agentkit.state.questions import SharedKeys, SharedOutcome
from agentkit.types import Response
from agentkit.types.fleet import Fleet, Question

LARGEST: Final = 2**20
"""The most bytes of an answer that the store keeps."""

_claims = itertools.count(1)


class SharedResponseCache:
    """Responses by key in the store of a fleet, and the shared calls that produce them.

    Args:
        fleet: the processes that share the responses.
        cache: keeps in memory what was read from the store.
        secret: signs each response, so that nothing can forge one without it (default: unsigned).
    """

    def __init__(self, fleet: Fleet, cache: ResponseCache, *, secret: str = "") -> None:
        self.fleet = fleet
        self.cache = cache
        self.secret = sha512(secret.encode()).digest() if secret else b""

    def claim(self, key: str) -> SharedClaim:
        """A claim on the upstream call with this key."""
        return SharedClaim(self, key)

    def export(self, address: str, response: Response[Any]) -> bytes | None:
        """`response` as bytes, unless it is too large to be shared."""
        data = self.cache.export(address, response, self.secret)
        return None if data is None or len(data) > LARGEST else data

    def adopt(self, key: str, address: str, data: bytes) -> Response[Any] | None:
        """The response that another process exported, if it can be used."""
        return self.cache.adopt(key, address, data, self.secret)


class SharedClaim:
    """A claim on one upstream call; see `agentkit.types.fleet.Claim`."""

    def __init__(self, responses: SharedResponseCache, key: str) -> None:
        fleet = self._fleet = responses.fleet
        self._responses, self._key = responses, key
        self._keys = SharedKeys.of(responses.cache.group, key)
        self._holder = f"{fleet.process}:{next(_claims)}"
        self.question = questions.shared_claim(self._keys, self._holder, fleet.process)
        self.news = _News()
        self._renewal: Question | None = None
        self._replaces = False
        """Whether the answer in the store cannot be used."""
        fleet.subscribe(self._keys.call, self.news.receive)

    def step(self, reply: Any) -> Response[Any] | Exception | float | None:
        """The step after `reply` to the question."""
        if isinstance(reply, bytes):
            response = self._responses.adopt(self._key, self._keys.answer, reply)
            self._replaces = response is None
            return response
        if reply == questions.LEAD:
            self._renewal = questions.shared_renew(self._keys, self._holder)
            self._fleet.lead(self._renewal, questions.shared_leave(self._keys, self._holder))
        return reply / 1000 if isinstance(reply, int) and reply > 0 else None

    def step_after_news(self) -> Response[Any] | Exception | float | None:
        """The step after a message. Without a usable outcome in it, ask again immediately."""
        kind, _, data = self.news.take().partition(b"\n")
        if kind == b"answer" and data:
            return self._responses.adopt(self._key, self._keys.answer, data) or 0.0
        if kind == b"error":
            return _error_of(data) or 0.0
        return 0.0

    def close(self, outcome: Response[Any] | Exception | None) -> None:
        """End the claim."""
        self._fleet.unsubscribe(self._keys.call, self.news.receive)
        renewal, self._renewal = self._renewal, None
        if renewal is not None:
            self._fleet.stop_leading(renewal)
        elif not self._replaces:
            return
        kind, data = self._message_of(outcome)
        ttl = self._responses.cache.ttl
        self._fleet.post(questions.shared_complete(self._keys, self._holder, kind, data, ttl=ttl))

    def _message_of(self, outcome: Response[Any] | Exception | None) -> tuple[SharedOutcome, bytes]:
        if isinstance(outcome, Response):
            data = self._responses.export(self._keys.answer, outcome)
            return ("left", b"") if data is None else ("answer", data)
        if isinstance(outcome, ProviderError):
            return "error", _bytes_of(outcome)
        return "left", b""


class _News:
    """A `Signal` that fires when a message has arrived.

    It needs no lock, which each call would have to make: a message is there before those that wait
    are woken, and whoever begins to wait looks for one afterwards.
    """

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._wakes: deque[Callable[[], None]] = deque()

    def receive(self, message: bytes) -> None:
        self._messages.append(message)
        while self._wakes:
            try:
                wake = self._wakes.popleft()
            except IndexError:  # it was forgotten meanwhile
                return
            wake()

    def take(self) -> bytes:
        """The oldest message that was not taken; empty if there is none."""
        return self._messages.popleft() if self._messages else b""

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` when a message arrives, or now if one has arrived."""
        self._wakes.append(wake)
        if self._messages:
            wake()

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """Forget `wake`."""
        with suppress(ValueError, IndexError):  # it was called, or is being called
            self._wakes.remove(wake)


def _bytes_of(error: ProviderError) -> bytes:
    """The type of an error and its numbers, without its text, which may quote the request."""
    fields = [type(error).__name__, error.provider, error.status, error.retry_after]
    return json.dumps(fields).encode()


def _error_of(data: bytes) -> LLMError | None:
    """The error that another process got, or None if it cannot be read."""
    try:
        name, provider, status, retry_after = json.loads(data)
        kind = getattr(errors, name)
        if not issubclass(kind, ProviderError):
            return None
        error: LLMError = kind(
            f"an identical call in another process failed with {name}",
            provider=provider,
            status=status,
            retry_after=retry_after,
        )
    except (ValueError, TypeError, AttributeError):
        return None
    return error
