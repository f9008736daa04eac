"""One Bedrock request from its arguments to a response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentkit.bedrock import results
from agentkit.bedrock.attempts import ValidationAttempt
from agentkit.bedrock.converse_request import converse_arguments
from agentkit.bedrock.messages.cache_points import (
    CacheConfig,
    CacheErrorHandling,
    with_cache_points,
)
from agentkit.bedrock.messages.validation import check_messages
from agentkit.bedrock.options import ModelSpecificConfig, ResponseValidationConfig
from agentkit.bedrock.response import BedrockResponse
from agentkit.bedrock.targets import Targets
from agentkit.engine.call import Call
from agentkit.engine.drivers.streams import AsyncStream, Stream
from agentkit.engine.effects import Flow, Sleep
from agentkit.engine.middleware import Proceed
from agentkit.engine.request import Around
from agentkit.errors import LLMError, RequestValidationError, StructuredOutputError
from agentkit.policy.validation import number
from agentkit.providers.bedrock.degradation import FEATURES
from agentkit.providers.bedrock.encoding import to_messages
from agentkit.providers.bedrock.exchange import CONVERSE, ConverseCall
from agentkit.types import Message, MessageRole, Request, Response

_PASSED_ON = ("output_config", "performance_config", "service_tier")


@dataclass(slots=True)
class Prepared:
    """One checked request: what is sent, and how."""

    arguments: dict[str, Any]
    omittable: frozenset[str]
    validation: ResponseValidationConfig | None = None
    timeout: float | None = None
    regions: Sequence[str] | None = None
    attempts: int | None = None
    checks: list[ValidationAttempt] = field(default_factory=list)

    def request(self) -> Request:
        """The engine's request; its messages are for observers and for the token estimate."""
        system = [
            Message(MessageRole.SYSTEM, block["text"])
            for block in self.arguments.get("system", ())
            if "text" in block
        ]
        turns = [each for turn in self.arguments["messages"] for each in to_messages(turn)]
        messages = (*system, *turns)
        call = ConverseCall(self.arguments, len(messages), self.omittable)
        return Request(messages=messages, params={CONVERSE: call})


def prepare(
    given: Mapping[str, Any],
    options: dict[str, Any],
    validation: ResponseValidationConfig | None,
    *,
    specific: Mapping[str, Any] | ModelSpecificConfig | None,
    cache_config: CacheConfig | None,
    fallback: bool,
) -> Prepared:
    """Check everything before anything is sent.

    Raises:
        RequestValidationError: an unknown option, or what the service would refuse.
    """
    given = {**given, **{name: options.pop(name, None) for name in _PASSED_ON}}
    own = options.pop("model_specific_config", None) or specific
    extended = options.pop("enable_extended_context", False)
    timeout = options.pop("timeout", None)
    regions, attempts = options.pop("regions", None), options.pop("attempts", None)
    if options:
        unknown = ", ".join(options)
        raise RequestValidationError(
            f"unknown arguments: {unknown}", validation_errors=[f"unknown: {unknown}"]
        )
    if isinstance(own, Mapping):
        own = ModelSpecificConfig(custom_fields=own)
    added = own.fields() if own is not None else {}
    if extended:
        added = {**ModelSpecificConfig(enable_extended_context=True).fields(), **added}
    if added:
        fields = {**added, **(given["additional_model_request_fields"] or {})}
        given["additional_model_request_fields"] = fields
    arguments = converse_arguments(**given)
    arguments["messages"] = given["messages"]
    check_messages(arguments["messages"], arguments.get("system"), arguments.get("toolConfig"))
    omittable = FEATURES if fallback else frozenset[str]()
    if cache_config is not None and cache_config.enabled:
        arguments = with_cache_points(arguments, cache_config)
        if cache_config.error_handling is CacheErrorHandling.FAIL_FAST:
            omittable -= {"caching"}
    return Prepared(
        arguments,
        omittable,
        validation=validation,
        timeout=None if timeout is None else number("timeout", timeout, above=True),
        regions=regions,
        attempts=attempts,
    )


