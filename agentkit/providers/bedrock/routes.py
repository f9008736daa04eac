"""The ways in which a request reaches a model from a Region."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class ModelAccessMethod(StrEnum):
    """How a request reaches a model.

    Cross-region inference (CRIS) sends it through an inference profile, which may route it to
    another Region: of the same geography (regional), or anywhere in the world (global).
    """

    DIRECT = "direct"
    REGIONAL_CRIS = "regional_cris"
    GLOBAL_CRIS = "global_cris"


DEFAULT_PREFERENCE: Final = (ModelAccessMethod.REGIONAL_CRIS, ModelAccessMethod.DIRECT)
"""Regional profiles, then direct. Global ones leave the geography and must be asked for."""


class ModelRoute(NamedTuple):
    """One way to a model: the method, and the id to send."""

    method: ModelAccessMethod
    """How the model is reached."""
    model_id: str
    """The model's or the inference profile's id."""
