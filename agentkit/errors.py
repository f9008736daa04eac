"""Every error agentkit raises.

The tree (names after ``=`` are aliases, the very same objects)::

    LLMError = LLMException = LLMManagerError
    ├─ ConfigurationError = LLMConfigurationError
    │  ├─ UnknownModelError
    │  └─ MissingDependencyError
    ├─ ProviderError = LLMProviderError
    │  ├─ RateLimitError = LLMRateLimitError
    │  ├─ OverloadedError
    │  ├─ ServerError
    │  ├─ NetworkError = LLMConnectionError
    │  ├─ ProviderTimeoutError = LLMTimeoutError
    │  ├─ AuthenticationError = LLMAuthenticationError
    │  ├─ InvalidRequestError
    │  │  ├─ RequestValidationError
    │  │  ├─ ContextLengthError
    │  │  └─ ModelNotFoundError
    │  ├─ ContentFilterError
    │  └─ InvalidResponseError
    │     └─ StreamInterruptedError
    ├─ CircuitOpenError = CircuitBreakerOpenError
    ├─ PoolExhaustedError = LLMPoolExhaustedError
    ├─ BudgetExceededError
    ├─ DeadlineExceededError
    ├─ AllModelsFailedError = RetryExhaustedError
    ├─ StructuredOutputError
    ├─ CatalogError
    │  ├─ CatalogUnavailableError
    │  ├─ APIFetchError
    │  └─ BundledDataError
    ├─ ParallelProcessingError
    │  ├─ RequestIdCollisionError
    │  └─ ParallelExecutionError
    └─ AgentError
       ├─ AgentStateError
       ├─ ToolError
       └─ StepLimitError

`MissingDependencyError` is also an `ImportError`, `ProviderTimeoutError` and
`DeadlineExceededError` are also `TimeoutError`, `AllModelsFailedError` is also an
`ExceptionGroup` with one cause a model. No message ever holds a key or a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from typing import Self

    from agentkit.types.ledger import Ledger


def _rebuild(cls: type[LLMError], args: tuple[Any, ...], state: dict[str, Any]) -> LLMError:
    error = cls.__new__(cls, *args)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


class LLMError(Exception):
    """The root: whatever a call raises is one of these.

    Attributes:
        error_type: the value of the telemetry attribute ``error.type`` for this class.
        hint: the one thing to try, or None.
        ledger: what was attempted, or None when nothing was.
        retryable: whether asking again later may help.
        retry_after: seconds the other side asked to wait, or None.
        details: what a provider says about the attempt, for its entry in the ledger, or None.
    """

    error_type: ClassVar[str] = "_OTHER"
    retryable: bool = False
    details: Mapping[str, Any] | None = None

    def __init__(
        self,
        message: str = "",
        *,
        hint: str | None = None,
        ledger: Ledger | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.ledger = ledger
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class ConfigurationError(LLMError, ValueError):
    """A setting, name or value that cannot work; found before anything is sent."""

    error_type = "configuration"


class UnknownModelError(ConfigurationError):
    """A model name that is not registered; the message suggests close names."""


class MissingDependencyError(ConfigurationError, ImportError):
    """An optional package is missing; the hint is the command that installs it."""


class ProviderError(LLMError):
    """The model or the way to it failed.

    Attributes:
        provider: the provider's name.
        model: the registered model name.
        status: the HTTP status, or None.
        request_id: the provider's id of the request, or None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        provider: str | None = None,
        model: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        hint: str | None = None,
        ledger: Ledger | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, ledger=ledger, retry_after=retry_after)
        self.provider = provider
        self.model = model
        self.status = status
        self.request_id = request_id


class RateLimitError(ProviderError):
    """The provider throttles (429). `retry_after` holds the seconds it asked for, if it did."""

    error_type = "429"
    retryable = True


class OverloadedError(ProviderError):
    """The provider is out of capacity (503 or 529 with its own overload mark)."""

    error_type = "529"
    retryable = True


class ServerError(ProviderError):
    """The provider failed (5xx), or asked to try again (409, 424, 425)."""

    error_type = "500"
    retryable = True


class NetworkError(ProviderError, ConnectionError):
    """No usable connection: refused, reset, unresolved."""

    error_type = "connection_error"
    retryable = True


class ProviderTimeoutError(ProviderError, TimeoutError):
    """No answer, no first token or no next event within the attempt's time limit."""

    error_type = "timeout"
    retryable = True


class AuthenticationError(ProviderError):
    """The key is missing, wrong, unpaid or not allowed (401, 402, 403)."""

    error_type = "401"


class InvalidRequestError(ProviderError):
    """The request itself is at fault (400, 413, 422 and other 4xx): another try cannot help."""

    error_type = "400"


