"""An agent runs its tools with every provider, over real sockets."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import Agent, LLMManager, Response
from agentkit.testing import WireServer
from agentkit.types import ToolCall
from tests.providers.contract import PROVIDERS

pytestmark = pytest.mark.wire

CALLS = (
    ToolCall("call_a", "weather", {"city": "Köln"}),
    ToolCall("call_b", "weather", {"city": "Bonn"}),
)


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


@pytest.mark.parametrize("name", PROVIDERS)
def test_results_come_back_in_the_order_of_the_calls(name: str) -> None:
    replies: list[Any] = [Response("", tool_calls=CALLS), "It rains in both."]
    with WireServer() as server, LLMManager(enable_caching=False) as llm:
        server.script(*replies)
        adapter = PROVIDERS[name].make(server)
        llm.register_model("only", adapter)
        agent = Agent(name="a", role="r", config={"llm_manager": llm})
        agent.start()
        result = agent.run("Where does it rain?", tools=[weather])
        agent.stop()
        adapter.close()
        body = str(server.requests[-1].body)
    assert result.text == "It rains in both."
    assert body.index("rain in Köln") < body.index("rain in Bonn")
