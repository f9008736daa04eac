"""The parameters of a request on their way to a provider.

Each parameter is

- **translated**, if the provider has the same thing under another name or in another shape;
- **left out**, with a note in `Response.omitted` and in the ledger, if it is a parameter of another
  provider, or if the model is known to refuse it (see `agentkit.providers.model_table`);
- **refused** as an `InvalidRequestError`, if its value cannot be understood;
- **sent as it is** otherwise: what no adapter knows may be new.

What was set for the model itself, by ``register_model(..., params=...)``, is never left out. There
is one exception: a thinking budget of Claude, if the latest tool calls of the conversation came
without thinking of this model. Its API refuses that, whatever is known about the model.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, Final

from agentkit.errors import InvalidRequestError
from agentkit.providers.model_table import EFFORTS, nearest_effort

_NAMES: Final = {
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "maxOutputTokens": "max_tokens",
    "stop_sequences": "stop",
    "stopSequences": "stop",
    "topP": "top_p",
    "topK": "top_k",
    "candidate_count": "n",
    "candidateCount": "n",
    "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
    "output_format": "response_format",
}
"""Names of one provider, and the names here of the same thing."""
_GROUPS: Final = {
    "reasoning": {"effort": "reasoning_effort"},
    "text": {"format": "response_format", "verbosity": "verbosity"},
    "output_config": {"format": "response_format", "effort": "reasoning_effort"},
}
"""Parameters that hold others, by the provider that has them; for others they are taken apart."""

_COMMON: Final = """
    extra_body max_tokens reasoning_effort response_format temperature tool_choice tools top_p
"""
_SDK: Final = "extra_headers extra_query timeout"
_CHAT_AND_GROQ: Final = f"""{_COMMON} {_SDK}
    frequency_penalty function_call functions logit_bias logprobs metadata n parallel_tool_calls
    presence_penalty seed service_tier stop store top_logprobs user
"""
CHAT: Final = frozenset(
    f"""{_CHAT_AND_GROQ}
    audio modalities moderation prediction prompt_cache_key prompt_cache_options
    prompt_cache_retention safety_identifier stream_options verbosity web_search_options
    """.split()
)
"""The parameters of OpenAI's chat completions; like those below, as of `model_table.AS_OF`."""
RESPONSES: Final = frozenset(
    f"""{_COMMON} {_SDK}
    access_programs background background_options context_management conversation image include
    instructions max_tool_calls metadata moderation parallel_tool_calls previous_response_id prompt
    prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier
    service_tier store stream_options text top_logprobs truncation user verbosity
    """.split()
)
"""The parameters of OpenAI's responses."""
GROQ: Final = frozenset(
    f"""{_CHAT_AND_GROQ}
    citation_options compound_custom disable_tool_validation documents exclude_domains
    include_domains include_reasoning reasoning_format search_settings
    """.split()
)
"""The parameters of Groq."""
ANTHROPIC: Final = frozenset(
    f"""{_COMMON} {_SDK}
    cache_control container diagnostics inference_geo metadata output_config parallel_tool_calls
    service_tier speed stop system thinking top_k user user_profile_id workspace_id
    """.split()
)
"""The parameters of Anthropic's messages."""
GOOGLE: Final = frozenset(
    f"""{_COMMON}
    audio_timestamp audio_transcription_config automatic_continuation automatic_function_calling
    cached_content continuation_token enable_enhanced_civic_answers frequency_penalty
    generation_output_config http_options image_config labels logprobs media_resolution
    model_armor_config model_selection_config n presence_penalty response_json_schema
    response_logprobs response_mime_type response_modalities response_schema routing_config
    safety_settings seed service_tier should_return_http_response speech_config stop store
    system_instruction thinking_config tool_config top_k top_logprobs
    """.split()
)
"""The parameters of Google's generateContent."""
_KNOWN: Final = CHAT | RESPONSES | GROQ | ANTHROPIC | GOOGLE