class RequestValidationError(InvalidRequestError):
    """A request refused before sending. `validation_errors` lists each violation as text."""

    def __init__(
        self, message: str = "", *, validation_errors: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(message, **kwargs)
        self.validation_errors = list(validation_errors)


class ContextLengthError(InvalidRequestError):
    """The prompt does not fit into the model's context window."""

    error_type = "context_length_exceeded"


class ModelNotFoundError(InvalidRequestError):
    """The provider does not know the model (404)."""

    error_type = "404"


class ContentFilterError(ProviderError):
    """The provider refused by policy; routing around a refusal is off by default."""

    error_type = "content_filter"


class InvalidResponseError(ProviderError):
    """An answer that cannot be used: None, not text, malformed or truncated."""

    error_type = "invalid_response"
    retryable = True


class StreamInterruptedError(InvalidResponseError):
    """A stream broke after its first content. `partial` is the text that had arrived."""

    def __init__(self, message: str = "", *, partial: str = "", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.partial = partial


class CircuitOpenError(LLMError):
    """The model's circuit breaker is open: nothing was sent. `retry_after` says for how long."""

    error_type = "circuit_open"
    retryable = True


class PoolExhaustedError(LLMError):
    """No worker, slot or key came free in time: nothing was sent."""

    error_type = "rate_limited_local"
    retryable = True


class BudgetExceededError(LLMError):
    """The request does not fit into what is left of a token or money budget: nothing was sent."""

    error_type = "budget_exceeded"


class DeadlineExceededError(LLMError, TimeoutError):
    """The request's deadline passed, or the next wait would not fit into what is left of it."""

    error_type = "timeout"
    retryable = True


class AllModelsFailedError(LLMError, ExceptionGroup[Exception]):
    """Every model of the route failed or was skipped; `exceptions` holds one cause a model."""

    error_type = "all_models_failed"

    def __new__(cls, message: str, exceptions: Sequence[Exception], **_: Any) -> Self:
        """An `ExceptionGroup` is made before it is initialised."""
        return super().__new__(cls, message, exceptions)

    def __init__(
        self,
        message: str,
        exceptions: Sequence[Exception],
        *,
        hint: str | None = None,
        ledger: Ledger | None = None,
        retry_after: float | None = None,
    ) -> None:
        Exception.__init__(self, message, exceptions)
        self.hint = hint
        self.ledger = ledger
        self.retry_after = retry_after
        self.retryable = any(getattr(cause, "retryable", False) for cause in exceptions)

    def __str__(self) -> str:
        causes = "; ".join(_one_line(cause) for cause in self.exceptions)
        text = f"{self.message}: {causes}" if causes else self.message
        return f"{text}\n\nhint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Any, ...]:
        state = {key: value for key, value in self.__dict__.items() if key != "message"}
        return _rebuild, (type(self), (self.message, list(self.exceptions)), state)

    def derive(self, excs: Sequence[Exception], /) -> AllModelsFailedError:  # type: ignore[override]
        """The same failure over a part of its causes (`ExceptionGroup.split` and `except*`)."""
        return AllModelsFailedError(
            self.message, excs, hint=self.hint, ledger=self.ledger, retry_after=self.retry_after
        )


class StructuredOutputError(LLMError):
    """No answer matched the schema. `raw` is the last text; `violations` name each path."""

    error_type = "invalid_response"

    def __init__(
        self, message: str = "", *, raw: str = "", violations: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(message, **kwargs)
        self.raw = raw
        self.violations = list(violations)


class CatalogError(LLMError):
    """The catalogue of Bedrock's models cannot be used."""

    error_type = "configuration"


class CatalogUnavailableError(CatalogError):
    """No source of the catalogue answered, and the bundled data was not allowed."""


class APIFetchError(CatalogError):
    """No Region answered when AWS was asked for its models. `failures` says why, by Region."""

    retryable = True

    def __init__(
        self, message: str = "", *, failures: Mapping[str, str] | None = None, **fields: Any
    ) -> None:
        super().__init__(message, **fields)
        self.failures = dict(failures or {})


class BundledDataError(CatalogError):
    """The catalogue that ships with the package is damaged; reinstalling repairs it."""


class ParallelProcessingError(LLMError):
    """A parallel run of Bedrock requests failed."""


class RequestIdCollisionError(ParallelProcessingError):
    """Two requests have the same id."""

    error_type = "configuration"


class ParallelExecutionError(ParallelProcessingError):
    """A failure stopped the run. `response` holds what was finished."""

    def __init__(self, message: str = "", *, response: Any = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.response = response


class AgentError(LLMError):
    """An agent could not do what it was asked to."""


class AgentStateError(AgentError):
    """The agent's state does not allow this; the message names the state and what is allowed."""


class ToolError(AgentError):
    """A tool failed, is unknown, or was given arguments that do not fit."""


class StepLimitError(AgentError):
    """The agent used up its steps before it had an answer."""


def _one_line(error: BaseException) -> str:
    text = error.message if isinstance(error, LLMError) else str(error)
    model = getattr(error, "model", None)
    label = f"{model}: " if model else ""
    return f"{label}{type(error).__name__}" + (f" ({text.splitlines()[0]})" if text else "")


LLMException = LLMError
"""Another name for `LLMError`."""

LLMManagerError = LLMError
"""Another name for `LLMError`."""

LLMConfigurationError = ConfigurationError
"""Another name for `ConfigurationError`."""

LLMProviderError = ProviderError
"""Another name for `ProviderError`."""

LLMRateLimitError = RateLimitError
"""Another name for `RateLimitError`."""

LLMConnectionError = NetworkError
"""Another name for `NetworkError`."""

LLMTimeoutError = ProviderTimeoutError
"""Another name for `ProviderTimeoutError`."""

LLMAuthenticationError = AuthenticationError
"""Another name for `AuthenticationError`."""

CircuitBreakerOpenError = CircuitOpenError
"""Another name for `CircuitOpenError`."""

LLMPoolExhaustedError = PoolExhaustedError
"""Another name for `PoolExhaustedError`."""

RetryExhaustedError = AllModelsFailedError
"""Another name for `AllModelsFailedError`."""
