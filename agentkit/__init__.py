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
    from agentkit.agent.loop import AgentResult
    from agentkit.agent.mcp import mcp_tools
    from agentkit.agent.memory import Memory
    from agentkit.config.manager import get_llm_manager
    from agentkit.engine.drivers.streams import AsyncStream, Stream
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
    from agentkit.manager.batch import BatchResult
    from agentkit.manager.batch_file import complete_file
    from agentkit.manager.client import LLMClient, LLMConfig, LLMProvider
    from agentkit.manager.keys import ConnectionPool, PoolConfig
    from agentkit.manager.manager import LLMManager
    from agentkit.manager.middleware import (
        LoggingMiddleware,
        MetricsMiddleware,
        RateLimitMiddleware,
        RetryMiddleware,
    )
    from agentkit.output.tools import ToolContext, tool_spec
    from agentkit.policy.breaker.breaker import BreakerPolicy, CircuitBreaker
    from agentkit.policy.budget import Budget
    from agentkit.policy.limits.window import RateLimits
    from agentkit.policy.retry import RetryPolicy
    from agentkit.policy.route import HealthAware
    from agentkit.providers.registry import provider_for
    from agentkit.telemetry.otel import Telemetry
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
    from agentkit.types.ledger import Entry, Ledger

logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "agentkit.agent.agent": ("Agent",),
    "agentkit.agent.mcp": ("mcp_tools",),
    "agentkit.agent.memory": ("Memory",),
    "agentkit.agent.loop": ("AgentResult",),
    "agentkit.manager.batch": ("BatchResult",),
    "agentkit.manager.client": ("LLMClient", "LLMConfig", "LLMProvider"),
    "agentkit.config.manager": ("get_llm_manager",),
    "agentkit.engine.drivers.streams": ("AsyncStream", "Stream"),
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
    "agentkit.types.ledger": ("Entry", "Ledger"),
    "agentkit.manager.manager": ("LLMManager",),
    "agentkit.manager.middleware": (
        "LoggingMiddleware", "MetricsMiddleware", "RateLimitMiddleware", "RetryMiddleware",
    ),
    "agentkit.policy.budget": ("Budget",),
    "agentkit.policy.breaker.breaker": ("BreakerPolicy", "CircuitBreaker"),
    "agentkit.policy.limits.window": ("RateLimits",),
    "agentkit.policy.retry": ("RetryPolicy",),
    "agentkit.policy.route": ("HealthAware",),
    "agentkit.manager.keys": ("ConnectionPool", "PoolConfig"),
    "agentkit.telemetry.otel": ("Telemetry",),
    "agentkit.output.tools": ("ToolContext", "tool_spec"),
    "agentkit.manager.batch_file": ("complete_file",),
    "agentkit.providers.registry": ("provider_for",),
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
    "ToolSpec", "UnknownModelError", "Usage", "__version__", "complete_file",
    "get_llm_manager", "mcp_tools", "provider_for", "tool_spec",
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
