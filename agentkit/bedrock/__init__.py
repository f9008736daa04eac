"""Amazon Bedrock: many models, many regions, one answer.

Every public name of this part of the package is importable from here. Names are loaded when they
are first used: importing this module loads no AWS SDK and opens no file or socket.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkit.bedrock.attempts import RequestAttempt, ValidationAttempt, ValidationResult
    from agentkit.bedrock.auth import AuthConfig, AuthenticationType
    from agentkit.bedrock.blocks import build_cache_point, build_json_schema_output_config
    from agentkit.bedrock.cache_points import (
        CacheConfig,
        CacheErrorHandling,
        CacheStrategy,
    )
    from agentkit.bedrock.catalog import BedrockModelCatalog, CatalogMetadata, CatalogSource
    from agentkit.bedrock.catalog_cache import CacheMode
    from agentkit.bedrock.catalog_models import (
        ModelAccessInfo,
        ModelAccessMethod,
        ModelRoute,
        UnifiedModelInfo,
    )
    from agentkit.bedrock.clients import Boto3Config, Clients
    from agentkit.bedrock.content import (
        CacheDetail,
        Citation,
        ReasoningContent,
        ResponseContentType,
        StopReasonCategory,
        StopReasonEnum,
        ToolUse,
    )
    from agentkit.bedrock.converse_request import (
        BedrockConverseRequest,
        FailureEntry,
    )
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
    from agentkit.bedrock.formats import (
        CachePointTTLEnum,
        DetectionMethodEnum,
        DocumentFormatEnum,
        GuardContentQualifierEnum,
        ImageFormatEnum,
        RolesEnum,
        ToolResultStatusEnum,
        VideoFormatEnum,
    )
    from agentkit.bedrock.manager import LLMManager
    from agentkit.bedrock.messages import (
        ConverseMessageBuilder,
        MessageBuilder,
        create_assistant_message,
        create_message,
        create_user_message,
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
    from agentkit.bedrock.regions import (
        AWSRegions,
        BedrockRegionDiscovery,
        GeographicArea,
        get_all_regions,
        get_commercial_regions,
        get_regions_by_area,
    )
    from agentkit.bedrock.response import BedrockResponse
    from agentkit.bedrock.streaming import (
        AsyncStreamingResponse,
        StreamChunk,
        StreamingResponse,
    )
    from agentkit.bedrock.unified import UnifiedModelManager
    from agentkit.bedrock.usage import BedrockUsage, CacheEfficiency
    from agentkit.errors import (
        AuthenticationError,
        ConfigurationError,
        LLMManagerError,
        RequestValidationError,
        RetryExhaustedError,
        UnknownModelError,
    )

_HOMES = {
    "agentkit.bedrock.attempts": ("RequestAttempt", "ValidationAttempt", "ValidationResult"),
    "agentkit.bedrock.auth": ("AuthConfig", "AuthenticationType"),
    "agentkit.bedrock.blocks": ("build_cache_point", "build_json_schema_output_config"),
    "agentkit.bedrock.cache_points": ("CacheConfig", "CacheErrorHandling", "CacheStrategy",),
    "agentkit.bedrock.converse_request": ("BedrockConverseRequest", "FailureEntry",),
    "agentkit.bedrock.manager": ("LLMManager",),
    "agentkit.bedrock.options": (
        "FailureHandlingStrategy", "LoadBalancingStrategy", "ModelSpecificConfig",
        "ParallelProcessingConfig", "ResponseValidationConfig", "RetryConfig", "RetryStrategy",
    ),
    "agentkit.bedrock.streaming": ("AsyncStreamingResponse", "StreamChunk", "StreamingResponse",),
    "agentkit.bedrock.catalog": ("BedrockModelCatalog", "CatalogMetadata", "CatalogSource"),
    "agentkit.bedrock.catalog_cache": ("CacheMode",),
    "agentkit.bedrock.catalog_models": (
        "ModelAccessInfo", "ModelAccessMethod", "ModelRoute", "UnifiedModelInfo",
    ),
    "agentkit.bedrock.clients": ("Boto3Config", "Clients"),
    "agentkit.bedrock.content": (
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
    "agentkit.bedrock.formats": (
        "CachePointTTLEnum", "DetectionMethodEnum", "DocumentFormatEnum",
        "GuardContentQualifierEnum", "ImageFormatEnum", "RolesEnum", "ToolResultStatusEnum",
        "VideoFormatEnum",
    ),
    "agentkit.bedrock.messages": (
        "ConverseMessageBuilder", "MessageBuilder", "create_assistant_message", "create_message",
        "create_user_message",
    ),
    "agentkit.bedrock.parallel": ("ParallelLLMManager",),
    "agentkit.bedrock.parallel_response": ("ParallelExecutionStats", "ParallelResponse"),
    "agentkit.bedrock.regions": (
        "AWSRegions", "BedrockRegionDiscovery", "GeographicArea", "get_all_regions",
        "get_commercial_regions", "get_regions_by_area",
    ),
    "agentkit.bedrock.response": ("BedrockResponse",),
    "agentkit.bedrock.unified": ("UnifiedModelManager",),
    "agentkit.bedrock.usage": ("BedrockUsage", "CacheEfficiency"),
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
