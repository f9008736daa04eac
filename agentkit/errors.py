"""The errors that agentkit raises.

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
       │  └─ InDoubtError
       ├─ StepLimitError
       └─ JournalError
          ├─ RunConflictError
          └─ RunChangedError

`MissingDependencyError` is also an `ImportError`, `NetworkError` a `ConnectionError`,
`ProviderTimeoutError` and `DeadlineExceededError` a `TimeoutError`, and `AllModelsFailedError` an
`ExceptionGroup` with one cause for each model. No message contains a key or a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from typing import Self

    from agentkit.types.ledger import Ledger
    from agentkit.types.usage import Usage


def _rebuild(cls: type[LLMError], args: tuple[Any, ...], state: dict[str, Any]) -> LLMError:
    error = cls.__new__(cls, *args)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


class LLMError(Exception):
    """The base class of every error that agentkit raises.

    Attributes:
        error_type: the value of the telemetry attribute ``error.type`` for this class.
        hint: the first thing to try, or None.
        ledger: every attempt and skip, or None if no request was started.
        retryable: whether a later retry may help.
        model: the registered name of the model that failed, or None.
        details: additional information from the provider about the attempt, or None.
        usage: the tokens of a response that was refused or could not be used, or None.
    """

    error_type: ClassVar[str] = "_OTHER"
    retryable: bool = False
    model: str | None = None
    details: Mapping[str, Any] | None = None
    usage: Usage | None = None
    _retry_after: float | None = None

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

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before a retry, or None. What is not such a number is taken for None."""
        return self._retry_after

    @retry_after.setter
    def retry_after(self, seconds: float | None) -> None:
        numeric = isinstance(seconds, int | float) and seconds >= 0
        self._retry_after = seconds if numeric else None

    @property
    def kind(self) -> str:
        """`error_type` for people: the name of the class if telemetry has no type for it."""
        return type(self).__name__ if self.error_type == LLMError.error_type else self.error_type

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class ConfigurationError(LLMError, ValueError):
    """An invalid setting, name or value. Raised before anything is sent."""

    error_type = "configuration"


class UnknownModelError(ConfigurationError):
    """A model name that is not registered. The message suggests similar names."""


class MissingDependencyError(ConfigurationError, ImportError):
    """An optional package is missing. The hint is the command that installs it."""


class ProviderError(LLMError):
    """A request to a model failed.

    Attributes:
        provider: the provider's name.
        model: the registered name of the model.
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
    """The provider rejects the request because of a rate limit (429).

    `retry_after` is the provider's Retry-After in seconds, or None.
    """

    error_type = "429"
    retryable = True


class OverloadedError(ProviderError):
    """The provider is out of capacity: 529, or 503 with a body that says so."""

    error_type = "529"
    retryable = True


class ServerError(ProviderError):
    """The provider failed (5xx), or asked for a retry (409, 424, 425)."""

    error_type = "500"
    retryable = True


class NetworkError(ProviderError, ConnectionError):
    """The connection failed: refused, reset, or the name could not be resolved."""

    error_type = "connection_error"
    retryable = True


class ProviderTimeoutError(ProviderError, TimeoutError):
    """No response, no first token or no next event within the time limit of the attempt."""

    error_type = "timeout"
    retryable = True


class AuthenticationError(ProviderError):
    """The key is missing, wrong, unpaid or not allowed (401, 402, 403, 429 without credit)."""

    error_type = "401"


class InvalidRequestError(ProviderError):
    """The request is invalid (400, 413, 422 and other 4xx), so that a retry cannot help."""

    error_type = "400"


class RequestValidationError(InvalidRequestError):
    """An invalid request, rejected before sending. `validation_errors` lists each violation."""

    def __init__(
        self, message: str = "", *, validation_errors: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(message, **kwargs)
        self.validation_errors = list(validation_errors)


class ContextLengthError(InvalidRequestError):
    """The prompt exceeds the context window of the model."""

    error_type = "context_length_exceeded"


class ModelNotFoundError(InvalidRequestError):
    """The provider does not know the model (404)."""

    error_type = "404"


class ContentFilterError(ProviderError):
    """The provider's content filter rejected the request. There is no fallback by default."""

    error_type = "content_filter"


