"""The settings of the Bedrock managers: retries, validation, models, parallel runs.

Some settings have two names. Contradictory values for one setting are refused.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from agentkit.bedrock.attempts import ValidationResult
from agentkit.errors import ConfigurationError
from agentkit.policy.retry import RetryPolicy
from agentkit.policy.validation import choice, number, optional_number, whole_number
from agentkit.providers.bedrock.routes import DEFAULT_PREFERENCE, ModelAccessMethod
from agentkit.providers.bedrock.validation import member, one_of

Validator = Callable[[Any], Any]
RegionOrder = Literal["fixed", "rotate", "shuffle", "health"]
_ORDERS = ("fixed", "rotate", "shuffle", "health")
_RETRIES_HINT = "it counts retries: 0 is a single attempt, and max_attempts=1 says the same"
_ATTEMPTS_HINT = "it counts attempts: 1 is a single attempt, as is max_retries=0"


class RetryStrategy(StrEnum):
    """Which target is next, or how waits grow; each field of `RetryConfig` takes its own half."""

    REGION_FIRST = "region_first"
    MODEL_FIRST = "model_first"
    EXPONENTIAL_BACKOFF = "exponential_backoff"
    LINEAR_BACKOFF = "linear_backoff"
    FIXED_DELAY = "fixed_delay"
    CUSTOM = "custom"


_TARGET_ORDERS = (RetryStrategy.REGION_FIRST, RetryStrategy.MODEL_FIRST)


class LinearRetry(RetryPolicy):
    """Waits that grow by `multiplier` seconds from retry to retry."""

    __slots__ = ()

    def backoff(self, retry: int, rng: Callable[[], float] = random.random) -> float:
        """Seconds to wait before the `retry`-th retry (from 1); `rng` gives uniform [0, 1)."""
        nominal = self.base_delay + self.multiplier * (retry - 1)
        return min(nominal * (1.0 + self.jitter * (2.0 * rng() - 1.0)), self.max_delay)


class RetryConfig:
    """Attempts, delays and the order of targets. Immutable.

    Args:
        max_attempts: attempts of one request, over all targets (default 4).
        max_retries: the same without the first attempt (default 3; 0 is a single attempt). In
            `LLMManager` the same name counts the first attempt, too.
        base_delay, retry_delay: nominal seconds before a target is tried again (default 1.0).
        max_delay, max_retry_delay: the longest delay in seconds (default 60.0).
        backoff_multiplier: growth of the delay (default 2.0): a factor, or the seconds that
            ``LINEAR_BACKOFF`` adds.
        jitter: fraction of the nominal delay (default 0.25); True means the default, False none.
        strategy: how delays grow (``EXPONENTIAL_BACKOFF``, ``LINEAR_BACKOFF``, ``FIXED_DELAY``),
            or an order of targets.
        retry_strategy: an order of targets: ``REGION_FIRST`` (all Regions of the first model,
            default) or ``MODEL_FIRST`` (all models in the first Region).
        enable_feature_fallback: whether a feature that a model refuses may be left out (default
            True); the response lists it in ``features_disabled``. Guardrails are never left out.
        retryable_exceptions, retryable_errors: names or classes of further errors to retry.
        non_retryable_exceptions: names or classes of errors not to retry.
        region_order: ``"fixed"`` (default), ``"rotate"``, ``"shuffle"`` or ``"health"``.
        access_method_preference: ways to a model, the preferred first (default: regional
            profiles, then direct access; global profiles only if named here).
        enable_circuit_breaker, circuit_breaker_threshold, circuit_breaker_timeout: one breaker
            for each target (default: on, 5 failures, 60.0 s).

    Raises:
        ConfigurationError: a value out of range, or two spellings that contradict each other.
    """

    def __init__(
        self,
        max_retries: int | None = None,
        retry_delay: float | None = None,
        backoff_multiplier: float = 2.0,
        max_retry_delay: float | None = None,
        retry_strategy: RetryStrategy | str | None = None,
        enable_feature_fallback: bool = True,
        retryable_errors: Iterable[Any] | None = None,
        *,
        max_attempts: int | None = None,
        base_delay: float | None = None,
        max_delay: float | None = None,
        strategy: RetryStrategy | str | None = None,
        jitter: float | bool = 0.25,
        retryable_exceptions: Iterable[Any] | None = None,
        non_retryable_exceptions: Iterable[Any] | None = None,
        region_order: RegionOrder = "fixed",
        access_method_preference: Sequence[ModelAccessMethod | str] | None = None,
        enable_circuit_breaker: bool = True,
        circuit_breaker_threshold: int = 5,
        circuit_breaker_timeout: float = 60.0,
    ) -> None:
        if max_retries is not None:
            whole_number("max_retries", max_retries, minimum=0, hint=_RETRIES_HINT)
        extra = None if max_retries is None else max_retries + 1
        self.max_attempts = whole_number(
            "max_attempts",
            one_of("max_attempts", max_attempts, "max_retries + 1", extra, 4),
            hint=_ATTEMPTS_HINT,
        )
        self.base_delay = number(
            "base_delay", one_of("base_delay", base_delay, "retry_delay", retry_delay, 1.0)
        )
        self.max_delay = number(
            "max_delay", one_of("max_delay", max_delay, "max_retry_delay", max_retry_delay, 60.0)
        )
        self.target_order, self.backoff = _strategies(strategy, retry_strategy)
        self.backoff_multiplier = number("backoff_multiplier", backoff_multiplier, minimum=1.0)
        if isinstance(jitter, bool):
            jitter = 0.25 if jitter else 0.0
        self.jitter = number("jitter", jitter, maximum=1.0)
        self.enable_feature_fallback = bool(enable_feature_fallback)
        self.retryable = _named(
            one_of(
                "retryable_exceptions",
                retryable_exceptions,
                "retryable_errors",
                retryable_errors,
                (),
            )
        )
        self.non_retryable = _named(non_retryable_exceptions or ())
        choice("region_order", region_order, _ORDERS)
        self.region_order = region_order
        self.preference = _preference(access_method_preference)
        self.enable_circuit_breaker = bool(enable_circuit_breaker)
        self.circuit_breaker_threshold = whole_number(
            "circuit_breaker_threshold", circuit_breaker_threshold
        )
        self.circuit_breaker_timeout = number(
            "circuit_breaker_timeout", circuit_breaker_timeout, above=True
        )

    @property
    def max_retries(self) -> int:
        """Attempts after the first."""
        return self.max_attempts - 1

    @property
    def retry_delay(self) -> float:
        """The same as `base_delay`."""
        return self.base_delay

    @property
    def max_retry_delay(self) -> float:
        """The same as `max_delay`."""
        return self.max_delay

    @property
    def retry_strategy(self) -> RetryStrategy:
        """The order of targets."""
        return self.target_order

    @property
    def strategy(self) -> RetryStrategy:
        """How delays grow."""
        return self.backoff

    def policy(self) -> RetryPolicy:
        """As the engine's policy for one target."""
        kind = LinearRetry if self.backoff is RetryStrategy.LINEAR_BACKOFF else RetryPolicy
        growth = 1.0 if self.backoff is RetryStrategy.FIXED_DELAY else self.backoff_multiplier
        return kind(self.max_attempts, self.base_delay, growth, self.max_delay, self.jitter)

    def retry_on(self) -> Callable[[BaseException], bool | None] | None:
        """The rows of the caller for the engine's error table, or None."""
        retryable, not_retryable = self.retryable, self.non_retryable
        if not retryable and not not_retryable:
            return None

        def decide(exc: BaseException) -> bool | None:
            from agentkit.providers.bedrock.errors import code_of

            names = {kind.__name__.lower().removesuffix("exception") for kind in type(exc).__mro__}
            names.add(code_of(exc))
            if names & not_retryable:
                return False
            return True if names & retryable else None

        return decide

    def __repr__(self) -> str:
        return (
            f"RetryConfig(max_attempts={self.max_attempts}, base_delay={self.base_delay}, "
            f"max_delay={self.max_delay}, retry_strategy={self.target_order.name})"
        )


