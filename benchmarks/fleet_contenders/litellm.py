"""LiteLLM's Router with Redis: its limit is checked before each call, its cooldown is shared."""

# mypy: disable-error-code="import-not-found, misc"
# The peer lives in its own environment, where types are not checked.

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its price list, without asking the network

import asyncio
from typing import Any

import litellm
from litellm import CustomLLM, Router
from litellm.llms.custom_llm import CustomLLMError

from benchmarks.fleet_contenders import harness

UPSTREAM = harness.Upstream()
OPTIONS = harness.options()


class Provider(CustomLLM):
    async def acompletion(self, model: str, *args: Any, model_response: Any, **kwargs: Any) -> Any:
        if OPTIONS["work"] == "limit":
            await UPSTREAM.limited()
        elif model == "primary":
            try:
                await UPSTREAM.failing()
            except harness.ProviderDownError:
                raise CustomLLMError(503, "down") from None
        model_response.choices[0].message.content = "ok"
        return model_response


def router() -> Any:
    primary: dict[str, Any] = {"model": "local/primary"}
    given: dict[str, Any] = {"redis_url": OPTIONS["url"], "num_retries": 0}
    if OPTIONS["work"] == "limit":
        primary["rpm"] = harness.LIMIT
        given["optional_pre_call_checks"] = ["enforce_model_rate_limits"]
    else:
        given["allowed_fails"] = harness.THRESHOLD - 1
        given["cooldown_time"] = harness.RECOVERY
        given["fallbacks"] = [{"m": ["spare"]}]
    models = [
        {"model_name": "m", "litellm_params": primary, "model_info": {"id": "primary"}},
        {"model_name": "spare", "litellm_params": {"model": "local/spare"}},
    ]
    return Router(model_list=models, **given)


async def main() -> None:
    litellm.custom_provider_map = [{"provider": "local", "custom_handler": Provider()}]
    litellm.suppress_debug_info = True
    routes = router()
    message = [{"role": "user", "content": "hello"}]
    await harness.work(UPSTREAM, lambda: routes.acompletion("m", message), OPTIONS)


asyncio.run(main())
