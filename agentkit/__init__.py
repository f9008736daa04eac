"""Model calls that survive outages.

Register inference callables with an `LLMManager`; it decides, for every call, what to do next:
answer from the response cache, wait, try, retry, skip a broken model, fall back, or fail in time.
Names are loaded when they are first used, so that ``import agentkit`` costs next to nothing.
Logs go to the loggers under ``agentkit``, which print nothing unless the application says so.
"""

from __future__ import annotations

import logging

from agentkit._lazy import attach

logging.getLogger(__name__).addHandler(logging.NullHandler())

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "agentkit._version": ["__version__"],
        "agentkit.agent.agent": ["Agent"],
        "agentkit.agent.loop": ["AgentResult"],
        "agentkit.agent.mcp": ["mcp_tools"],
        "agentkit.agent.memory": ["Memory"],
        "agentkit.engine.drivers.streams": ["AsyncStream", "Stream"],
        "agentkit.engine.middleware": ["Middleware"],
        "agentkit.errors": [
            "AgentError",
            "AgentStateError",
            "AllModelsFailedError",
            "AuthenticationError",
            "BudgetExceededError",
            "CircuitBreakerOpenError",
            "CircuitOpenError",
            "ConfigurationError",
            "ContentFilterError",
            "ContextLengthError",
            "DeadlineExceededError",
            "InvalidRequestError",
            "InvalidResponseError",
            "LLMAuthenticationError",
            "LLMConfigurationError",
            "LLMConnectionError",
            "LLMError",
            "LLMException",
            "LLMManagerError",
            "LLMPoolExhaustedError",
            "LLMProviderError",
            "LLMRateLimitError",
            "LLMTimeoutError",
            "MissingDependencyError",
            "ModelNotFoundError",
            "NetworkError",
            "OverloadedError",
            "PoolExhaustedError",
            "ProviderError",
            "ProviderTimeoutError",
            "RateLimitError",
            "RequestValidationError",
            "RetryExhaustedError",
            "ServerError",
            "StepLimitError",
            "StreamInterruptedError",
            "StructuredOutputError",
            "ToolError",
            "UnknownModelError",
        ],
        "agentkit.manager.batch": ["BatchResult"],
        "agentkit.manager.batch_file": ["complete_file"],
        "agentkit.manager.client": ["LLMClient", "LLMConfig", "LLMProvider"],
        "agentkit.manager.keys": ["ConnectionPool"],
        "agentkit.manager.loop_managers": ["get_llm_manager"],
        "agentkit.manager.manager": ["LLMManager"],
        "agentkit.manager.middleware": [
            "LoggingMiddleware",
            "MetricsMiddleware",
            "RateLimitMiddleware",
            "RetryMiddleware",
        ],
        "agentkit.output.tools": ["ToolContext", "tool_spec"],
        "agentkit.policy.breaker": ["BreakerPolicy", "CircuitBreaker"],
        "agentkit.policy.budget": ["Budget"],
        "agentkit.policy.limits": ["PoolConfig", "RateLimits"],
        "agentkit.policy.retry": ["RetryPolicy"],
        "agentkit.policy.health": ["HealthAware"],
        "agentkit.providers.registry": ["provider_for"],
        "agentkit.telemetry.otel": ["Telemetry"],
        "agentkit.types": [
            "End",
            "Message",
            "MessageRole",
            "Provider",
            "ProviderState",
            "Quota",
            "RawEvent",
            "ReasoningDelta",
            "Request",
            "Response",
            "Restart",
            "Store",
            "TextDelta",
            "ToolCall",
            "ToolSpec",
            "Usage",
        ],
        "agentkit.types.ledger": ["Entry", "Ledger"],
    },
)
