"""The former catalogue, kept for code written against it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from agentkit.bedrock.catalog.catalog import BedrockModelCatalog
from agentkit.bedrock.catalog.models import ModelAccessInfo
from agentkit.providers.bedrock.routes import ModelAccessMethod, ModelRoute


class UnifiedModelManager(BedrockModelCatalog):
    """Deprecated: `BedrockModelCatalog` under its former name; the answers are the same."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn(
            "UnifiedModelManager is deprecated: use BedrockModelCatalog",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(*args, **kwargs)

    def refresh_unified_data(self) -> None:
        """See `BedrockModelCatalog.refresh_catalog`."""
        self.refresh_catalog()

    def ensure_data_available(self) -> None:
        """See `BedrockModelCatalog.ensure_catalog_available`."""
        self.ensure_catalog_available()

    def is_model_available_in_region(self, model_name: str, region: str) -> bool:
        """See `BedrockModelCatalog.is_model_available`."""
        return self.is_model_available(model_name, region)

    def get_recommended_access(self, model_name: str, region: str) -> ModelAccessInfo | None:
        """See `BedrockModelCatalog.get_model_access_info`; the first route is recommended."""
        return self.get_model_access_info(model_name, region)


class CatalogAdapter:
    """A catalogue from any object with ``get_model_access_info(model_name, region)``.

    Args:
        source: returns a `ModelAccessInfo`, or None where a model cannot be reached. Its
            ``refresh_unified_data()``, if it has one, is called to refresh.
    """

    def __init__(self, source: Any) -> None:
        self._source = source

    def get_model_access_info(self, model_name: str, region: str) -> ModelAccessInfo | None:
        """The object's answer."""
        found: ModelAccessInfo | None = self._source.get_model_access_info(model_name, region)
        return found

    def routes(
        self, model_name: str, region: str, preference: Sequence[ModelAccessMethod]
    ) -> tuple[ModelRoute, ...]:
        """The ways to a model, in the order of `preference`."""
        access = self.get_model_access_info(model_name, region)
        return access.routes(preference) if access else ()

    def resolve(self, model_name: str) -> None:
        """Nothing else is known about a model."""

    def refresh_catalog(self) -> None:
        """Refresh the object, if it can be refreshed."""
        refresh = getattr(self._source, "refresh_unified_data", None)
        if refresh is not None:
            refresh()
