"""Errors of the model catalogue; all others are those of `agentkit.errors`."""

from __future__ import annotations

from typing import Any

from agentkit.errors import LLMError


class CatalogError(LLMError):
    """The catalogue of models cannot be used."""

    error_type = "configuration"


class CatalogUnavailableError(CatalogError):
    """No source of the catalogue answered, and the bundled data was not allowed."""


class APIFetchError(CatalogError):
    """No Region answered when the catalogue was asked from AWS. `failures` says why, by Region."""

    retryable = True

    def __init__(
        self, message: str = "", *, failures: dict[str, str] | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.failures = dict(failures or {})


class BundledDataError(CatalogError):
    """The catalogue that ships with the package is damaged; installing it again repairs it."""


class ParallelProcessingError(LLMError):
    """The root of what goes wrong with a parallel run as a whole."""


class RequestIdCollisionError(ParallelProcessingError):
    """Two requests have one id."""

    error_type = "configuration"


class ParallelExecutionError(ParallelProcessingError):
    """A failure stopped the run. `response` keeps what was done."""

    def __init__(self, message: str = "", *, response: Any = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.response = response
