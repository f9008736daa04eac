# Written by `python -m tests.architecture.stubs`.

from agentkit.bedrock.attempts import (
    RequestAttempt,
    ValidationAttempt,
    ValidationResult,
)
from agentkit.bedrock.catalog.cache import (
    CacheMode,
    CatalogSource,
)
from agentkit.bedrock.catalog.catalog import (
    BedrockModelCatalog,
    CatalogMetadata,
)
from agentkit.bedrock.catalog.discovery import BedrockRegionDiscovery
from agentkit.bedrock.catalog.models import (
    ModelAccessInfo,
    UnifiedModelInfo,
)
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
from agentkit.bedrock.manager import LLMManager
from agentkit.bedrock.messages.blocks import (
    build_cache_point,
    build_json_schema_output_config,
)
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
from agentkit.bedrock.parallel_response import (
    ParallelExecutionStats,
    ParallelResponse,
)
from agentkit.bedrock.response import BedrockResponse
from agentkit.bedrock.stream import (
    AsyncStreamingResponse,
    StreamChunk,
    StreamingResponse,
)
from agentkit.errors import (
    APIFetchError,
    AuthenticationError,
    BundledDataError,
    CatalogError,
    CatalogUnavailableError,
    ConfigurationError,
    LLMManagerError,
    ParallelExecutionError,
    ParallelProcessingError,
    RequestIdCollisionError,
    RequestValidationError,
    RetryExhaustedError,
    UnknownModelError,
)
from agentkit.providers.bedrock.auth import (
    AuthConfig,
    AuthenticationType,
)
from agentkit.providers.bedrock.clients import (
    Boto3Config,
    Clients,
)
from agentkit.providers.bedrock.regions import (
    AWSRegions,
    GeographicArea,
    get_all_regions,
    get_commercial_regions,
    get_regions_by_area,
)
from agentkit.providers.bedrock.routes import (
    ModelAccessMethod,
    ModelRoute,
)
from agentkit.providers.bedrock.usage import (
    BedrockUsage,
    CacheEfficiency,
)

__all__ = [
    "APIFetchError",
    "AWSRegions",
    "AsyncStreamingResponse",
    "AuthConfig",
    "AuthenticationError",
    "AuthenticationType",
    "BedrockConverseRequest",
    "BedrockModelCatalog",
    "BedrockRegionDiscovery",
    "BedrockResponse",
    "BedrockUsage",
    "Boto3Config",
    "BundledDataError",
    "CacheConfig",
    "CacheDetail",
    "CacheEfficiency",
    "CacheErrorHandling",
    "CacheMode",
    "CachePointTTLEnum",
    "CacheStrategy",
    "CatalogError",
    "CatalogMetadata",
    "CatalogSource",
    "CatalogUnavailableError",
    "Citation",
    "Clients",
    "ConfigurationError",
    "ConverseMessageBuilder",
    "DetectionMethodEnum",
    "DocumentFormatEnum",
    "FailureEntry",
    "FailureHandlingStrategy",
    "GeographicArea",
    "GuardContentQualifierEnum",
    "ImageFormatEnum",
    "LLMManager",
    "LLMManagerError",
    "LoadBalancingStrategy",
    "MessageBuilder",
    "ModelAccessInfo",
    "ModelAccessMethod",
    "ModelRoute",
    "ModelSpecificConfig",
    "ParallelExecutionError",
    "ParallelExecutionStats",
    "ParallelLLMManager",
    "ParallelProcessingConfig",
    "ParallelProcessingError",
    "ParallelResponse",
    "ReasoningContent",
    "RequestAttempt",
    "RequestIdCollisionError",
    "RequestValidationError",
    "ResponseContentType",
    "ResponseValidationConfig",
    "RetryConfig",
    "RetryExhaustedError",
    "RetryStrategy",
    "RolesEnum",
    "StopReasonCategory",
    "StopReasonEnum",
    "StreamChunk",
    "StreamingResponse",
    "ToolResultStatusEnum",
    "ToolUse",
    "UnifiedModelInfo",
    "UnifiedModelManager",
    "UnknownModelError",
    "ValidationAttempt",
    "ValidationResult",
    "VideoFormatEnum",
    "build_cache_point",
    "build_json_schema_output_config",
    "create_assistant_message",
    "create_message",
    "create_user_message",
    "display_recovery_information",
    "display_streaming_response",
    "display_streaming_summary",
    "get_all_regions",
    "get_commercial_regions",
    "get_regions_by_area",
]
