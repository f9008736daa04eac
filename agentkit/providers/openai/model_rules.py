"""The parameters that OpenAI's models refuse while they reason."""

from __future__ import annotations

from typing import Final

from agentkit.providers.model_table import openai_model
from agentkit.providers.parameters import Parameters

SERVICE_TIERS: Final = ("auto", "default", "flex", "scale", "priority", "fast")
_REFUSED: Final = (
    *("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias"),
    *("logprobs", "top_logprobs", "stop"),
)
"""The parameters that a model refuses while it reasons."""


def fit_to_model(parameters: Parameters, model: str, *, chat_with_tools: bool) -> str | None:
    """Leave out what the model refuses, and return the ``reasoning_effort`` to send.

    `chat_with_tools`: tools are sent to chat completions, where newer models may not reason then.
    """
    known = openai_model(model)
    parameters.omit_unless("service_tier", SERVICE_TIERS)
    if known is None:
        return parameters.take_effort(None)
    fixed = parameters.is_fixed("reasoning_effort")
    effort = parameters.take_effort(known.efforts)
    if chat_with_tools and known.tools_need_responses and not fixed:
        if effort not in (None, "none"):
            parameters.omitted.append("reasoning_effort")
        effort = None if known.default_effort == "none" else "none"
    if known.efforts and (effort or known.default_effort) != "none":
        parameters.omit(*_REFUSED)
    return effort
