"""Every name that telemetry writes: spans, attributes, events, metrics, and their units.

The GenAI conventions are unstable and partly renamed upstream, so the strings are written here
instead of imported from a package that changes; a test compares them with the installed one. There
are two vocabularies: ``v1.41`` is what tools read today (the last core release with GenAI text),
``next`` is that of the GenAI repository; ``both`` writes both at twice the cost.

Names under ``agentkit.`` are our own: OpenTelemetry has no convention for retries, breakers,
fallbacks or an application's response cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

Profile: TypeAlias = Literal["v1.41", "next", "both"]

SCOPE: Final = "agentkit"

# Spans.
GENERATE: Final = "agentkit.generate"
CHAT: Final = "chat"

INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"

# Standard attributes, the same in both vocabularies.
ERROR_TYPE: Final = "error.type"
EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - no password
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - no password
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_ID: Final = "gen_ai.agent.id"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
DETAILS: Final = "gen_ai.client.inference.operation.details"

OTHER: Final = "_OTHER"
ERROR_TYPES: Final = frozenset(
    {
        "400",
        "401",
        "402",
        "403",
        "404",
        "408",
        "409",
        "413",
        "422",
        "424",
        "425",
        "429",
        "500",
        "502",
        "503",
        "504",
        "529",
        "timeout",
        "connection_error",
        "cancelled",
        "content_filter",
        "context_length_exceeded",
        "invalid_response",
        "rate_limited_local",
        "budget_exceeded",
        "circuit_open",
        "all_models_failed",
        "configuration",
        OTHER,
    }
)
"""Every value of ``error.type``; any other error is `OTHER`."""

PROVIDERS: Final = {
    "google": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""The values of ``gen_ai.provider.name`` for which we have a shorter name; others are the same."""

NUMBERS: Final = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
}
"""The numeric parameters of a request, and the attribute of each."""

# OpenInference, which some trace viewers read in addition.
SPAN_KIND: Final = "openinference.span.kind"
INPUT_VALUE: Final = "input.value"
OUTPUT_VALUE: Final = "output.value"
INPUT_TYPE: Final = "input.mime_type"
OUTPUT_TYPE: Final = "output.mime_type"
PLAIN_TEXT: Final = "text/plain"
JSON: Final = "application/json"

# Our own attributes. `MODEL` is the registered name of a model; attributes of `gen_ai.` hold the
# provider's own name, which backends know.
MODEL: Final = "agentkit.model"
COST: Final = "agentkit.cost.usd"
COST_ESTIMATED: Final = "agentkit.cost.estimated"
REQUEST_COST: Final = "agentkit.request.cost.usd"
MANAGER: Final = "agentkit.manager.name"
ROUTE: Final = "agentkit.route.models"
ROUTE_INDEX: Final = "agentkit.route.index"
OUTCOME: Final = "agentkit.outcome"
ATTEMPTS: Final = "agentkit.attempts"
SELECTED_MODEL: Final = "agentkit.selected.model"
SELECTED_PROVIDER: Final = "agentkit.selected.provider"
ATTEMPT_NUMBER: Final = "agentkit.attempt.number"
ATTEMPT_OUTCOME: Final = "agentkit.attempt.outcome"
ATTEMPT_REASON: Final = "agentkit.attempt.reason"
FEATURE: Final = "agentkit.feature"
STREAM_ABORTED: Final = "agentkit.stream.aborted"
CACHE_RESULT: Final = "agentkit.cache.result"
CACHE_OPERATION: Final = "agentkit.cache.operation"
RETRY_DELAY: Final = "agentkit.retry.delay"
RETRY_REASON: Final = "agentkit.retry.reason"
FALLBACK_FROM: Final = "agentkit.fallback.from"
FALLBACK_TO: Final = "agentkit.fallback.to"
FALLBACK_REASON: Final = "agentkit.fallback.reason"
SKIP_REASON: Final = "agentkit.skip.reason"
FAULT: Final = "agentkit.fleet.fault"
BREAKER: Final = "agentkit.circuit_breaker.name"
BREAKER_STATE: Final = "agentkit.circuit_breaker.state"
BREAKER_PREVIOUS: Final = "agentkit.circuit_breaker.previous_state"
WAIT_SECONDS: Final = "agentkit.rate_limit.wait"
WAIT_OUTCOME: Final = "agentkit.rate_limit.outcome"
CONTENT_TRUNCATED: Final = "agentkit.content.truncated"

BREAKER_STATES: Final = ("closed", "open", "half_open")

