"""`Asker`, called as Ray Data calls it; nothing here needs Ray."""

from __future__ import annotations

import asyncio
import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest

from agentkit import AuthenticationError, LLMManager, MissingDependencyError
from agentkit.integrations.ray import Asker, map_prompts
from agentkit.testing import ScriptedModel, overloaded
from tests.manager import batch_models


def asked(model: ScriptedModel, prompts: list[Any], **options: Any) -> dict[str, list[Any]]:
    def make() -> LLMManager:
        manager = LLMManager(enable_caching=False, breaker=False, max_retries=1)
        manager.register_model("m", model.as_async())
        return manager

    batch = {"prompt": prompts, "id": list(range(len(prompts)))}
    return asyncio.run(Asker(make, **options)(batch))


def test_each_row_gets_its_answer_or_its_error() -> None:
    model = ScriptedModel(then=lambda prompt, options: f"re: {prompt} {options['temperature']}")
    found = asked(model, ["a", None, "b"], options={"temperature": 0.5}, output="out")
    assert found["id"] == [0, 1, 2]
    assert found["out"] == ["re: a 0.5", "", "re: b 0.5"]
    assert found["out_error"][0] == found["out_error"][2] == ""
    assert found["out_error"][1].startswith("RequestValidationError: the prompt must be a string")
    assert found["out_model"] == ["m", "", "m"]
    assert found["out_tokens"][1] == 0
    assert all(math.isnan(cost) for cost in found["out_cost"][::2])


def test_messages_from_arrow_lose_their_empty_fields() -> None:
    class Array(list[Any]):
        def tolist(self) -> list[Any]:
            return list(self)

    model = ScriptedModel(then=lambda prompt, options: f"re: {prompt}")
    messages = [{"role": "user", "content": "hello", "name": None}]
    assert "hello" in asked(model, [Array(messages)])["answer"][0]


def test_an_overload_is_waited_out() -> None:
    model = ScriptedModel(overloaded(), then=lambda prompt, options: "fine")
    assert asked(model, ["a", "b"], max_concurrency=1)["answer"] == ["fine", "fine"]


def test_refused_keys_stop_the_dataset() -> None:
    model = ScriptedModel(then=lambda prompt, options: refuse())
    with pytest.raises(AuthenticationError):
        asked(model, ["a", "b"])


def refuse() -> str:
    raise AuthenticationError("wrong key", status=401)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_error_names_the_extra(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError, match="ray") as missing:
        map_prompts(batch_models.broken, tmp_path / "in.jsonl", tmp_path / "out")
    assert missing.value.hint == 'pip install "agentkit-llms[ray]"'
