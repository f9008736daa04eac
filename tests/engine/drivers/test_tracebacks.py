"""An uncaught error shows the frames of the user's functions, not those of the engine."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import Agent, AllModelsFailedError, LLMError, LLMManager, RetryPolicy
from agentkit.testing import ScriptedModel
from tests.helpers import agenerate, generate, manager_of, stream


def refused(prompt: str, kwargs: dict[str, Any]) -> str:
    raise ConnectionError("refused")


async def broken(prompt: str, kwargs: dict[str, Any]) -> str:
    raise ValueError("broken")


def astream(llm: LLMManager) -> str:
    async def main() -> str:
        return "".join([piece async for piece in llm.astream("hi")])

    return asyncio.run(main())


def manager(*models: Any) -> LLMManager:
    return manager_of(*models, retry=RetryPolicy(max_attempts=2))


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("ask", [generate, agenerate, stream, astream])
def test_engine_frames_are_hidden_and_the_causes_frames_are_kept(
    ask: Callable[[LLMManager], str],
) -> None:
    with pytest.raises(AllModelsFailedError) as caught:
        ask(manager(refused, broken))
    text = printed(caught.value)
    assert "agentkit/engine/request" not in text
    assert "agentkit/providers" not in text
    assert 'raise ConnectionError("refused")' in text
    assert 'raise ValueError("broken")' in text
    ends = [line.strip(" |") for line in text.splitlines()]
    assert ends.count("ConnectionError: refused") == 1
    assert "During handling" not in text
    assert __file__ in text.split("Error", 1)[0]


def test_the_error_of_a_single_model_keeps_the_frames_of_its_function() -> None:
    with pytest.raises(LLMError) as caught:
        manager(refused).generate("hi")
    text = printed(caught.value)
    assert "agentkit/engine" not in text
    assert 'raise ConnectionError("refused")' in text


def test_a_variable_keeps_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_TRACEBACK", "full")
    with pytest.raises(LLMError) as caught:
        manager(refused).generate("hi")
    assert "agentkit/engine/request" in printed(caught.value)


def test_an_exception_without_frames_of_the_user_keeps_its_innermost_one() -> None:
    with pytest.raises(LLMError) as caught:
        manager(ScriptedModel(then=KeyError("inside"))).generate("hi")
    cause = caught.value.__cause__
    assert cause is not None
    (frame,) = traceback.extract_tb(cause.__traceback__)
    assert "agentkit/testing" in frame.filename


def test_the_error_that_the_caller_was_handling_stays_in_the_chain() -> None:
    def handle() -> None:
        try:
            int("first")
        except ValueError:
            manager().generate("hi")

    with pytest.raises(LLMError) as caught:
        handle()
    assert "ValueError: invalid literal" in printed(caught.value)


def test_the_message_has_a_line_for_each_model() -> None:
    llm = manager(refused, broken)
    llm.register_model("tripped", refused)
    llm.set_fallback_chain(["m0", "tripped", "m1"])
    for _ in range(5):
        with pytest.raises(LLMError):
            llm.generate("hi", model="tripped")
    with pytest.raises(AllModelsFailedError) as caught:
        llm.generate("hi")
    first, *lines = caught.value.message.splitlines()
    assert first == "all 3 models failed:"
    assert [line.split(" (")[0] for line in lines] == [
        "  m0: NetworkError",
        "  tripped: CircuitOpenError",
        "  m1: ProviderError",
    ]
    part = caught.value.subgroup(ConnectionError)
    assert part is not None
    assert part.message.splitlines() == [first, lines[0]]


def test_an_error_that_telemetry_has_no_type_for_is_shown_by_its_class() -> None:
    llm = manager(broken)
    with pytest.raises(LLMError) as caught:
        llm.generate("hi")
    assert str(caught.value.ledger) == "m0 ✗ ProviderError"
    assert llm.get_status()["metrics"]["errors_by_type"] == {"ProviderError": 1}


def test_the_frames_of_an_agent_are_hidden_too() -> None:
    agent = Agent("a", "helper", config={"llm_manager": manager(refused, broken)})
    agent.start()
    with pytest.raises(AllModelsFailedError) as caught:
        agent.run("hi")
    text = printed(caught.value)
    assert "agentkit/agent/loop" not in text
    assert "agentkit/agent/run.py" not in text
    assert 'raise ValueError("broken")' in text