# Events on the wrapper span.
RETRY_SCHEDULED: Final = "agentkit.retry.scheduled"
FALLBACK: Final = "agentkit.fallback"
SKIPPED: Final = "agentkit.skipped"
BREAKER_REJECTED: Final = "agentkit.circuit_breaker.rejected"
BREAKER_CHANGED: Final = "agentkit.circuit_breaker.state_change"
CACHE: Final = "agentkit.cache"
WAITED: Final = "agentkit.rate_limit.waited"


@dataclass(frozen=True, slots=True)
class Metric:
    """One instrument: its name, unit and help text."""

    name: str
    unit: str
    description: str


GENERATE_DURATION: Final = Metric(
    "agentkit.generate.duration", "s", "Duration of a request, all attempts included"
)
GENERATE_ATTEMPTS: Final = Metric("agentkit.generate.attempts", "{attempt}", "Attempts per request")
GENERATE_ACTIVE: Final = Metric("agentkit.generate.active", "{request}", "Requests in progress")
RETRIES: Final = Metric(
    "agentkit.retries", "{retry}", "Attempts after the first on one model in one request"
)
RETRY_DELAYS: Final = Metric("agentkit.retry.delay", "s", "Back-off scheduled before a retry")
FALLBACKS: Final = Metric("agentkit.fallbacks", "{fallback}", "Moves from one model to the next")
BREAKER_STATE_GAUGE: Final = Metric(
    "agentkit.circuit_breaker.state", "{state}", "1 for the state a breaker is in, 0 for the others"
)
BREAKER_FAILURE_RATE: Final = Metric(
    "agentkit.circuit_breaker.failure_rate", "{fraction}", "Failure rate of a breaker, 0 to 1"
)
FLEET_UP: Final = Metric("agentkit.fleet.up", "{state}", "1 while the store of a fleet answers")
FLEET_PROCESSES: Final = Metric(
    "agentkit.fleet.processes", "{process}", "Live processes of a fleet; 0 while its store is lost"
)
FLEET_QUESTIONS: Final = Metric(
    "agentkit.fleet.questions", "{question}", "Questions to the store of a fleet"
)
FLEET_ALONE: Final = Metric(
    "agentkit.fleet.alone", "{question}", "Questions without a reply: the process decided alone"
)
FLEET_ROUND_TRIPS: Final = Metric(
    "agentkit.fleet.round_trips", "{round_trip}", "Batches of questions that the store answered"
)
FLEET_ROUND_TRIP_TIME: Final = Metric(
    "agentkit.fleet.round_trip.time", "s", "Time for which the store was waited for, in all"
)
FLEET_FAULTS: Final = Metric(
    "agentkit.fleet.faults", "{fault}", "Faults after which the store counted as lost"
)
TRANSITIONS: Final = Metric(
    "agentkit.circuit_breaker.transitions", "{transition}", "State changes of a breaker"
)
REJECTIONS: Final = Metric(
    "agentkit.circuit_breaker.rejections", "{rejection}", "Targets skipped for an open breaker"
)
OMISSIONS: Final = Metric(
    "agentkit.feature.omitted", "{request}", "Requests sent without a rejected feature"
)
WAITS: Final = Metric("agentkit.rate_limit.wait", "s", "Time waited for quota")
CACHE_REQUESTS: Final = Metric(
    "agentkit.cache.requests", "{request}", "Look-ups in the response cache"
)
CACHE_DURATION: Final = Metric("agentkit.cache.duration", "s", "Time of a response cache look-up")
COSTS: Final = Metric("agentkit.cost", "{USD}", "Cost of the attempts in USD")
INVOKE_AGENT_DURATION: Final = Metric(
    "gen_ai.invoke_agent.duration", "s", "Duration of one task of an agent"
)
EXECUTE_TOOL_DURATION: Final = Metric(
    "gen_ai.execute_tool.duration", "s", "Duration of one tool call"
)

_DURATION = "Duration of one call to a model"
_FIRST_CHUNK = "Time from the start of a streamed call to its first content"
OLD_DURATION: Final = Metric("gen_ai.client.operation.duration", "s", _DURATION)
NEW_DURATION: Final = Metric("gen_ai.client.inference.duration", "s", _DURATION)
OLD_FIRST_CHUNK: Final = Metric("gen_ai.client.operation.time_to_first_chunk", "s", _FIRST_CHUNK)
NEW_FIRST_CHUNK: Final = Metric("gen_ai.client.inference.time_to_first_chunk", "s", _FIRST_CHUNK)
TOKEN_USAGE: Final = Metric("gen_ai.client.token.usage", "{token}", "Tokens of one call")

