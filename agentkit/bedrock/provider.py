"""A Bedrock model by name for any manager: ``"bedrock:Claude 3 Haiku@us-east-1"``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from agentkit.bedrock.catalog.catalog import BedrockModelCatalog
from agentkit.errors import ConfigurationError
from agentkit.providers.bedrock.auth import AuthConfig
from agentkit.providers.bedrock.clients import Clients
from agentkit.providers.bedrock.converse import ConverseTarget
from agentkit.providers.bedrock.regions import check_region
from agentkit.providers.bedrock.routes import DEFAULT_PREFERENCE, ModelAccessMethod
from agentkit.providers.requirements import TransportName, transport_name
from agentkit.providers.transport.options import ConnectionOptions, check_connections

_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


def provider(
    model: str,
    *,
    base_url: str | None = None,
    auth_config: AuthConfig | None = None,
    preference: Sequence[ModelAccessMethod] = DEFAULT_PREFERENCE,
    transport: TransportName | None = None,
    connections: ConnectionOptions | None = None,
    **settings: Any,
) -> ConverseTarget:
    """The provider object of one model in one Region.

    Args:
        model: a name, id or ARN, with ``@region`` appended (default: ``AWS_REGION``).
        base_url: an address to use instead of AWS's own.
        auth_config: the credentials (default: those that the SDK finds).
        preference: ways to the model, the preferred first.
        transport: ``"sdk"`` or ``"native"`` (default: the variable ``AGENTKIT_TRANSPORT``, else
            ``"sdk"``).
        connections: options of the connections, for ``"native"`` only.
        settings: there are none; an API key is refused, as Bedrock needs AWS credentials.

    Raises:
        ConfigurationError: no Region, the model cannot be reached from it, or `connections` are
            given to the SDK.
        UnknownModelError: no model has this name.
    """
    if settings:
        raise ConfigurationError(
            f"a Bedrock model has no setting {', '.join(sorted(settings))}",
            hint="credentials are AWS's: a profile, environment variables, a role, or auth_config=",
        )
    check_connections(connections, transport_name(transport))
    name, _, region = model.rpartition("@") if "@" in model else (model, "", "")
    region = region or next((os.environ[each] for each in _VARIABLES if os.environ.get(each)), "")
    if not region:
        raise ConfigurationError(
            f"bedrock:{model} has no Region", hint="write 'bedrock:<model>@<region>'"
        )
    routes = BedrockModelCatalog(use_api=False).routes(name, check_region(region), preference)
    if not routes:
        raise ConfigurationError(
            f"{name} cannot be reached from {region}",
            hint="`agentkit bedrock catalog list --region` lists what can",
        )
    clients = Clients(auth_config, endpoint_url=base_url, connections=connections)
    return ConverseTarget(name, region, routes, clients, transport=transport)
