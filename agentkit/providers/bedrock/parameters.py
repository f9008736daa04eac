"""The parameters of a request that a model on Bedrock accepts."""

from __future__ import annotations

from dataclasses import replace

from agentkit.providers.model_table import claude
from agentkit.providers.parameters import Parameters, has_thinking_budget
from agentkit.types import Request


def fit_to_model(
    request: Request, model_id: str, *, signed: bool = True
) -> tuple[Request, list[str]]:
    """`request` without the parameters that a Claude model refuses, and their names.

    `signed`: whether the thinking of the conversation can be sent back, without which a model with
    a thinking budget refuses to think.
    """
    if not request.params:
        return request, []
    parameters = Parameters(request.params, own=None, fixed=request.fixed_params)
    known = claude(model_id)
    if not known.takes_sampling:
        parameters.omit("temperature", "top_p", "top_k")
    elif known.takes_one_sampler and "temperature" in parameters.values:
        parameters.omit("top_p")
    if has_thinking_budget(parameters.values) and not signed:
        parameters.omit_always("thinking")
    return replace(request, params=parameters.values), parameters.omitted
