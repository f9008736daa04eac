"""One Bedrock request from its arguments to a response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentkit.bedrock import results
from agentkit.bedrock.check import ResponseCheck
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
from agentkit.engine.drivers.streams import AsyncStream, Stream
from agentkit.errors import LLMError, RequestValidationError
from agentkit.policy.validation import number
from agentkit.providers.bedrock.degradation import FEATURES
from agentkit.providers.bedrock.encoding import to_messages
from agentkit.providers.bedrock.exchange import CONVERSE, ConverseCall
from agentkit.types import Message, MessageRole, Request, Response

_PASSED_ON = ("output_config", "performance_config", "service_tier")


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """One checked request: what is sent, and how."""

    call: ConverseCall
    validation: ResponseValidationConfig | None = None
    timeout: float | None = None
    regions: Sequence[str] | None = None
    attempts: int | None = None

    @property
    def additional_fields(self) -> dict[str, Any] | None:
        """The model-specific fields, as the caller gave them."""
        return self.call.arguments.get("additionalModelRequestFields")

    def request(self, *, stream: bool = False) -> Request:
        """The engine's request; its messages are for observers and for the token estimate."""
        arguments = self.call.arguments
        system = [
            Message(MessageRole.SYSTEM, block["text"])
            for block in arguments.get("system", ())
            if "text" in block
        ]
        turns = [each for turn in arguments["messages"] for each in to_messages(turn)]
        messages = (*system, *turns)
        call = ConverseCall(arguments, len(messages), self.call.omittable)
        return Request(messages=messages, params={CONVERSE: call}, stream=stream)


def prepare(
    given: Mapping[str, Any],
    options: dict[str, Any],
    validation: ResponseValidationConfig | None,
    *,
    specific: Mapping[str, Any] | ModelSpecificConfig | None,
    cache_config: CacheConfig | None,
    fallback: bool,
) -> PreparedRequest:
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
    return PreparedRequest(
        ConverseCall(arguments, omittable=omittable),
        validation=validation,
        timeout=None if timeout is None else number("timeout", timeout, above=True),
        regions=regions,
        attempts=attempts,
    )


class Dispatcher:
    """Sends requests to a manager's targets.

    Args:
        targets: the models in their Regions.
        timeout: seconds for a request that does not say.
    """

    def __init__(self, targets: Targets, timeout: float) -> None:
        self._targets = targets
        self._timeout = timeout

    def run(self, prepared: PreparedRequest, *, raises: bool) -> BedrockResponse:
        """The response, sync."""
        check = self._check(prepared)
        try:
            response = self._targets.core.dispatcher.run(
                prepared.request(), check=check, **self._options(prepared)
            )
        except LLMError as error:
            return self._failed(check, error, raises)
        return self._answered(prepared, check, response)

    async def arun(self, prepared: PreparedRequest, *, raises: bool) -> BedrockResponse:
        """The response, for asyncio."""
        check = self._check(prepared)
        try:
            response = await self._targets.core.dispatcher.arun(
                prepared.request(), check=check, **self._options(prepared)
            )
        except LLMError as error:
            return self._failed(check, error, raises)
        return self._answered(prepared, check, response)

    def stream(self, prepared: PreparedRequest) -> Stream:
        """The engine's stream, sync."""
        return self._targets.core.dispatcher.stream(
            prepared.request(stream=True), on_interrupt="continue", **self._options(prepared)
        )

    def astream(self, prepared: PreparedRequest) -> AsyncStream:
        """The engine's stream, for asyncio."""
        return self._targets.core.dispatcher.astream(
            prepared.request(stream=True), on_interrupt="continue", **self._options(prepared)
        )

    def _options(self, prepared: PreparedRequest) -> dict[str, Any]:
        return {
            "model": self._targets.route(prepared.regions, prepared.attempts),
            "deadline": prepared.timeout or self._timeout,
        }

    def _check(self, prepared: PreparedRequest) -> ResponseCheck | None:
        if prepared.validation is None:
            return None
        check = ResponseCheck(
            prepared.validation, lambda response: self._answered(prepared, check, response)
        )
        return check

    def _answered(
        self, prepared: PreparedRequest, check: ResponseCheck | None, response: Response[Any]
    ) -> BedrockResponse:
        return results.success(
            response,
            self._targets,
            given_fields=prepared.additional_fields,
            checks=() if check is None else check.attempts,
        )

    def _failed(
        self, check: ResponseCheck | None, error: LLMError, raises: bool
    ) -> BedrockResponse:
        if error.ledger is None:
            raise error
        checks = () if check is None else check.attempts
        response = results.failure(error.ledger, self._targets, checks=checks)
        shown = response.final_error = results.final_error(error, response)
        if not raises:
            return response
        if shown is error:
            raise error
        raise shown from error
