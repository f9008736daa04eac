"""Amazon Bedrock: many models, many regions, one answer.

Every public name of this part of the package is importable from here. Names are loaded when they
are first used: importing this module loads no AWS SDK and opens no file or socket.
"""

from __future__ import annotations

from agentkit._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "agentkit.bedrock.attempts": ["RequestAttempt", "ValidationAttempt", "ValidationResult"],
        "agentkit.bedrock.catalog.cache": ["CacheMode", "CatalogSource"],
        "agentkit.bedrock.catalog.catalog": ["BedrockModelCatalog", "CatalogMetadata"],
        "agentkit.bedrock.catalog.discovery": ["BedrockRegionDiscovery"],
        "agentkit.bedrock.catalog.models": ["ModelAccessInfo", "UnifiedModelInfo"],
        "agentkit.bedrock.converse_request": ["BedrockConverseRequest", "FailureEntry"],
        "agentkit.bedrock.deprecated": ["UnifiedModelManager"],
        "agentkit.bedrock.display": [
            "display_recovery_information",
            "display_streaming_response",
            "display_streaming_summary",
        ],
        "agentkit.bedrock.manager": ["LLMManager"],
        "agentkit.bedrock.messages.blocks": [
            "build_cache_point",
            "build_json_schema_output_config",
        ],
        "agentkit.bedrock.messages.builder": [
            "ConverseMessageBuilder",
            "MessageBuilder",
            "create_assistant_message",
            "create_message",
            "create_user_message",
        ],
        "agentkit.bedrock.messages.cache_points": [
            "CacheConfig",
            "CacheErrorHandling",
            "CacheStrategy",
        ],
        "agentkit.bedrock.messages.content": [
            "CacheDetail",
            "Citation",
            "ReasoningContent",
            "ResponseContentType",
            "StopReasonCategory",
            "StopReasonEnum",
            "ToolUse",
        ],
        "agentkit.bedrock.messages.formats": [
            "CachePointTTLEnum",
            "DetectionMethodEnum",
            "DocumentFormatEnum",
            "GuardContentQualifierEnum",
            "ImageFormatEnum",
            "RolesEnum",
            "ToolResultStatusEnum",
            "VideoFormatEnum",
        ],
        "agentkit.bedrock.options": [
            "FailureHandlingStrategy",
            "LoadBalancingStrategy",
            "ModelSpecificConfig",
            "ParallelProcessingConfig",
            "ResponseValidationConfig",
            "RetryConfig",
            "RetryStrategy",
        ],
        "agentkit.bedrock.parallel": ["ParallelLLMManager"],
        "agentkit.bedrock.parallel_response": ["ParallelExecutionStats", "ParallelResponse"],
        "agentkit.bedrock.response": ["BedrockResponse"],
        "agentkit.bedrock.stream": ["AsyncStreamingResponse", "StreamChunk", "StreamingResponse"],
        "agentkit.errors": [
            "APIFetchError",
            "AuthenticationError",
            "BundledDataError",
            "CatalogError",
            "CatalogUnavailableError",
            "ConfigurationError",
            "LLMManagerError",
            "ParallelExecutionError",
            "ParallelProcessingError",
            "RequestIdCollisionError",
            "RequestValidationError",
            "RetryExhaustedError",
            "UnknownModelError",
        ],
        "agentkit.providers.bedrock.auth": ["AuthConfig", "AuthenticationType"],
        "agentkit.providers.bedrock.clients": ["Boto3Config", "Clients"],
        "agentkit.providers.bedrock.regions": [
            "AWSRegions",
            "GeographicArea",
            "get_all_regions",
            "get_commercial_regions",
            "get_regions_by_area",
        ],
        "agentkit.providers.bedrock.routes": ["ModelAccessMethod", "ModelRoute"],
        "agentkit.providers.bedrock.usage": ["BedrockUsage", "CacheEfficiency"],
    },
)
