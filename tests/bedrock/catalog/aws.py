"""The control plane of Bedrock, answered by botocore's Stubber, a client a Region."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import boto3
from botocore.stub import Stubber

from agentkit.bedrock import AuthConfig, Clients

KEYS = AuthConfig("credentials", access_key="k", secret_key="s")


def summary(id_: str, *kinds: str, name: str = "", **more: Any) -> dict[str, Any]:
    """One row of ListFoundationModels."""
    return {
        "modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{id_}",
        "modelId": id_,
        "modelName": name or id_,
        "providerName": "Maker",
        "inputModalities": ["TEXT", "IMAGE"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": True,
        "inferenceTypesSupported": list(kinds or ("ON_DEMAND",)),
        "modelLifecycle": {"status": "ACTIVE"},
        **more,
    }


def profile(id_: str) -> dict[str, Any]:
    """One row of ListInferenceProfiles."""
    return {
        "inferenceProfileName": id_,
        "inferenceProfileArn": f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{id_}",
        "inferenceProfileId": id_,
        "models": [{"modelArn": "arn:aws:bedrock:us-east-1::foundation-model/m"}],
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
    }


@functools.cache
def _session() -> Any:
    """One for all tests: a session's first client costs most."""
    return boto3.Session("k", "s")


class ControlPlane(Clients):
    """Clients whose answers are given beforehand, by Region."""

    def __init__(self) -> None:
        super().__init__(KEYS)
        self.stubs: dict[str, Stubber] = {}
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda _: None
        self._making = threading.Lock()

    def answer(self, region: str, models: list[Any], profiles: list[Any] = []) -> None:  # noqa: B006
        stub = self._stub(region)
        stub.add_response("list_foundation_models", {"modelSummaries": models})
        stub.add_response("list_inference_profiles", {"inferenceProfileSummaries": profiles})

    def fail(self, region: str, code: str) -> None:
        self._stub(region).add_client_error("list_foundation_models", code)

    def get(self, service: str, region: str, *, timeout: float | None = None) -> Any:
        assert service == "bedrock"
        assert timeout
        self.asked.append(region)
        self.before(region)
        return self._stub(region).client

    def _stub(self, region: str) -> Stubber:
        with self._making:
            if region not in self.stubs:
                client = _session().client("bedrock", region_name=region)
                self.stubs[region] = Stubber(client)
                self.stubs[region].activate()
            return self.stubs[region]
