"""Parameters in Anthropic's terms, without those that a Claude model refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentkit.providers.model_table import EFFORTS, THINKING_TOKENS, Claude
from agentkit.providers.parameters import Parameters, has_thinking_budget

_SAMPLING: Final = ("temperature", "top_p", "top_k")
_SAMPLING_VERSION: Final = {"anthropic-version": "2023-06-01"}
"""The last version of the API that accepts sampling parameters; 2026-10-21 refuses them."""
_SERVICE_TIERS: Final = ("auto", "standard_only")
_LEAST_BUDGET: Final = 1024


def fit_to_model(parameters: Parameters, known: Claude, *, signed: bool) -> None:
    """Translate `parameters`, and leave out what the model refuses.

    `signed`: whether the thinking of the conversation can be sent back, without which a model with
    a thinking budget refuses to think.
    """
    body = parameters.values
    parameters.omit_unless("service_tier", _SERVICE_TIERS)
    _translate_stop(parameters)
    _translate_user(parameters)
    if body.pop("parallel_tool_calls", True) is False:
        choice = body.get("tool_choice", {"type": "auto"})
        body["tool_choice"] = {**choice, "disable_parallel_tool_use": True}
    _translate_effort(parameters, known, signed=signed)
    _fit_sampling(parameters, known)
    if any(name in body for name in _SAMPLING):
        body["extra_headers"] = {**_SAMPLING_VERSION, **body.get("extra_headers", {})}


def _translate_stop(parameters: Parameters) -> None:
    """As a list; the API refuses sequences of white space only."""
    if "stop" not in parameters.values:
        return
    given = parameters.values.pop("stop")
    stops = [given] if isinstance(given, str) else list(given)
    accepted = [each for each in stops if not isinstance(each, str) or each.strip()]
    if len(accepted) < len(stops):
        parameters.omitted.append("stop")
    if accepted:
        parameters.values["stop_sequences"] = accepted


def _translate_user(parameters: Parameters) -> None:
    """``user`` as ``metadata.user_id``, the only metadata that the API takes."""
    body = parameters.values
    metadata = body.pop("metadata", None)
    kept = {"user_id": body.pop("user")} if "user" in body else {}
    if isinstance(metadata, Mapping) and not parameters.is_fixed("metadata"):
        if set(metadata) - {"user_id"}:
            parameters.omitted.append("metadata")
        metadata = {name: value for name, value in metadata.items() if name == "user_id"}
    if metadata or kept:
        body["metadata"] = {**kept, **(metadata or {})}


def _translate_effort(parameters: Parameters, known: Claude, *, signed: bool) -> None:
    """``reasoning_effort`` as adaptive thinking with an effort, or as a budget of tokens."""
    body = parameters.values
    has_budget = has_thinking_budget(body)
    if has_budget and not known.takes_sampling and not parameters.is_fixed("thinking"):
        body["thinking"] = {"type": "adaptive"}  # these models know no budget
    elif has_budget and not signed:
        parameters.omit_always("thinking")
    if known.efforts:
        accepted = known.efforts if known.always_thinks else ("none", *known.efforts)
    else:
        accepted = EFFORTS if known.takes_thinking_budget else ()
    effort = parameters.take_effort(accepted)
    if effort is None or (effort == "none" and not known.efforts):
        return
    if effort == "none":
        body.setdefault("thinking", {"type": "disabled"})
    elif known.takes_thinking_budget:
        budget = _budget(effort, body.get("max_tokens"))
        if budget is None or not signed or _forces_a_tool(body):
            parameters.omitted.append("reasoning_effort")
        else:
            body.setdefault("thinking", {"type": "enabled", "budget_tokens": budget})
    else:
        body["output_config"] = {"effort": effort, **body.get("output_config", {})}
        if not _forces_a_tool(body):
            body.setdefault("thinking", {"type": "adaptive"})


def _budget(effort: str, max_tokens: Any) -> int | None:
    """The tokens for thinking, at most half of the given limit; None: it is too small."""
    budget = THINKING_TOKENS[effort]
    if isinstance(max_tokens, int):
        budget = min(budget, max_tokens // 2)
    return budget if budget >= _LEAST_BUDGET else None


def _forces_a_tool(body: Mapping[str, Any]) -> bool:
    """Whether the model must call a tool, which the API refuses together with thinking."""
    choice = body.get("tool_choice")
    return isinstance(choice, Mapping) and choice.get("type") in ("any", "tool")


def _fit_sampling(parameters: Parameters, known: Claude) -> None:
    body = parameters.values
    if not known.takes_sampling:
        parameters.omit(*_SAMPLING)
        return
    thinking = body.get("thinking")
    if isinstance(thinking, Mapping) and thinking.get("type") in ("enabled", "adaptive"):
        if body.get("temperature") != 1:
            parameters.omit("temperature")
        parameters.omit("top_k")
        if not 0.95 <= body.get("top_p", 1) <= 1:
            parameters.omit("top_p")
    if known.takes_one_sampler and "temperature" in body:
        parameters.omit("top_p")
