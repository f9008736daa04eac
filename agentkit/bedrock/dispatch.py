"""One Bedrock request from arguments to a response, along the engine's rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentkit.bedrock.attempts import RequestAttempt, ValidationAttempt
from agentkit.bedrock.converse_request import converse_arguments
from agentkit.bedrock.messages.cache_points import (
    CacheConfig,
    CacheErrorHandling,
    with_cache_points,
)
from agentkit.bedrock.messages.validation import check_messages
from agentkit.bedrock.options import ModelSpecificConfig, ResponseValidationConfig, RetryConfig
from agentkit.bedrock.response import BedrockResponse
from agentkit.bedrock.targets import Targets
from agentkit.engine.call import Call
from agentkit.engine.drivers.streams import AsyncStream, Stream
from agentkit.engine.drivers.sync import run
from agentkit.engine.effects import Flow, Sleep
from agentkit.engine.flow import answer, request_flow
from agentkit.errors import (
    AllModelsFailedError,
    AuthenticationError,
    CircuitOpenError,
    LLMError,
    RequestValidationError,
    RetryExhaustedError,
    StructuredOutputError,
)
from agentkit.policy.validation import number
from agentkit.providers.bedrock.converse import CONVERSE, JOURNAL, Journal, Sent
from agentkit.providers.bedrock.encoding import to_messages
from agentkit.providers.bedrock.routes import ModelAccessMethod
from agentkit.types import Message, MessageRole, Request, Response
from agentkit.types.ledger import Ledger

_PASSED_ON = ("output_config", "performance_config", "service_tier")


@dataclass(slots=True)
class Asked:
    """One request on its way: what is sent, and what its attempts did."""

    arguments: dict[str, Any]
    journal: Journal
    validation: ResponseValidationConfig | None = None
    timeout: float | None = None
    regions: Sequence[str] | None = None
    attempts: int | None = None
    checks: list[ValidationAttempt] = field(default_factory=list)

    def request(self) -> Request:
        """The engine's request; the messages are for those who watch."""
        system = [
            Message(MessageRole.SYSTEM, block["text"])
            for block in self.arguments.get("system", ())
            if "text" in block
        ]
        turns = [each for turn in self.arguments["messages"] for each in to_messages(turn)]
        params = {CONVERSE: self.arguments, JOURNAL: self.journal}
        messages = (*system, *turns)
        self.journal.turns = len(messages)
        return Request(messages=messages, params=params)


def prepared(
    given: Mapping[str, Any],
    options: dict[str, Any],
    validation: ResponseValidationConfig | None,
    *,
    specific: Mapping[str, Any] | ModelSpecificConfig | None,
    cache_config: CacheConfig | None,
    fallback: bool,
) -> Asked:
    """Checks everything before anything is sent.

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
        fields_ = {**added, **(given["additional_model_request_fields"] or {})}
        given["additional_model_request_fields"] = fields_
    arguments = converse_arguments(**given)
    arguments["messages"] = given["messages"]
    check_messages(arguments["messages"], arguments.get("system"), arguments.get("toolConfig"))
    kept: frozenset[str] = frozenset()
    if cache_config is not None and cache_config.enabled:
        arguments = with_cache_points(arguments, cache_config)
        if cache_config.error_handling is CacheErrorHandling.FAIL_FAST:
            kept = frozenset({"caching"})
    return Asked(
        arguments, Journal(fallback, kept), validation,
        None if timeout is None else number("timeout", timeout, above=True), regions, attempts,
    )  # fmt: skip


class Asking:
    """Asks along a manager's targets."""

    def __init__(self, targets: Targets, retry: RetryConfig, timeout: float) -> None:
        self._targets = targets
        self._retry = retry
        self._timeout = timeout

    def ask(self, asked: Asked, *, raises: bool) -> BedrockResponse:
        """The answer, blocking."""
        core = self._targets.core
        call = self._call(asked, blocking=True)
        flow = request_flow(call, core._middleware, lambda it: checked(it, asked))
        try:
            response = run(flow, core._runtime)
        except LLMError as error:
            return self._failed(asked, call.ledger, error, raises)
        return answered(asked, response)

    async def aask(self, asked: Asked, *, raises: bool) -> BedrockResponse:
        """The answer, for asyncio."""
        from agentkit.engine.drivers.asyncio import arun

        core = self._targets.core
        call = self._call(asked, blocking=False)
        flow = request_flow(call, core._middleware, lambda it: checked(it, asked))
        try:
            response = await arun(flow, core._runtime)
        except LLMError as error:
            return self._failed(asked, call.ledger, error, raises)
        return answered(asked, response)

    def stream(self, asked: Asked) -> Stream:
        """The engine's stream, blocking."""
        core = self._targets.core
        return Stream(self._told(asked, blocking=True), core._runtime, text=False)

    def astream(self, asked: Asked) -> AsyncStream:
        """The engine's stream, for asyncio."""
        core = self._targets.core
        return AsyncStream(self._told(asked, blocking=False), core._runtime, text=False)

    def _told(self, asked: Asked, *, blocking: bool) -> Flow[Response[Any]]:
        request = replace(asked.request(), stream=True)
        route = self._targets.route(asked.regions, asked.attempts)
        deadline = asked.timeout or self._timeout
        return self._targets.core._told(
            request, route, deadline, "continue", None, None, None, blocking=blocking
        )

    def _call(self, asked: Asked, *, blocking: bool) -> Call:
        return self._targets.core._call(
            asked.request(),
            self._targets.route(asked.regions, asked.attempts),
            asked.timeout or self._timeout,
            blocking=blocking,
        )

    def _failed(
        self, asked: Asked, ledger: Ledger, error: LLMError, raises: bool
    ) -> BedrockResponse:
        response = failed(asked, ledger)
        shown = response.final_error = exhausted(error, response)
        if not raises:
            return response
        if shown is error:
            raise error
        raise shown from error