class Dispatcher:
    """Sends requests to a manager's targets."""

    def __init__(self, targets: Targets, timeout: float) -> None:
        self._targets = targets
        self._timeout = timeout

    def run(self, prepared: Prepared, *, raises: bool) -> BedrockResponse:
        """The response, sync."""
        try:
            response = self._targets.core.dispatcher.run(
                prepared.request(), around=self._around(prepared), **self._options(prepared)
            )
        except LLMError as error:
            return self._failed(prepared, error, raises)
        return self._answered(prepared, response)

    async def arun(self, prepared: Prepared, *, raises: bool) -> BedrockResponse:
        """The response, for asyncio."""
        try:
            response = await self._targets.core.dispatcher.arun(
                prepared.request(), around=self._around(prepared), **self._options(prepared)
            )
        except LLMError as error:
            return self._failed(prepared, error, raises)
        return self._answered(prepared, response)

    def stream(self, prepared: Prepared) -> Stream:
        """The engine's stream, sync."""
        request = replace(prepared.request(), stream=True)
        return self._targets.core.dispatcher.stream(
            request, on_interrupt="continue", **self._options(prepared)
        )

    def astream(self, prepared: Prepared) -> AsyncStream:
        """The engine's stream, for asyncio."""
        request = replace(prepared.request(), stream=True)
        return self._targets.core.dispatcher.astream(
            request, on_interrupt="continue", **self._options(prepared)
        )

    def _options(self, prepared: Prepared) -> dict[str, Any]:
        return {
            "model": self._targets.route(prepared.regions, prepared.attempts),
            "deadline": prepared.timeout or self._timeout,
        }

    def _around(self, prepared: Prepared) -> Around:
        return lambda call, proceed: self._validated(call, proceed, prepared)

    def _validated(self, call: Call, proceed: Proceed, prepared: Prepared) -> Flow[Response[Any]]:
        """Ask until an answer passes the validation; each time is a new request."""
        validation = prepared.validation
        rejected = 0
        while True:
            response = yield from proceed(prepared.request())
            if validation is None:
                return response
            verdict = validation.check(self._answered(prepared, response))
            text = None if verdict.success else response.text
            prepared.checks.append(ValidationAttempt(len(prepared.checks) + 1, verdict, text))
            if verdict.success:
                return response
            reason = verdict.error_message or "it was not accepted"
            if rejected >= validation.retries:
                raise StructuredOutputError(
                    f"no answer passed the validation in {rejected + 1} requests: {reason}",
                    raw=response.text,
                    violations=[reason],
                    hint="look at .response.get_validation_errors()",
                )
            rejected += 1
            if validation.delay:
                yield from Sleep(min(validation.delay, max(call.time_left(), 0.0)))
            if validation.feedback:
                prepared.arguments = _with_feedback(prepared.arguments, response.text, reason)

    def _answered(self, prepared: Prepared, response: Response[Any]) -> BedrockResponse:
        return results.success(
            response,
            self._targets,
            given_fields=prepared.arguments.get("additionalModelRequestFields"),
            checks=prepared.checks,
        )

    def _failed(self, prepared: Prepared, error: LLMError, raises: bool) -> BedrockResponse:
        if error.ledger is None:
            raise error
        response = results.failure(error.ledger, self._targets, checks=prepared.checks)
        shown = response.final_error = results.final_error(error, response)
        if not raises:
            return response
        if shown is error:
            raise error
        raise shown from error


def _with_feedback(arguments: dict[str, Any], text: str, reason: str) -> dict[str, Any]:
    turns = [
        {"role": "assistant", "content": [{"text": text or "(empty)"}]},
        {"role": "user", "content": [{"text": f"That answer was not accepted: {reason}"}]},
    ]
    return {**arguments, "messages": [*arguments["messages"], *turns]}