class ResponseValidationConfig:
    """Validation of responses, and how often to ask again: each time with a new request.

    Args:
        response_validation_function, validation_function: called with the `BedrockResponse`; a
            false result, a failed `ValidationResult` or an exception rejects it. None accepts.
        response_validation_retries: requests after a rejected response (default 3).
        max_validation_attempts: the same, with the first request: ``retries + 1``.
        response_validation_delay, validation_retry_delay: seconds before asking again
            (default 0.0).
        feedback: whether the model receives the rejected answer and the reason (default False).
    """

    def __init__(
        self,
        response_validation_function: Validator | None = None,
        response_validation_retries: int | None = None,
        response_validation_delay: float | None = None,
        *,
        validation_function: Validator | None = None,
        max_validation_attempts: int | None = None,
        validation_retry_delay: float | None = None,
        feedback: bool = False,
    ) -> None:
        function = one_of(
            "response_validation_function",
            response_validation_function,
            "validation_function",
            validation_function,
            None,
        )
        if not callable(function):
            raise ConfigurationError(
                f"the validation function must be callable, got {function!r}",
                hint="give a function of the response that returns a bool or ValidationResult",
            )
        self.function: Validator = function
        if max_validation_attempts is not None:
            whole_number("max_validation_attempts", max_validation_attempts)
        extra = None if max_validation_attempts is None else max_validation_attempts - 1
        self.retries = whole_number(
            "response_validation_retries",
            one_of(
                "response_validation_retries",
                response_validation_retries,
                "max_validation_attempts - 1",
                extra,
                3,
            ),
            minimum=0,
        )
        self.delay = number(
            "response_validation_delay",
            one_of(
                "response_validation_delay",
                response_validation_delay,
                "validation_retry_delay",
                validation_retry_delay,
                0.0,
            ),
        )
        self.feedback = bool(feedback)

    def check(self, response: Any) -> ValidationResult:
        """The result of the validation function for `response`."""
        try:
            result = self.function(response)
        except Exception as error:  # noqa: BLE001 - a validator rejects by raising, too
            return ValidationResult(False, f"{type(error).__name__}: {error}")
        if isinstance(result, ValidationResult):
            return result
        if result is None or result:
            return ValidationResult(True)
        return ValidationResult(False, "the validation function returned a falsy result")


