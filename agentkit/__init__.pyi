# Written by `python -m tests.architecture.stubs`.

from agentkit._version import __version__
from agentkit.agent.agent import Agent
from agentkit.agent.calls import (
    PendingCall,
    ToolResult,
)
from agentkit.agent.events import (
    PartialAnswer,
    RunFinished,
    StepFinished,
    ToolCallFinished,
    ToolCallStarted,
)
from agentkit.agent.mcp import mcp_tools
from agentkit.agent.memory import Memory
from agentkit.agent.result import AgentResult
from agentkit.agent.runs.journal import Journal
from agentkit.agent.runs.store import (
    RecordedStep,
    RunInfo,
    RunStore,
)
from agentkit.agent.stream import (
    AsyncRunStream,
    RunStream,
)
from agentkit.engine.drivers.streams import (
    AsyncStream,
    Stream,
)
from agentkit.engine.middleware import Middleware
from agentkit.errors import (
    AgentError,
    AgentStateError,
    AllModelsFailedError,
    AuthenticationError,
    BudgetExceededError,
    CircuitBreakerOpenError,
    CircuitOpenError,
    ConfigurationError,
    ContentFilterError,
    ContextLengthError,
    DeadlineExceededError,
    InDoubtError,
    InvalidRequestError,
    InvalidResponseError,
    JournalError,
    LLMAuthenticationError,
    LLMConfigurationError,
    LLMConnectionError,
    LLMError,
    LLMException,
    LLMManagerError,
    LLMPoolExhaustedError,
    LLMProviderError,
    LLMRateLimitError,
    LLMTimeoutError,
    MissingDependencyError,
    ModelNotFoundError,
    NetworkError,
    OverloadedError,
    PoolExhaustedError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    RequestValidationError,
    RetryExhaustedError,
    RunChangedError,
    RunConflictError,
    ServerError,
    StepLimitError,
    StreamInterruptedError,
    StructuredOutputError,
    ToolError,
    UnknownModelError,
)
from agentkit.manager.batch import BatchResult
from agentkit.manager.batch_file import complete_file
from agentkit.manager.batch_workers import complete_shards
from agentkit.manager.client import (
    LLMClient,
    LLMConfig,
    LLMProvider,
)
from agentkit.manager.keys import ConnectionPool
from agentkit.manager.loop_managers import get_llm_manager
from agentkit.manager.manager import LLMManager
from agentkit.manager.middleware import (
    LoggingMiddleware,
    MetricsMiddleware,
    RateLimitMiddleware,
    RetryMiddleware,
)
from agentkit.manager.shards import join_shards
from agentkit.output.tools import (
    ToolContext,
    tool,
    tool_spec,
)
from agentkit.policy.breaker import (
    BreakerPolicy,
    CircuitBreaker,
)
from agentkit.policy.budget import Budget
from agentkit.policy.health import HealthAware
from agentkit.policy.limits import (
    PoolConfig,
    RateLimits,
)
from agentkit.policy.price import Price
from agentkit.policy.retry import RetryPolicy
from agentkit.providers.registry import provider_for
from agentkit.providers.transport.options import ConnectionOptions
from agentkit.telemetry.otel import Telemetry
from agentkit.types import (
    End,
    Message,
    MessageRole,
    Provider,
    ProviderState,
    Quota,
    RawEvent,
    ReasoningDelta,
    Request,
    Response,
    Restart,
    Store,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
)
from agentkit.types.ledger import (
    Entry,
    Ledger,
)

__all__ = [
    "Agent",
    "AgentError",
    "AgentResult",
    "AgentStateError",
    "AllModelsFailedError",
    "AsyncRunStream",
    "AsyncStream",
    "AuthenticationError",
    "BatchResult",
    "BreakerPolicy",
    "Budget",
    "BudgetExceededError",
    "CircuitBreaker",
    "CircuitBreakerOpenError",
    "CircuitOpenError",
    "ConfigurationError",
    "ConnectionOptions",
    "ConnectionPool",
    "ContentFilterError",
    "ContextLengthError",
    "DeadlineExceededError",
    "End",
    "Entry",
    "HealthAware",
    "InDoubtError",
    "InvalidRequestError",
    "InvalidResponseError",
    "Journal",
    "JournalError",
    "LLMAuthenticationError",
    "LLMClient",
    "LLMConfig",
    "LLMConfigurationError",
    "LLMConnectionError",
    "LLMError",
    "LLMException",
    "LLMManager",
    "LLMManagerError",
    "LLMPoolExhaustedError",
    "LLMProvider",
    "LLMProviderError",
    "LLMRateLimitError",
    "LLMTimeoutError",
    "Ledger",
    "LoggingMiddleware",
    "Memory",
    "Message",
    "MessageRole",
    "MetricsMiddleware",
    "Middleware",
    "MissingDependencyError",
    "ModelNotFoundError",
    "NetworkError",
    "OverloadedError",
    "PartialAnswer",
    "PendingCall",
    "PoolConfig",
    "PoolExhaustedError",
    "Price",
    "Provider",
    "ProviderError",
    "ProviderState",
    "ProviderTimeoutError",
    "Quota",
    "RateLimitError",
    "RateLimitMiddleware",
    "RateLimits",
    "RawEvent",
    "ReasoningDelta",
    "RecordedStep",
    "Request",
    "RequestValidationError",
    "Response",
    "Restart",
    "RetryExhaustedError",
    "RetryMiddleware",
    "RetryPolicy",
    "RunChangedError",
    "RunConflictError",
    "RunFinished",
    "RunInfo",
    "RunStore",
    "RunStream",
    "ServerError",
    "StepFinished",
    "StepLimitError",
    "Store",
    "Stream",
    "StreamInterruptedError",
    "StructuredOutputError",
    "Telemetry",
    "TextDelta",
    "ToolCall",
    "ToolCallFinished",
    "ToolCallStarted",
    "ToolContext",
    "ToolError",
    "ToolResult",
    "ToolSpec",
    "UnknownModelError",
    "Usage",
    "__version__",
    "complete_file",
    "complete_shards",
    "get_llm_manager",
    "join_shards",
    "mcp_tools",
    "provider_for",
    "tool",
    "tool_spec",
]
