"""One attempt at a model: one request, in an encoding that the model accepts.

The service refuses some encodings of a good request: a plain model id where it wants that of an
inference profile, or a feature that this model lacks. Such a refusal comes before any work is done
and says nothing about the model's health, so the request is sent again in another encoding at once.
It remains one attempt: circuit breaker, retry policy and ledger see the last outcome only. Any
other error ends the attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentkit.providers.bedrock.degradation import Arguments, without
from agentkit.providers.bedrock.encoding import arguments_of
from agentkit.providers.bedrock.errors import (
    code_of,
    message_of,
    needs_profile,
    refused_feature,
)
from agentkit.providers.bedrock.parameters import fit_to_model
from agentkit.providers.bedrock.routes import ModelRoute
from agentkit.providers.state import OMITTED, StateMemory
from agentkit.providers.transport.instrumentation import without_sdk_spans
from agentkit.types import Request

CONVERSE: Final = "converse"
"""The parameter of a request that holds a `ConverseCall`."""


@dataclass(frozen=True, slots=True)
class ConverseCall:
    """A request in Converse's own arguments.

    Attributes:
        arguments: as the SDK takes them, without ``modelId``.
        turns: how many messages of the `Request` they stand for; one more is a partial answer to
            continue.
        omittable: features that may be left out when a model refuses them.
    """

    arguments: Arguments
    turns: int = 0
    omittable: frozenset[str] = frozenset()


class Exchange:
    """Sends one request, and again in another encoding where the service asks for one.

    Args:
        request: what is asked.
        routes: the ways to the model, the preferred first.
        states: what the model sent with earlier answers.
    """

    def __init__(self, request: Request, routes: Sequence[ModelRoute], states: StateMemory) -> None:
        self.route, *self._untried = routes
        self.omitted: list[str] = []
        self.trims_start = False
        """Whether white space at the beginning of the answer repeats that of a partial answer."""
        call: ConverseCall | None = request.params.get(CONVERSE)
        self._omittable = frozenset[str]() if call is None else call.omittable
        self._request = request
        self._states = states
        self._arguments: Arguments = {} if call is None else call.arguments
        if call is None:
            self._encode()
        if call is not None and call.turns and len(request.messages) > call.turns:
            self._continue(request.messages[-1].text)
        self._given = self._arguments.get("additionalModelRequestFields") or {}

    @property
    def details(self) -> dict[str, Any]:
        """What was sent, and by which route."""
        removed: tuple[str, ...] = ()
        if self.omitted:
            sent = self._arguments.get("additionalModelRequestFields") or {}
            removed = tuple(sorted(self._given.keys() - sent.keys()))
        return {
            "model_id": self.route.model_id,
            "access_method": self.route.method.value,
            "omitted": tuple(self.omitted),
            "parameters_removed": removed,
        }

    def send(self, operation: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """The answer to `operation`: ``converse`` or ``converse_stream`` of an SDK client."""
        while True:
            try:
                with without_sdk_spans():
                    return operation(modelId=self.route.model_id, **self._arguments)
            except Exception as refusal:
                if not self._adapt(refusal):
                    raise

    async def asend(self, operation: Callable[..., Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Like `send`, for asyncio: ``aconverse`` or ``aconverse_stream`` of a native client."""
        while True:
            try:
                return await operation(modelId=self.route.model_id, **self._arguments)
            except Exception as refusal:
                if not self._adapt(refusal):
                    raise

    def _adapt(self, refusal: Exception) -> bool:
        """Change the encoding, if that is what the service asks for."""
        return self._reroute(refusal) or self._omit(refusal) or self._forget(refusal)

    def _encode(self) -> None:
        signed = self._states.has_latest_thinking(self._request)
        request, self.omitted = fit_to_model(self._request, self.route.model_id, signed=signed)
        self._arguments = arguments_of(request, self._states)

    def _continue(self, partial: str) -> None:
        begun = {"role": "assistant", "content": [{"text": partial.rstrip()}]}
        self._arguments = {**self._arguments, "messages": [*self._arguments["messages"], begun]}
        self.trims_start = partial != partial.rstrip()

    def _reroute(self, refusal: Exception) -> bool:
        """Take the next route, if the service asks for an inference profile."""
        if not self._untried or not needs_profile(refusal):
            return False
        self.route = self._untried.pop(0)
        return True

    def _omit(self, refusal: Exception) -> bool:
        """Leave out the feature that was refused, if that is allowed and possible."""
        refused = refused_feature(refusal, self._arguments)
        if refused is None or refused.feature not in self._omittable:
            return False
        reduced = without(self._arguments, refused.feature, refused.fields)
        if reduced is None:
            return False
        self._arguments = reduced
        if refused.feature not in self.omitted:
            self.omitted.append(refused.feature)
        return True

    def _forget(self, refusal: Exception) -> bool:
        """Leave out what the model sent with earlier answers, if it is that which was refused."""
        message = message_of(refusal) if code_of(refusal) == "validation" else ""
        request = self._states.without_states(self._request, message)
        if request is None or CONVERSE in request.params:
            return False
        self._request = request
        self._encode()
        self.omitted.append(OMITTED)
        return True