@dataclass(frozen=True, slots=True)
class ModelSpecificConfig:
    """Model-specific fields: `custom_fields` become ``additionalModelRequestFields``."""

    enable_extended_context: bool = False
    custom_fields: Mapping[str, Any] | None = None

    def fields(self) -> dict[str, Any]:
        """The model-specific fields that it adds."""
        beta = {"anthropic_beta": ["context-1m-2025-08-07"]} if self.enable_extended_context else {}
        return {**beta, **(self.custom_fields or {})}


class FailureHandlingStrategy(StrEnum):
    """The effect of a failed request on the others of a parallel run."""

    CONTINUE_ON_FAILURE = "continue_on_failure"
    STOP_ON_FIRST_FAILURE = "stop_on_first_failure"
    STOP_ON_THRESHOLD = "stop_on_threshold"


class LoadBalancingStrategy(StrEnum):
    """How the requests of a parallel run are assigned to Regions."""

    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    LEAST_LOADED = "least_loaded"


@dataclass(frozen=True, slots=True)
class ParallelProcessingConfig:
    """The settings of a parallel run.

    Args:
        max_concurrent_requests: the most requests at once (default 5).
        request_timeout_seconds: seconds for one request, all its attempts included (default 300).
        failure_handling_strategy: the effect of a failure on the other requests.
        load_balancing_strategy: how Regions are assigned.
        failure_threshold: fraction of failed requests at which STOP_ON_THRESHOLD stops
            (default 0.5).
        enable_request_prioritization: requests with a higher ``priority`` start first.
        enable_automatic_retry: False: one attempt for each request.
        max_retries_per_request: retries of a request, instead of the manager's own number.
        hedge_after_seconds: seconds after which a request is sent a second time, to another
            Region; the first answer counts, and both cost (default None: never).

    Raises:
        ConfigurationError: a value out of range, or an unknown strategy.
    """

    max_concurrent_requests: int = 5
    request_timeout_seconds: float = 300.0
    enable_request_prioritization: bool = True
    failure_handling_strategy: FailureHandlingStrategy = FailureHandlingStrategy.CONTINUE_ON_FAILURE
    load_balancing_strategy: LoadBalancingStrategy = LoadBalancingStrategy.ROUND_ROBIN
    failure_threshold: float = 0.5
    enable_automatic_retry: bool = True
    max_retries_per_request: int | None = None
    hedge_after_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, kind in (
            ("failure_handling_strategy", FailureHandlingStrategy),
            ("load_balancing_strategy", LoadBalancingStrategy),
        ):
            object.__setattr__(self, name, member(name, kind, getattr(self, name)))
        whole_number("max_concurrent_requests", self.max_concurrent_requests)
        number("request_timeout_seconds", self.request_timeout_seconds, above=True)
        number("failure_threshold", self.failure_threshold, maximum=1.0)
        if self.max_retries_per_request is not None:
            whole_number("max_retries_per_request", self.max_retries_per_request, minimum=0)
        optional_number("hedge_after_seconds", self.hedge_after_seconds, above=True)


def _strategies(strategy: Any, order: Any) -> tuple[RetryStrategy, RetryStrategy]:
    target, backoff = RetryStrategy.REGION_FIRST, RetryStrategy.EXPONENTIAL_BACKOFF
    for name, given in (("strategy", strategy), ("retry_strategy", order)):
        if given is None:
            continue
        found = member(name, RetryStrategy, given)
        if found in _TARGET_ORDERS:
            target = found
        elif found is RetryStrategy.CUSTOM:
            raise ConfigurationError(
                f"{name}=CUSTOM does not define the delays",
                hint="use EXPONENTIAL_BACKOFF, LINEAR_BACKOFF or FIXED_DELAY",
            )
        elif name == "strategy":
            backoff = found
        else:
            raise ConfigurationError(
                f"retry_strategy={found.name} is not an order of targets",
                hint="use REGION_FIRST or MODEL_FIRST; strategy= sets how delays grow",
            )
    return target, backoff


def _named(given: Iterable[Any]) -> frozenset[str]:
    names = (each if isinstance(each, str) else each.__name__ for each in given)
    return frozenset(name.lower().removesuffix("exception") for name in names)


def _preference(given: Sequence[Any] | None) -> tuple[ModelAccessMethod, ...]:
    if given is None:
        return DEFAULT_PREFERENCE
    if isinstance(given, str):
        given = [given]
    try:
        found = tuple(ModelAccessMethod(each) for each in given)
    except ValueError as error:
        raise ConfigurationError(
            f"access_method_preference: {error}",
            hint=f"use {', '.join(each.value for each in ModelAccessMethod)}",
        ) from None
    if not found:
        raise ConfigurationError("access_method_preference is empty")
    return found