class InvalidResponseError(ProviderError):
    """A response that cannot be used: None, not text, malformed or truncated.

    `at_token_limit` says whether ``max_tokens`` ended it before it had any text: the model is well,
    and another attempt would end in the same way.
    """

    error_type = "invalid_response"
    retryable = True
    at_token_limit: bool = False


class StreamInterruptedError(InvalidResponseError):
    """A stream broke after its first content. `partial` is the text up to then."""

    def __init__(self, message: str = "", *, partial: str = "", **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.partial = partial


class CircuitOpenError(LLMError):
    """The circuit breaker is open: nothing was sent. `retry_after` is the time until a probe."""

    error_type = "circuit_open"
    retryable = True


class PoolExhaustedError(LLMError):
    """No worker, slot or key became free in time: nothing was sent."""

    error_type = "rate_limited_local"
    retryable = True


class BudgetExceededError(LLMError):
    """The request exceeds what is left of a token or money budget: nothing was sent."""

    error_type = "budget_exceeded"


class DeadlineExceededError(LLMError, TimeoutError):
    """The deadline of the request has passed, or the next wait would exceed it."""

    error_type = "timeout"
    retryable = True


class AllModelsFailedError(LLMError, ExceptionGroup[Exception]):
    """Every model of the route failed or was skipped. `exceptions` has one cause for each model.

    `message` is the message passed to the constructor, followed by a line for each cause.
    """

    error_type = "all_models_failed"

    def __new__(cls, message: str, exceptions: Sequence[Exception], **_: Any) -> Self:
        """Create the group: an `ExceptionGroup` receives its exceptions here."""
        lines = [f"\n  {_one_line(cause)}" for cause in exceptions]
        return super().__new__(cls, f"{message}:{''.join(lines)}", exceptions)

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
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        state = {key: value for key, value in self.__dict__.items() if key != "message"}
        return _rebuild, (type(self), (self.args[0], list(self.exceptions)), state)

    def derive(self, excs: Sequence[Exception], /) -> AllModelsFailedError:  # type: ignore[override]
        """The same failure with some of its causes, for `ExceptionGroup.split` and ``except*``."""
        return AllModelsFailedError(
            self.args[0], excs, hint=self.hint, ledger=self.ledger, retry_after=self.retry_after
        )


class StructuredOutputError(LLMError):
    """No response matched the schema. `raw` is the last text, `violations` lists each violation."""

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
    """An agent could not complete its task."""


class AgentStateError(AgentError):
    """The agent's state does not allow this. The message names the state and what it allows."""


class ToolError(AgentError):
    """A tool failed, is unknown, or was called with invalid arguments."""


class InDoubtError(ToolError):
    """A tool cannot say whether its call took effect: an answer was lost, for example.

    Raise it in a tool of your own. An agent calls a tool whose effect is ``"none"`` or
    ``"idempotent"`` again; of any other the call is in doubt (see `agentkit.tool`).
    """


class StepLimitError(AgentError):
    """The agent reached the limit on its steps before it had an answer."""


class JournalError(AgentError):
    """The journal of a run cannot be read or written. What it recorded so far is intact."""


class RunConflictError(JournalError):
    """Another process works on the run, or has taken it over."""


class RunChangedError(JournalError):
    """The run was started with another task, other instructions or other tools."""


def _one_line(error: BaseException) -> str:
    text = error.message if isinstance(error, LLMError) else str(error)
    model = getattr(error, "model", None)
    label = f"{model}: " if model else ""
    first = "".join(text.splitlines()[:1]).removeprefix(f"{model} failed: ")
    return f"{label}{type(error).__name__}" + (f" ({first})" if first else "")


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
