"""What an agent is made of, and what is refused with a remedy."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from agentkit.agent.agent import Agent
from agentkit.errors import ConfigurationError
from tests.agent.fakes import FakeManager


def test_an_agent_shows_what_it_was_given() -> None:
    manager: Any = FakeManager()
    config = {"llm_manager": manager, "temperature": 0.2}
    agent = Agent("AIAssistant", "General Assistant", ["conversation", "analysis"], config)
    assert agent.name == "AIAssistant"
    assert agent.role == "General Assistant"
    assert agent.capabilities == ("conversation", "analysis")
    assert agent.llm_manager is manager
    assert agent.config["temperature"] == 0.2
    assert agent.status == "initialized"
    assert uuid.UUID(agent.id).version == 4
    assert repr(agent) == "<Agent AIAssistant (General Assistant): initialized>"


def test_an_agent_needs_neither_capabilities_nor_config() -> None:
    agent = Agent("a", "b")
    assert agent.capabilities == ()
    assert dict(agent.config) == {}
    assert agent.llm_manager is None


def test_two_agents_have_two_ids() -> None:
    assert Agent("a", "b").id != Agent("a", "b").id


def test_the_config_is_a_read_only_copy() -> None:
    given: dict[str, Any] = {"depth": 1}
    agent = Agent("a", "b", config=given)
    given["depth"] = 2
    assert agent.config["depth"] == 1
    with pytest.raises(TypeError):
        agent.config["depth"] = 3  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": ""}, "name is ''"),
        ({"name": "  "}, "name is '  '"),
        ({"name": 7}, "name is 7"),
        ({"role": ""}, "role is ''"),
        ({"role": None}, "role is None"),
        ({"capabilities": "conversation"}, "'conversation'"),
        ({"capabilities": b"x"}, "b'x'"),
        ({"capabilities": None}, "None"),
        ({"capabilities": ["fine", ""]}, "capability is ''"),
        ({"capabilities": [3]}, "capability is 3"),
        ({"config": [("llm_manager", None)]}, "list"),
        ({"config": {"llm_manager": "gpt-4"}}, "type str"),
    ],
)
def test_a_bad_value_is_named_with_its_remedy(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Agent(**{"name": "a", "role": "b", **arguments})
    assert named in caught.value.message
    assert caught.value.hint


def test_no_value_of_a_config_is_written_into_an_error() -> None:
    """A config may hold a key."""
    canary: Any = {"llm_manager": "canary-4711"}
    with pytest.raises(ConfigurationError) as caught:
        Agent("a", "b", config=canary)
    assert "canary" not in str(caught.value)
