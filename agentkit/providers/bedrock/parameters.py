"""The parameters of a request that a model on Bedrock accepts."""

from __future__ import annotations

from dataclasses import replace

from agentkit.providers.model_table import claude
from agentkit.providers.parameters import Parameters
from agentkit.types import Request


def fit_to_model(request: Request, model_id: str) -> tuple[Request, list[str]]:
    """`request` without the sampling parameters that a Claude model refuses, and their names."""
    parameters = Parameters(request.params, own=None, fixed=request.fixed_params)
    known = claude(model_id)
    if not known.takes_sampling:
        parameters.omit("temperature", "top_p", "top_k")
    elif known.takes_one_sampler and "temperature" in parameters.values:
        parameters.omit("top_p")
    return replace(request, params=parameters.values), parameters.omitted
