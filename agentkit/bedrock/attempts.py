"""The attempts of one request, and the validations of its responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentkit.bedrock.serialization import pack, unpack_error
from agentkit.providers.bedrock.routes import ModelRoute
from agentkit.types.json_values import unpack
from agentkit.types.ledger import Entry


@dataclass(frozen=True, slots=True)
class RequestAttempt:
    """One request that was sent.

    Attributes:
        model_id: the id that was sent.
        model_used: the name the caller gave.
        region: where it was sent.
        access_method: ``direct``, ``regional_cris`` or ``global_cris``.
        attempt_number: from 1, over all targets.
        start_time, end_time: seconds since the request began.
        error: why it failed, or None.
        success: whether there was an answer.
    """

    model_id: str
    region: str
    access_method: str
    attempt_number: int
    start_time: float = 0.0
    end_time: float | None = None
    error: Exception | None = field(default=None, compare=False)
    success: bool = False
    model_used: str = ""

    @classmethod
    def from_entry(
        cls,
        entry: Entry,
        attempt_number: int,
        *,
        model: str,
        region: str,
        route: ModelRoute | None = None,
    ) -> RequestAttempt:
        """The attempt at `model` in `region` that a ledger's entry describes.

        `route` stands in where the entry does not say how the model was reached: the attempt was
        cancelled or ran out of time.
        """
        details = entry.details
        if details is None:
            method, model_id = (
                ("", model) if route is None else (route.method.value, route.model_id)
            )
            details = {"model_id": model_id, "access_method": method}
        return cls(
            model_id=details["model_id"],
            region=region,
            access_method=details["access_method"],
            attempt_number=attempt_number,
            start_time=entry.started,
            end_time=entry.started + entry.duration,
            error=details.get("error"),
            success=entry.outcome == "success",
            model_used=model,
        )

    @property
    def region_used(self) -> str:
        """The same as `region`."""
        return self.region

    @property
    def duration_ms(self) -> float | None:
        """Milliseconds from start to end; None while it runs."""
        return None if self.end_time is None else (self.end_time - self.start_time) * 1000

    def to_dict(self) -> dict[str, Any]:
        """Every field as a JSON value."""
        packed: dict[str, Any] = pack(self)
        return packed

    @classmethod
    def from_dict(cls, packed: Mapping[str, Any]) -> RequestAttempt:
        """The inverse of `to_dict`."""
        return cls(**{**packed, "error": unpack_error(packed["error"])})


@dataclass(slots=True)
class ValidationResult:
    """The result of a validation: whether the response is accepted, and why not."""

    success: bool
    error_message: str | None = None
    error_details: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Every field as a JSON value."""
        packed: dict[str, Any] = pack(self)
        return packed

    @classmethod
    def from_dict(cls, packed: Mapping[str, Any]) -> ValidationResult:
        """The inverse of `to_dict`."""
        details = unpack(packed.get("error_details"))
        return cls(bool(packed["success"]), packed.get("error_message"), details)


@dataclass(slots=True)
class ValidationAttempt:
    """One validation; `failed_content` is the text of a rejected response."""

    attempt_number: int
    validation_result: ValidationResult
    failed_content: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Every field as a JSON value."""
        packed: dict[str, Any] = pack(self)
        return packed

    @classmethod
    def from_dict(cls, packed: Mapping[str, Any]) -> ValidationAttempt:
        """The inverse of `to_dict`."""
        result = ValidationResult.from_dict(packed["validation_result"])
        return cls(packed["attempt_number"], result, packed["failed_content"])
