"""Amazon Bedrock: many models, many regions, one answer.

Every public name of this part of the package is importable from here. Names are loaded when they
are first used: importing this module loads no AWS SDK and opens no file or socket.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkit.bedrock.attempts import RequestAttempt, ValidationAttempt, ValidationResult
    from agentkit.bedrock.catalog.cache import CacheMode, CatalogSource
    from agentkit.bedrock.catalog.catalog import BedrockModelCatalog, CatalogMetadata
    from agentkit.bedrock.catalog.discovery import BedrockRegionDiscovery
    from agentkit.bedrock.catalog.models import ModelAccessInfo, UnifiedModelInfo
    from agentkit.bedrock.converse_request import (
        BedrockConverseRequest,
        FailureEntry,
    )
    from agentkit.bedrock.deprecated import UnifiedModelManager
    from agentkit.bedrock.display import (
        display_recovery_information,
        display_streaming_response,
        display_streaming_summary,
    )
    from agentkit.bedrock.exceptions import (
        APIFetchError,
        BundledDataError,
        CatalogError,
        CatalogUnavailableError,
        ParallelExecutionError,
        ParallelProcessingError,
        RequestIdCollisionError,
    )
    from agentkit.bedrock.manager import LLMManager
    from agentkit.bedrock.messages.blocks import build_cache_point, build_json_schema_output_config
    from agentkit.bedrock.messages.builder import (
        ConverseMessageBuilder,
        MessageBuilder,
        create_assistant_message,
        create_message,
        create_user_message,
    )
    from agentkit.bedrock.messages.cache_points import (
        CacheConfig,
        CacheErrorHandling,
        CacheStrategy,
    )
    from agentkit.bedrock.messages.content import (
        CacheDetail,
        Citation,
        ReasoningContent,
        ResponseContentType,
        StopReasonCategory,
        StopReasonEnum,
        ToolUse,
    )
    from agentkit.bedrock.messages.formats import (
        CachePointTTLEnum,
        DetectionMethodEnum,
        DocumentFormatEnum,
        GuardContentQualifierEnum,
        ImageFormatEnum,
        RolesEnum,
        ToolResultStatusEnum,
        VideoFormatEnum,
    )
    from agentkit.bedrock.options import (
        FailureHandlingStrategy,
        LoadBalancingStrategy,
        ModelSpecificConfig,
        ParallelProcessingConfig,
        ResponseValidationConfig,
        RetryConfig,
        RetryStrategy,
    )
    from agentkit.bedrock.parallel import ParallelLLMManager
    from agentkit.bedrock.parallel_response import ParallelExecutionStats, ParallelResponse
    from agentkit.bedrock.response import BedrockResponse
    from agentkit.bedrock.stream import (
        AsyncStreamingResponse,
        StreamChunk,
        StreamingResponse,
    )
    from agentkit.errors import (
        AuthenticationError,
        ConfigurationError,
        LLMManagerError,
        RequestValidationError,
        RetryExhaustedError,
        UnknownModelError,
    )
    from agentkit.providers.bedrock.auth import AuthConfig, AuthenticationType
    from agentkit.providers.bedrock.clients import Boto3Config, Clients
    from agentkit.providers.bedrock.regions import (
        AWSRegions,
        GeographicArea,
        get_all_regions,
        get_commercial_regions,
        get_regions_by_area,
    )
    from agentkit.providers.bedrock.routes import ModelAccessMethod, ModelRoute
    from agentkit.providers.bedrock.usage import BedrockUsage, CacheEfficiency

_HOMES = {
    "agentkit.bedrock.attempts": ("RequestAttempt", "ValidationAttempt", "ValidationResult"),
    "agentkit.providers.bedrock.auth": ("AuthConfig", "AuthenticationType"),
    "agentkit.bedrock.messages.blocks": ("build_cache_point", "build_json_schema_output_config"),
    "agentkit.bedrock.messages.cache_points": (
        "CacheConfig", "CacheErrorHandling", "CacheStrategy",
    ),
    "agentkit.bedrock.converse_request": ("BedrockConverseRequest", "FailureEntry",),
    "agentkit.bedrock.manager": ("LLMManager",),
    "agentkit.bedrock.options": (
        "FailureHandlingStrategy", "LoadBalancingStrategy", "ModelSpecificConfig",
        "ParallelProcessingConfig", "ResponseValidationConfig", "RetryConfig", "RetryStrategy",
    ),
    "agentkit.bedrock.stream": ("AsyncStreamingResponse", "StreamChunk", "StreamingResponse",),
    "agentkit.bedrock.catalog.catalog": ("BedrockModelCatalog", "CatalogMetadata"),
    "agentkit.bedrock.catalog.cache": ("CacheMode", "CatalogSource"),
    "agentkit.bedrock.catalog.models": ("ModelAccessInfo", "UnifiedModelInfo"),
    "agentkit.bedrock.catalog.discovery": ("BedrockRegionDiscovery",),
    "agentkit.providers.bedrock.routes": ("ModelAccessMethod", "ModelRoute"),
    "agentkit.providers.bedrock.clients": ("Boto3Config", "Clients"),
    "agentkit.bedrock.messages.content": (
        "CacheDetail", "Citation", "ReasoningContent", "ResponseContentType",
        "StopReasonCategory", "StopReasonEnum", "ToolUse",
    ),
    "agentkit.bedrock.display": (
        "display_recovery_information", "display_streaming_response", "display_streaming_summary",
    ),
    "agentkit.bedrock.exceptions": (
        "APIFetchError", "BundledDataError", "CatalogError", "CatalogUnavailableError",
        "ParallelExecutionError", "ParallelProcessingError", "RequestIdCollisionError",
    ),
    "agentkit.bedrock.messages.formats": (
        "CachePointTTLEnum", "DetectionMethodEnum", "DocumentFormatEnum",
        "GuardContentQualifierEnum", "ImageFormatEnum", "RolesEnum", "ToolResultStatusEnum",
        "VideoFormatEnum",
    ),
    "agentkit.bedrock.messages.builder": (
        "ConverseMessageBuilder", "MessageBuilder", "create_assistant_message", "create_message",
        "create_user_message",
    ),
    "agentkit.bedrock.parallel": ("ParallelLLMManager",),
    "agentkit.bedrock.parallel_response": ("ParallelExecutionStats", "ParallelResponse"),
    "agentkit.providers.bedrock.regions": (
        "AWSRegions", "GeographicArea", "get_all_regions", "get_commercial_regions",
        "get_regions_by_area",
    ),
    "agentkit.bedrock.response": ("BedrockResponse",),
    "agentkit.bedrock.deprecated": ("UnifiedModelManager",),
    "agentkit.providers.bedrock.usage": ("BedrockUsage", "CacheEfficiency"),
    "agentkit.errors": (
        "AuthenticationError", "ConfigurationError", "LLMManagerError", "RequestValidationError",
        "RetryExhaustedError", "UnknownModelError",
    ),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "APIFetchError", "AWSRegions", "AsyncStreamingResponse", "AuthConfig", "AuthenticationError",
    "AuthenticationType", "BedrockConverseRequest", "BedrockModelCatalog", "BedrockRegionDiscovery",
    "BedrockResponse", "BedrockUsage", "Boto3Config", "BundledDataError", "CacheConfig",
    "CacheDetail", "CacheEfficiency", "CacheErrorHandling", "CacheMode", "CachePointTTLEnum",
    "CacheStrategy", "CatalogError", "CatalogMetadata", "CatalogSource", "CatalogUnavailableError",
    "Citation", "Clients", "ConfigurationError", "ConverseMessageBuilder", "DetectionMethodEnum",
    "DocumentFormatEnum", "FailureEntry", "FailureHandlingStrategy", "GeographicArea",
    "GuardContentQualifierEnum", "ImageFormatEnum", "LLMManager", "LLMManagerError",
    "LoadBalancingStrategy", "MessageBuilder", "ModelAccessInfo", "ModelAccessMethod", "ModelRoute",
    "ModelSpecificConfig", "ParallelExecutionError", "ParallelExecutionStats", "ParallelLLMManager",
    "ParallelProcessingConfig", "ParallelProcessingError", "ParallelResponse", "ReasoningContent",
    "RequestAttempt", "RequestIdCollisionError", "RequestValidationError", "ResponseContentType",
    "ResponseValidationConfig", "RetryConfig", "RetryExhaustedError", "RetryStrategy", "RolesEnum",
    "StopReasonCategory", "StopReasonEnum", "StreamChunk", "StreamingResponse",
    "ToolResultStatusEnum", "ToolUse", "UnifiedModelInfo", "UnifiedModelManager",
    "UnknownModelError", "ValidationAttempt", "ValidationResult", "VideoFormatEnum",
    "build_cache_point", "build_json_schema_output_config", "create_assistant_message",
    "create_message", "create_user_message", "display_recovery_information",
    "display_streaming_response", "display_streaming_summary", "get_all_regions",
    "get_commercial_regions", "get_regions_by_area",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'agentkit.bedrock' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
