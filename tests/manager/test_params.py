"""Parameters of one model, set where it is registered, instead of the caller's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentkit import Budget, BudgetExceededError, ConfigurationError, LLMManager, provider_for
from agentkit.testing import WireServer
from tests.config.files import configured


def seen_by(params: dict[str, Any] | None, **given: Any) -> dict[str, Any]:
    """What a function gets for parameters of a call."""
    seen: dict[str, Any] = {}

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        seen.update(kwargs)
        return "ok"

    with LLMManager(enable_caching=False) as llm:
        llm.register_model("m", model, params=params)
        llm.complete("hello", **given)
    return seen


def test_a_functions_parameters_replace_the_callers() -> None:
    own: dict[str, Any] = {"temperature": 1, "deadline": "of its own"}
    given = {"temperature": 0, "top_p": 0.5}
    assert seen_by(own, **given) == {**own, "top_p": 0.5}
    assert seen_by(None, **given) == given


def test_each_target_of_a_route_has_its_own() -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    def first(prompt: str, kwargs: dict[str, Any]) -> str:
        seen.append(("first", kwargs))
        raise ConnectionError("refused")

    def second(prompt: str, kwargs: dict[str, Any]) -> str:
        seen.append(("second", kwargs))
        return "ok"

    with LLMManager(enable_caching=False, max_retries=1) as llm:
        llm.register_model("first", first, params={"effort": "high"})
        llm.register_model("second", second)
        llm.set_fallback_chain(["first", "second"])
        llm.complete("hello", top_p=0.5)
    assert seen == [("first", {"top_p": 0.5, "effort": "high"}), ("second", {"top_p": 0.5})]


@pytest.mark.wire
def test_a_provider_gets_them_even_if_the_model_is_known_to_refuse_them() -> None:
    with WireServer() as server, LLMManager(enable_caching=False) as llm:
        claude = provider_for(
            "anthropic:claude-opus-5-5", api_key="made-up", base_url=server.anthropic_url
        )
        llm.register_model("fixed", claude, params={"temperature": 0.5, "seed": 1, "user": None})
        llm.register_model("usual", claude)
        fixed = llm.complete("hello", model="fixed", temperature=1, user="someone")
        usual = llm.complete("hello", model="usual", temperature=1, user="someone")
        claude.close()
        bodies = [each.body for each in server.requests]
    assert (bodies[0]["temperature"], bodies[0]["seed"], fixed.omitted) == (0.5, 1, ())
    assert "metadata" not in bodies[0], "None leaves one of the caller's out"
    assert bodies[1]["metadata"] == {"user_id": "someone"}
    assert usual.omitted == ("temperature",)


@pytest.mark.parametrize("same", [True, False])
def test_a_cached_answer_of_other_parameters_is_not_used(same: bool) -> None:
    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        return str(kwargs["temperature"])

    with LLMManager(cache="memory") as llm:
        llm.register_model("m", model, params={"temperature": 0})
        assert llm.complete("hello").text == "0"
        llm.register_model("m", model, params={"temperature": 0 if same else 1}, replace=True)
        reply = llm.complete("hello")
    assert (reply.text, reply.cached) == (("0", True) if same else ("1", False))


def test_a_budget_counts_the_parameters_of_the_model() -> None:
    with LLMManager(enable_caching=False, budget=Budget(tokens=500)) as llm:
        llm.register_model("m", lambda prompt, kwargs: "ok", params={"max_tokens": 1000})
        with pytest.raises(BudgetExceededError):
            llm.complete("hello", max_tokens=10)


def test_params_must_be_a_mapping() -> None:
    with LLMManager() as llm, pytest.raises(ConfigurationError, match="params must be a mapping"):
        llm.register_model("m", lambda prompt, kwargs: "ok", params="temperature=0")  # type: ignore[arg-type]  # what is tested


@pytest.mark.wire
def test_a_configuration_file_sets_them(tmp_path: Path) -> None:
    with WireServer(reply="Paris.") as server:
        text = f"""
providers:
  openai:
    api_keys: made-up
    models: gpt-5
    base_url: {server.openai_url}
    params: {{temperature: 0.5, reasoning_effort: low, user: null}}
"""
        with configured(tmp_path, text) as llm:
            llm.complete("hello", temperature=0, user="someone")
        body = server.requests[0].body
    assert (body["temperature"], body["reasoning_effort"]) == (0.5, "low")
    assert "user" not in body
