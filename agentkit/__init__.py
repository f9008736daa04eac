"""Model calls that survive outages.

Register models with an `LLMManager`, by name (``"openai:…"``) or as your own functions, and call
them through it. For each call, it decides what to do next: answer from the response cache, wait
for quota, retry, skip a broken model, fall back, or fail in time.

Names are imported on first use, so that ``import agentkit`` is fast. Logs go to the loggers under
``agentkit``, which print nothing unless the application configures logging.
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
        "agentkit.agent.calls": ["PendingCall", "ToolResult"],
        "agentkit.agent.events": [
            "PartialAnswer",
            "RunFinished",
            "StepFinished",
            "ToolCallFinished",
            "ToolCallStarted",
        ],
        "agentkit.agent.mcp": ["mcp_tools"],
        "agentkit.agent.memory": ["Memory"],
        "agentkit.agent.result": ["AgentResult"],
        "agentkit.agent.runs.journal": ["Journal"],
        "agentkit.agent.runs.store": ["RecordedStep", "RunInfo", "RunStore"],
        "agentkit.agent.stream": ["AsyncRunStream", "RunStream"],
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
            "InDoubtError",
            "InvalidRequestError",
            "InvalidResponseError",
            "JournalError",
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
            "RunChangedError",
            "RunConflictError",
            "ServerError",
            "StepLimitError",
            "StreamInterruptedError",
            "StructuredOutputError",
            "ToolError",
            "UnknownModelError",
        ],
        "agentkit.manager.batch": ["BatchResult"],
        "agentkit.manager.batch_file": ["complete_file"],
        "agentkit.manager.batch_workers": ["complete_shards"],
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
        "agentkit.manager.shards": ["join_shards"],
        "agentkit.output.tools": ["ToolContext", "tool", "tool_spec"],
        "agentkit.policy.breaker": ["BreakerPolicy", "CircuitBreaker"],
        "agentkit.policy.budget": ["Budget"],
        "agentkit.policy.limits": ["PoolConfig", "RateLimits"],
        "agentkit.policy.price": ["Price"],
        "agentkit.policy.retry": ["RetryPolicy"],
        "agentkit.policy.health": ["HealthAware"],
        "agentkit.providers.registry": ["provider_for"],
        "agentkit.providers.transport.options": ["ConnectionOptions"],
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