USAGE_COUNTERS: Final = {
    "input_tokens": Metric("gen_ai.client.inference.usage.input_tokens", "{token}", "Input tokens"),
    "output_tokens": Metric(
        "gen_ai.client.inference.usage.output_tokens", "{token}", "Output tokens"
    ),
    "cache_read_tokens": Metric(
        "gen_ai.client.inference.usage.cache_read.input_tokens",
        "{token}",
        "Input tokens read from a prompt cache",
    ),
    "cache_write_tokens": Metric(
        "gen_ai.client.inference.usage.cache_write.input_tokens",
        "{token}",
        "Input tokens written to a prompt cache",
    ),
    "reasoning_tokens": Metric(
        "gen_ai.client.inference.usage.reasoning.output_tokens",
        "{token}",
        "Output tokens spent on reasoning",
    ),
}
"""The counters of ``next``, by the field of `Usage` that each counts."""
INPUT_PER_CALL: Final = Metric(
    "gen_ai.client.inference.operation.input_tokens", "{token}", "Input tokens of one call"
)
OUTPUT_PER_CALL: Final = Metric(
    "gen_ai.client.inference.operation.output_tokens", "{token}", "Output tokens of one call"
)

SECONDS: Final = tuple(0.01 * 2**power for power in range(14))
"""Bucket boundaries of durations, from the GenAI conventions: 0.01 to 81.92 s."""
AGENT_SECONDS: Final = tuple(0.1 * 2**power for power in range(13))
"""Bucket boundaries of an agent's durations, from the GenAI conventions: 0.1 to 409.6 s."""
TOKENS: Final = tuple(4**power for power in range(14))
"""Bucket boundaries of token counts, from the GenAI conventions: 1 to 67,108,864."""
COUNTS: Final = (1, 2, 3, 4, 5, 6, 8, 10)
"""Bucket boundaries of attempts per request."""


class TokenMetric(NamedTuple):
    """An instrument that records one field of `Usage`, and the attributes it adds."""

    metric: Metric
    kind: Literal["counter", "histogram"]
    field: str
    attributes: dict[str, str]


class Vocabulary(NamedTuple):
    """The names of a profile for what was renamed upstream."""

    durations: tuple[Metric, ...]
    first_chunks: tuple[Metric, ...]
    tokens: tuple[TokenMetric, ...]
    cache_write: tuple[str, ...]
    """The attributes of a span for tokens written to a prompt cache."""


OLD_CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
NEW_CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"

_OLD: Final = Vocabulary(
    durations=(OLD_DURATION,),
    first_chunks=(OLD_FIRST_CHUNK,),
    tokens=(
        TokenMetric(TOKEN_USAGE, "histogram", "input_tokens", {TOKEN_TYPE: "input"}),
        TokenMetric(TOKEN_USAGE, "histogram", "output_tokens", {TOKEN_TYPE: "output"}),
    ),
    cache_write=(OLD_CACHE_WRITE_TOKENS,),
)
_NEW: Final = Vocabulary(
    durations=(NEW_DURATION,),
    first_chunks=(NEW_FIRST_CHUNK,),
    tokens=(
        *(
            TokenMetric(metric, "counter", field, {TOKEN_MODALITY: "unknown"})
            for field, metric in USAGE_COUNTERS.items()
        ),
        TokenMetric(INPUT_PER_CALL, "histogram", "input_tokens", {}),
        TokenMetric(OUTPUT_PER_CALL, "histogram", "output_tokens", {}),
    ),
    cache_write=(NEW_CACHE_WRITE_TOKENS,),
)
VOCABULARIES: Final[dict[Profile, Vocabulary]] = {
    "v1.41": _OLD,
    "next": _NEW,
    "both": Vocabulary(
        durations=_OLD.durations + _NEW.durations,
        first_chunks=_OLD.first_chunks + _NEW.first_chunks,
        tokens=_OLD.tokens + _NEW.tokens,
        cache_write=_OLD.cache_write + _NEW.cache_write,
    ),
}


def provider_name(provider: str) -> str:
    """The value of ``gen_ai.provider.name`` for one of our names of providers."""
    return PROVIDERS.get(provider, provider)


def listed(error_type: object) -> str:
    """`error_type` if it is one of `ERROR_TYPES`, else `OTHER`."""
    return error_type if isinstance(error_type, str) and error_type in ERROR_TYPES else OTHER
