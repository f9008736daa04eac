"""Groq, whose API is OpenAI's chat completions."""

from __future__ import annotations

from typing import ClassVar

from agentkit.providers.model_table import groq_efforts
from agentkit.providers.openai.chat import OpenAIChat
from agentkit.providers.parameters import GROQ, Parameters
from agentkit.providers.transport.http import HttpApi
from agentkit.providers.transport.sdk import SdkMethod
from agentkit.types import Request

_SERVICE_TIERS = ("auto", "on_demand", "flex", "performance")


class Groq(OpenAIChat):
    """A model at Groq, through Groq's own SDK."""

    provider: ClassVar[str] = "groq"
    sdk_method: ClassVar[SdkMethod] = SdkMethod("groq", "Groq", "chat.completions")
    http_api: ClassVar[HttpApi] = HttpApi(
        "/openai/v1/chat/completions", "https://api.groq.com", "GROQ"
    )
    parameter_names: ClassVar[frozenset[str] | None] = GROQ
    stream_usage: ClassVar[bool] = False
    daily_requests: ClassVar[bool] = True

    def fit_to_model(self, request: Request, parameters: Parameters) -> None:
        """Leave out of `parameters` what the model is known to refuse."""
        parameters.omit_unless("service_tier", _SERVICE_TIERS)
        effort = parameters.take_effort(groq_efforts(self.model))
        if effort is not None:
            parameters.values["reasoning_effort"] = effort

    def http_headers(self) -> dict[str, str]:
        """The key alone."""
        return {"Authorization": f"Bearer {self.find_key()}"}
