"""Bedrock models by name on any manager, in a chain with others."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import ConfigurationError, LLMManager, Message, RetryPolicy, UnknownModelError
from agentkit.bedrock import provider as spec
from agentkit.providers.bedrock.converse import ConverseTarget
from agentkit.providers.registry import provider_for
from agentkit.testing import ScriptedModel
from tests.bedrock.runtime import FakeClients, throttled


def test_the_name_and_region_make_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    target = provider_for("bedrock:Claude 3 Haiku@us-east-1")
    assert isinstance(target, ConverseTarget)
    assert (target.model, target.region) == ("Claude 3 Haiku", "us-east-1")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert provider_for("bedrock:Claude 3 Haiku").region == "eu-central-1"


def test_it_stands_in_a_chain_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = FakeClients("Paris", then=throttled())
    monkeypatch.setattr(spec, "Clients", lambda *args, **how: clients)
    llm = LLMManager(enable_caching=False, retry=RetryPolicy(max_attempts=1))
    llm.register_model("claude", "bedrock:Claude 3 Haiku@us-east-1")
    llm.register_model("own", ScriptedModel(then="fallback"))
    llm.set_fallback_chain(["claude", "own"])
    talk = [Message("system", "be brief"), Message("user", "hi")]
    first = llm.complete(talk, max_tokens=9, temperature=0, top_k=3)
    assert (first.text, first.usage.total_tokens) == ("Paris", 5)
    _, sent = clients.asked[0]
    assert sent["system"] == [{"text": "be brief"}]
    assert sent["inferenceConfig"] == {"maxTokens": 9, "temperature": 0}
    assert sent["additionalModelRequestFields"] == {"top_k": 3}
    assert llm.complete(talk).text == "fallback"


@pytest.mark.parametrize(
    ("text", "how", "error"),
    [
        ("bedrock:Claude 3 Haiku", {}, ConfigurationError),
        ("bedrock:Claude 3 Haiku@mars", {}, ConfigurationError),
        ("bedrock:Claude 3 Hiaku@us-east-1", {}, UnknownModelError),
        ("bedrock:Claude 3 Haiku@us-east-1", {"api_key": "k"}, ConfigurationError),
    ],
)
def test_what_cannot_work_is_refused(
    text: str, how: dict[str, Any], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(error):
        provider_for(text, **how)
