"""Responses and errors of the engine, as those of the Bedrock documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.bedrock.attempts import ValidationAttempt
from agentkit.bedrock.response import BedrockResponse
from agentkit.bedrock.targets import Targets, split_name
from agentkit.errors import (
    AllModelsFailedError,
    AuthenticationError,
    CircuitOpenError,
    LLMError,
    RetryExhaustedError,
    StreamInterruptedError,
    StructuredOutputError,
)
from agentkit.providers.bedrock.routes import ModelAccessMethod
from agentkit.types import Response
from agentkit.types.ledger import Ledger


def success(
    response: Response[Any],
    targets: Targets,
    *,
    given_fields: Mapping[str, Any] | None = None,
    checks: Sequence[ValidationAttempt] = (),
) -> BedrockResponse:
    """The engine's response as a `BedrockResponse`.

    Args:
        response: of the engine.
        targets: what was asked.
        given_fields: ``additionalModelRequestFields``, as the caller gave them.
        checks: of this and earlier answers.
    """
    details = response.details or {}
    removed = list(details.get("parameters_removed", ()))
    model, region = split_name(response.model)
    method = details.get("access_method")
    profile = method not in {None, ModelAccessMethod.DIRECT.value}
    final = None
    if given_fields:
        final = {name: value for name, value in given_fields.items() if name not in removed}
    return BedrockResponse(
        success=True,
        response_data=response.raw,
        model_used=model,
        region_used=region,
        access_method_used=method,
        inference_profile_id=details.get("model_id") if profile else None,
        attempts=targets.attempts(response.ledger),
        total_duration_ms=_duration_ms(response.ledger),
        warnings=[f"{each} were left out of the request" for each in response.omitted],
        features_disabled=list(response.omitted),
        validation_attempts=list(checks),
        parameters_removed=removed,
        original_additional_fields=None if given_fields is None else dict(given_fields),
        final_additional_fields=final or None,
        ledger=response.ledger,
    )


def failure(
    ledger: Ledger, targets: Targets, *, checks: Sequence[ValidationAttempt] = ()
) -> BedrockResponse:
    """The response of a request without an answer."""
    return BedrockResponse(
        success=False,
        attempts=targets.attempts(ledger),
        total_duration_ms=_duration_ms(ledger),
        validation_attempts=list(checks),
        ledger=ledger,
    )


def final_error(error: LLMError, response: BedrockResponse) -> LLMError:
    """The error to raise: a request that used up its attempts has one type, whatever failed last.

    A stream that broke after its first content keeps its own error, which has the text so far.

    Its attributes ``response``, ``attempts_made``, ``last_errors``, ``models_tried`` and
    ``regions_tried`` describe the attempts.
    """
    causes = list(error.exceptions) if isinstance(error, AllModelsFailedError) else [error]
    refusals = [each for each in causes if isinstance(each, AuthenticationError)]
    if refusals and len(refusals) == len(causes):
        shown: LLMError = refusals[0]
    elif isinstance(error, AllModelsFailedError | StreamInterruptedError):
        shown = error
    elif error.retryable or isinstance(error, CircuitOpenError | StructuredOutputError):
        shown = RetryExhaustedError("the only target failed", [error], hint=error.hint)
    else:
        shown = error
    shown.ledger = response.ledger
    shown.__dict__.update(
        response=response,
        attempts_made=len(response.attempts),
        last_errors=[each.error for each in response.attempts if each.error is not None],
        models_tried=list(dict.fromkeys(each.model_used for each in response.attempts)),
        regions_tried=list(dict.fromkeys(each.region for each in response.attempts)),
    )
    return shown


def _duration_ms(ledger: Ledger) -> float:
    done = max((entry.started + entry.duration for entry in ledger), default=0.0)
    return 1000.0 * max(ledger.duration, done)
