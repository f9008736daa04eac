"""Model calls that survive outages.

Register inference callables with an `LLMManager`; it decides, for every call, what to do next:
answer from the response cache, wait, try, retry, skip a broken model, fall back, or fail in time.
Names are loaded when they are first used, so that ``import agentkit`` costs next to nothing.
Logs go to the loggers under ``agentkit``, which print nothing unless the application says so.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentkit._version import __version__

if TYPE_CHECKING:
    from agentkit.agent.agent import Agent
    from agentkit.agent.mcp import mcp_tools
    from agentkit.agent.memory import Memory
    from agentkit.agent.running import AgentResult
    from agentkit.batch import BatchResult
    from agentkit.client import LLMClient, LLMConfig, LLMProvider
    from agentkit.configured import get_llm_manager
    from agentkit.engine.drive.consume import AsyncStream, Stream
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
        InvalidRequestError,
        InvalidResponseError,
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
        ServerError,
        StepLimitError,
        StreamInterruptedError,
        StructuredOutputError,
        ToolError,
        UnknownModelError,
    )
    from agentkit.ledger import Entry, Ledger
    from agentkit.manager import LLMManager
    from agentkit.middleware import (
        LoggingMiddleware,
        MetricsMiddleware,
        RateLimitMiddleware,
        RetryMiddleware,
    )
    from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker
    from agentkit.policy.budget import Budget
    from agentkit.policy.quota import RateLimits
    from agentkit.policy.retry import RetryPolicy
    from agentkit.policy.routing import HealthAware
    from agentkit.pool import ConnectionPool, PoolConfig
    from agentkit.telemetry.otel import Telemetry
    from agentkit.tools import ToolContext
    from agentkit.types import (
        End,
        Message,
        MessageRole,
        Provider,
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

logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "agentkit.agent.agent": ("Agent",),
    "agentkit.agent.mcp": ("mcp_tools",),
    "agentkit.agent.memory": ("Memory",),
    "agentkit.agent.running": ("AgentResult",),
    "agentkit.batch": ("BatchResult",),
    "agentkit.client": ("LLMClient", "LLMConfig", "LLMProvider"),
    "agentkit.configured": ("get_llm_manager",),
    "agentkit.engine.drive.consume": ("AsyncStream", "Stream"),
    "agentkit.engine.middleware": ("Middleware",),
    "agentkit.errors": (
        "AgentError", "AgentStateError", "AllModelsFailedError", "AuthenticationError",
        "BudgetExceededError", "CircuitBreakerOpenError", "CircuitOpenError",
        "ConfigurationError", "ContentFilterError",
        "ContextLengthError", "DeadlineExceededError", "InvalidRequestError",
        "InvalidResponseError", "LLMAuthenticationError", "LLMConfigurationError",
        "LLMConnectionError", "LLMError", "LLMException", "LLMManagerError",
        "LLMPoolExhaustedError", "LLMProviderError", "LLMRateLimitError", "LLMTimeoutError",
        "MissingDependencyError", "ModelNotFoundError", "NetworkError", "OverloadedError",
        "PoolExhaustedError", "ProviderError", "ProviderTimeoutError", "RateLimitError",
        "RequestValidationError", "RetryExhaustedError", "ServerError", "StepLimitError",
        "StreamInterruptedError", "StructuredOutputError", "ToolError", "UnknownModelError",
    ),
    "agentkit.ledger": ("Entry", "Ledger"),
    "agentkit.manager": ("LLMManager",),
    "agentkit.middleware": (
        "LoggingMiddleware", "MetricsMiddleware", "RateLimitMiddleware", "RetryMiddleware",
    ),
    "agentkit.policy.budget": ("Budget",),
    "agentkit.policy.breaker": ("BreakerPolicy", "CircuitBreaker"),
    "agentkit.policy.quota": ("RateLimits",),
    "agentkit.policy.retry": ("RetryPolicy",),
    "agentkit.policy.routing": ("HealthAware",),
    "agentkit.pool": ("ConnectionPool", "PoolConfig"),
    "agentkit.telemetry.otel": ("Telemetry",),
    "agentkit.tools": ("ToolContext",),
    "agentkit.types": (
        "End", "Message", "MessageRole", "Provider", "Quota", "RawEvent", "ReasoningDelta",
        "Request", "Response", "Restart", "Store", "TextDelta", "ToolCall", "ToolSpec", "Usage",
    ),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Agent", "AgentError", "AgentResult", "AgentStateError", "AllModelsFailedError", "AsyncStream",
    "AuthenticationError", "BatchResult", "BreakerPolicy", "Budget", "BudgetExceededError",
    "CircuitBreaker", "CircuitBreakerOpenError", "CircuitOpenError", "ConfigurationError",
    "ConnectionPool", "ContentFilterError", "ContextLengthError", "DeadlineExceededError", "End",
    "Entry", "HealthAware", "InvalidRequestError", "InvalidResponseError", "LLMAuthenticationError",
    "LLMClient", "LLMConfig", "LLMConfigurationError", "LLMConnectionError", "LLMError",
    "LLMException", "LLMManager", "LLMManagerError", "LLMPoolExhaustedError", "LLMProvider",
    "LLMProviderError", "LLMRateLimitError", "LLMTimeoutError", "Ledger", "LoggingMiddleware",
    "Memory", "Message", "MessageRole", "MetricsMiddleware", "Middleware", "MissingDependencyError",
    "ModelNotFoundError", "NetworkError", "OverloadedError", "PoolConfig", "PoolExhaustedError",
    "Provider", "ProviderError", "ProviderTimeoutError", "Quota", "RateLimitError",
    "RateLimitMiddleware", "RateLimits", "RawEvent", "ReasoningDelta", "Request",
    "RequestValidationError", "Response", "Restart", "RetryExhaustedError", "RetryMiddleware",
    "RetryPolicy", "ServerError", "StepLimitError", "Store", "Stream", "StreamInterruptedError",
    "StructuredOutputError", "Telemetry", "TextDelta", "ToolCall", "ToolContext", "ToolError",
    "ToolSpec", "UnknownModelError", "Usage", "__version__", "get_llm_manager", "mcp_tools",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'agentkit' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
