"""Prices in a configuration file reach the cost of a call, by the name of each key's model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentkit import ConfigurationError, LLMManager, Price, Response, Usage, get_llm_manager
from agentkit.config import load_settings
from agentkit.config.check import check
from agentkit.testing import WireServer
from tests.config.files import anthropic

PRICES = """
prices:
  large: {cost_per_1k_input_tokens: 1.0, cost_per_1k_output_tokens: 10.0,
          cost_per_1k_cache_read_tokens: 0.1}
  small: {cost_per_1k_input_tokens: 0.01, cost_per_1k_output_tokens: 0.1}
"""
REPLY: Response[None] = Response("fine", Usage(1_000, 100, cache_read_tokens=500))
OF_LARGE = 0.5 * 1.0 + 0.5 * 0.1 + 0.1 * 10.0


@pytest.mark.wire
def test_each_key_has_the_price_of_its_model(tmp_path: Path) -> None:
    file = tmp_path / "llm.yaml"
    with WireServer(reply=REPLY) as server:
        file.write_text(anthropic(server, "[k1, k2]", "models: [large, small]") + PRICES)
        with LLMManager.from_config(load_settings(file, {})) as llm:
            entries = [llm.complete(prompt).ledger[0] for prompt in ("one", "two")]
    assert {(each.model_id, each.cost_estimated): each.cost for each in entries} == {
        ("large", False): pytest.approx(OF_LARGE),
        ("small", True): pytest.approx(0.02),
    }


@pytest.mark.wire
def test_a_changed_price_applies_to_the_next_call(tmp_path: Path) -> None:
    file = tmp_path / "llm.yaml"

    async def cost() -> tuple[LLMManager, float | None]:
        llm = await get_llm_manager(file)
        return llm, (await llm.acomplete("hi", use_cache=False)).cost

    async def main(text: str) -> None:
        file.write_text(text)
        llm, unpriced = await cost()
        file.write_text(text + PRICES)
        again, priced = await cost()
        assert again is llm
        assert unpriced is None
        assert priced == pytest.approx(OF_LARGE)
        await llm.aclose()

    with WireServer(reply=REPLY) as server:
        asyncio.run(main(anthropic(server, "[k1]", "models: large")))


def test_a_price_of_no_model_is_noted_with_a_close_name(tmp_path: Path) -> None:
    file = tmp_path / "llm.yaml"
    text = "providers:\n  openai:\n    api_keys: k\n    models: larg\n"
    file.write_text(text + PRICES)
    settings = load_settings(file, {})
    assert settings.prices["large"] == Price(1.0, 10.0, 0.1)
    notes = {each.where: each.remedy for each in check(settings, {}).findings}
    assert notes["prices.large"] == "did you mean `larg`?"
    assert "prices.small" in notes


@pytest.mark.parametrize(
    "wrong", ["{cost_per_1k_input_tokens: 1}", "{cost: 1}", "-1", "{cost_per_1k_tokens: 1}"]
)
def test_a_price_with_a_mistake_is_an_error_with_its_line(tmp_path: Path, wrong: str) -> None:
    file = tmp_path / "llm.yaml"
    text = f"providers:\n  openai:\n    api_keys: k\n    models: m\nprices:\n  m: {wrong}\n"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"llm\.yaml:6.*prices"):
        load_settings(file, {})