def checked(call: Call, asked: Asked) -> Flow[Response[Any]]:
    """Ask until an answer passes the validation; each time is a new request."""
    validation = asked.validation
    rejected = 0
    while True:
        response = yield from answer(call)
        if validation is None:
            return response
        verdict = validation.check(answered(asked, response))
        text = None if verdict.success else response.text
        asked.checks.append(ValidationAttempt(len(asked.checks) + 1, verdict, text))
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
            yield from Sleep(min(validation.delay, max(call.left(), 0.0)))
        if validation.feedback:
            asked.arguments = _with_feedback(asked.arguments, response.text, reason)
        call.start_over(asked.request())


def _with_feedback(arguments: dict[str, Any], text: str, reason: str) -> dict[str, Any]:
    turns = [
        {"role": "assistant", "content": [{"text": text or "(empty)"}]},
        {"role": "user", "content": [{"text": f"That answer was not accepted: {reason}"}]},
    ]
    return {**arguments, "messages": [*arguments["messages"], *turns]}


def answered(asked: Asked, response: Response[Any]) -> BedrockResponse:
    """The engine's answer as a `BedrockResponse`."""
    sent = asked.journal.sent[-1]
    given = asked.arguments.get("additionalModelRequestFields")
    final = sent.arguments.get("additionalModelRequestFields")
    profile = sent.route.method is not ModelAccessMethod.DIRECT
    return BedrockResponse(
        success=True,
        response_data=sent.data,
        model_used=sent.model,
        region_used=sent.region,
        access_method_used=sent.route.method.value,
        inference_profile_id=sent.route.model_id if profile else None,
        attempts=attempts_of(asked.journal, response.ledger),
        total_duration_ms=_duration(response.ledger),
        warnings=[f"{each} were left out of the request" for each in sent.disabled],
        features_disabled=list(sent.disabled),
        validation_attempts=list(asked.checks),
        parameters_removed=sorted(set(given or {}) - set(final or {})),
        original_additional_fields=given,
        final_additional_fields=final,
        ledger=response.ledger,
    )


def failed(asked: Asked, ledger: Ledger) -> BedrockResponse:
    """The account of a request without an answer."""
    return BedrockResponse(
        success=False,
        attempts=attempts_of(asked.journal, ledger),
        total_duration_ms=_duration(ledger),
        validation_attempts=list(asked.checks),
        ledger=ledger,
    )


def attempts_of(journal: Journal, ledger: Ledger) -> list[RequestAttempt]:
    """Every request sent, in order, with what was really sent."""
    return [
        RequestAttempt.from_entry(
            entry,
            attempt_number=number_,
            model_id=sent.route.model_id,
            region=sent.region,
            access_method=sent.route.method.value,
            model_used=sent.model,
            error=sent.error,
        )
        for number_, (entry, sent) in enumerate(
            zip(ledger.sent, journal.sent, strict=False), start=1
        )
    ]


def exhausted(error: LLMError, response: BedrockResponse) -> LLMError:
    """What the caller sees: used-up attempts are one error, whatever ended the last of them."""
    causes = list(error.exceptions) if isinstance(error, AllModelsFailedError) else [error]
    refusals = [each for each in causes if isinstance(each, AuthenticationError)]
    if refusals and len(refusals) == len(causes):
        shown: LLMError = refusals[0]
    elif isinstance(error, AllModelsFailedError):
        shown = error
    elif error.retryable or isinstance(error, CircuitOpenError | StructuredOutputError):
        shown = RetryExhaustedError("the only target failed", [error], hint=error.hint)
    else:
        shown = error
    shown.ledger = response.ledger
    tried: list[Sent | RequestAttempt] = list(response.attempts)
    shown.__dict__.update(
        response=response,
        attempts_made=len(tried),
        last_errors=[each.error for each in response.attempts if each.error is not None],
        models_tried=list(dict.fromkeys(each.model_used for each in response.attempts)),
        regions_tried=list(dict.fromkeys(each.region for each in response.attempts)),
    )
    return shown


def _duration(ledger: Ledger) -> float:
    done = max((entry.started + entry.duration for entry in ledger), default=0.0)
    return 1000.0 * max(ledger.duration, done)