class Parameters:
    """The parameters of one request, by the names of this module.

    Args:
        given: the parameters under any provider's name; the later one of two that mean the same
            wins.
        own: the names that the provider has; None if it may have any.
        fixed: the names of those that are never left out.

    Attributes:
        values: what is left of them; the encoder turns it into the body.
        omitted: the names of those that were left out.
    """

    __slots__ = ("_fixed", "_own", "omitted", "values")

    def __init__(
        self, given: Mapping[str, Any], *, own: frozenset[str] | None, fixed: frozenset[str]
    ) -> None:
        self.values: dict[str, Any] = {}
        self.omitted: list[str] = []
        self._own = own
        self._fixed = frozenset(
            inner for name in fixed for inner in (_NAMES.get(name, name), *_inside(name))
        )
        for name, value in given.items():
            if value is not None:
                self._add(name, value)
        if own is not None:
            self.omit(*(name for name in self.values if name not in own and name in _KNOWN))

    def omit(self, *names: str) -> None:
        """Leave parameters out, and note it, unless they were set for the model itself."""
        for name in names:
            if name in self.values and name not in self._fixed:
                del self.values[name]
                self.omitted.append(name)

    def omit_always(self, name: str) -> None:
        """Leave a parameter out, and note it: the conversation, not the model, forbids it."""
        if self.values.pop(name, None) is not None:
            self.omitted.append(name)

    def rename(self, name: str, new_name: str) -> None:
        """Give a parameter the provider's name."""
        if name != new_name and name in self.values:
            self.values[new_name] = self.values.pop(name)

    def take_effort(self, accepted: tuple[str, ...] | None) -> str | None:
        """Take ``reasoning_effort`` out, as the nearest that the model accepts.

        With `accepted` empty it is left out with a note; None accepts every one.

        Raises:
            InvalidRequestError: it is not one of `EFFORTS`.
        """
        effort: str | None = self.values.get("reasoning_effort")
        if effort is None or accepted is None or "reasoning_effort" in self._fixed:
            self.values.pop("reasoning_effort", None)
            return effort
        if not accepted:
            self.omit("reasoning_effort")
            return None
        del self.values["reasoning_effort"]
        if effort in accepted:
            return effort
        if effort not in EFFORTS:
            raise InvalidRequestError(
                f"reasoning_effort={effort!r} is not known", hint=f"use one of {', '.join(EFFORTS)}"
            )
        return nearest_effort(effort, accepted)

    def omit_unless(self, name: str, accepted: Container[Any]) -> None:
        """Leave a parameter out, and note it, if its value is not an accepted one."""
        if name in self.values and self.values[name] not in accepted:
            self.omit(name)

    def is_fixed(self, name: str) -> bool:
        """Whether the parameter was set for the model itself."""
        return name in self._fixed

    def _add(self, name: str, value: Any) -> None:
        group = _GROUPS.get(name)
        if (
            group is None
            or self._own is None
            or name in self._own
            or not isinstance(value, Mapping)
        ):
            value = _normal_tool_choice(value) if name == "tool_choice" else value
            self.values[_NAMES.get(name, name)] = value
            return
        for inner, inner_value in value.items():
            if inner in group:
                self.values.setdefault(group[inner], inner_value)
            else:
                self.omitted.append(f"{name}.{inner}")


def has_thinking_budget(values: Mapping[str, Any]) -> bool:
    """Whether parameters give a Claude model a budget of tokens for its thinking."""
    thinking = values.get("thinking")
    return isinstance(thinking, Mapping) and thinking.get("type") == "enabled"


def _inside(name: str) -> Iterable[str]:
    """The parameters that a group of them holds."""
    return _GROUPS.get(name, {}).values()


def _normal_tool_choice(choice: Any) -> Any:
    """``auto``, ``none``, ``required`` or the name of a tool, whichever provider's shape it has."""
    if not isinstance(choice, Mapping) or not {"type", "name", "function"}.issuperset(choice):
        return choice
    kind, function = choice.get("type"), choice.get("function")
    if kind in ("auto", "none", "any") and len(choice) == 1:
        return "required" if kind == "any" else kind
    name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    return name if kind in ("function", "tool") and isinstance(name, str) else choice
