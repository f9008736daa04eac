"""The manager of Bedrock models: many models, many Regions, one answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentkit.bedrock.catalog.cache import CacheMode
from agentkit.bedrock.catalog.catalog import BedrockModelCatalog
from agentkit.bedrock.converse_request import BedrockConverseRequest
from agentkit.bedrock.deprecated import CatalogAdapter
from agentkit.bedrock.dispatch import Dispatcher, PreparedRequest, prepare
from agentkit.bedrock.messages.cache_points import CacheConfig
from agentkit.bedrock.options import ModelSpecificConfig, ResponseValidationConfig, RetryConfig
from agentkit.bedrock.response import BedrockResponse
from agentkit.bedrock.stream import AsyncStreamingResponse, StreamingResponse
from agentkit.bedrock.targets import Targets
from agentkit.errors import AuthenticationError, ConfigurationError, LLMError
from agentkit.policy.validation import number
from agentkit.providers.bedrock.auth import AuthConfig
from agentkit.providers.bedrock.clients import Boto3Config, Clients
from agentkit.providers.bedrock.regions import check_region
from agentkit.providers.requirements import TransportName, transport_name
from agentkit.providers.transport.options import ConnectionOptions, check_connections
from agentkit.telemetry.otel import Telemetry
from agentkit.types.context import AsyncClosing, Closing


class LLMManager(Closing, AsyncClosing):
    """Sends requests to the given models in the given Regions until one answers.

    Each model in each Region is a target with its own circuit breaker. A request tries one target
    after the other, each once per round, until there is an answer, the attempts are used up or
    `timeout` has passed. It does not wait before a target that it has not tried yet. Making a
    manager fetches nothing. Safe to use from many threads and event loops.

    Args:
        models: names (``"Claude 3 Haiku"``), model ids or ARNs, the preferred first.
        regions: Region codes, the preferred first.
        auth_config: the credentials (default: those that the SDK finds).
        boto3_config: limits of the connections.
        retry_config: attempts, delays and the order of the targets.
        cache_config: where cache points are placed in prompts (default: nowhere).
        unified_model_manager: a catalogue to use, or any object that has
            ``get_model_access_info(model_name, region)``.
        catalog_cache_mode, catalog_cache_directory, force_refresh, ignore_cache_age: see
            `BedrockModelCatalog`.
        force_download: the same as `force_refresh`.
        strict_cache_mode: use neither an expired catalogue cache nor the bundled data.
        default_inference_config: ``inferenceConfig`` of every request, unless it has its own.
        model_specific_config: fields for particular models, by name or one for all.
        timeout: seconds for one request, with everything that it waits for (default 300).
        log_level: accepted, without effect: the application configures loggers.
        raise_on_failure: False returns an unsuccessful `BedrockResponse` instead of raising.
        max_concurrency: requests of asyncio callers that run at once through boto3, each on a
            thread (default 50); the native transport has no such limit.
        telemetry: see `agentkit.LLMManager`.
        endpoint_url: an address to use instead of AWS's own.
        clients: connections to share with another manager.
        transport: ``"sdk"``, boto3, or ``"native"``, agentkit's own HTTP client with the
            credentials of boto3, which needs no threads (default: the variable
            ``AGENTKIT_TRANSPORT``, else ``"sdk"``).
        connections: options of the connections of ``"native"``, instead of `boto3_config`'s
            ``connect_timeout`` and ``max_pool_connections``.

    Raises:
        ConfigurationError: no models or Regions, an invalid Region, a value out of range, or
            `connections` are given to boto3.
        UnknownModelError: no model has this name; the message suggests close ones.
        MissingDependencyError: the extra ``native`` is needed and not installed.
    """

    def __init__(
        self,
        models: Sequence[str],
        regions: Sequence[str],
        auth_config: AuthConfig | None = None,
        boto3_config: Boto3Config | None = None,
        retry_config: RetryConfig | None = None,
        cache_config: CacheConfig | None = None,
        unified_model_manager: Any = None,
        catalog_cache_mode: CacheMode = CacheMode.FILE,
        catalog_cache_directory: Path | str | None = None,
        force_download: bool = False,
        force_refresh: bool = False,
        strict_cache_mode: bool = False,
        ignore_cache_age: bool = False,
        default_inference_config: Mapping[str, Any] | None = None,
        model_specific_config: Mapping[str, Any] | ModelSpecificConfig | None = None,
        timeout: float = 300,
        log_level: int = logging.WARNING,
        *,
        catalog: BedrockModelCatalog | None = None,
        raise_on_failure: bool = True,
        max_concurrency: int = 50,
        telemetry: Telemetry | None = None,
        endpoint_url: str | None = None,
        clients: Clients | None = None,
        transport: TransportName | None = None,
        connections: ConnectionOptions | None = None,
    ) -> None:
        check_connections(
            connections,
            transport_name(transport),
            hint="choose transport='native', or give boto3_config=, which is boto3's",
        )
        self._models = _listed("models", models)
        self._regions = [check_region(region) for region in _listed("regions", regions)]
        self._retry = retry_config or RetryConfig()
        self._timeout = number("timeout", timeout, above=True)
        self._inference = dict(default_inference_config or {})
        self._specific = model_specific_config
        self._cache_config = cache_config
        self._raises = raise_on_failure
        self._owned = clients is None
        self._clients = clients or Clients(
            auth_config,
            boto3_config,
            concurrency=max_concurrency,
            endpoint_url=endpoint_url,
            connections=connections,
        )
        given: Any = catalog or unified_model_manager
        if given is not None and not isinstance(given, BedrockModelCatalog):
            given = CatalogAdapter(given)
        self._catalog: BedrockModelCatalog = given or BedrockModelCatalog(
            self._clients,
            cache_mode=catalog_cache_mode,
            cache_directory=catalog_cache_directory,
            force_refresh=force_refresh or force_download,
            fallback_to_bundled=not strict_cache_mode,
            ignore_cache_age=ignore_cache_age,
            use_api=force_refresh or force_download,
        )
        self._targets = Targets(
            self._models,
            self._regions,
            catalog=self._catalog,
            clients=self._clients,
            retry=self._retry,
            timeout=self._timeout,
            telemetry=telemetry,
            transport=transport,
        )
        self._dispatcher = Dispatcher(self._targets, self._timeout)

    def converse(
        self,
        messages: Sequence[Mapping[str, Any]],
        system: Sequence[Mapping[str, Any]] | None = None,
        inference_config: Mapping[str, Any] | None = None,
        additional_model_request_fields: Mapping[str, Any] | None = None,
        additional_model_response_field_paths: Sequence[str] | None = None,
        guardrail_config: Mapping[str, Any] | None = None,
        tool_config: Mapping[str, Any] | None = None,
        request_metadata: Mapping[str, str] | None = None,
        prompt_variables: Mapping[str, Any] | None = None,
        response_validation_config: ResponseValidationConfig | None = None,
        **options: Any,
    ) -> BedrockResponse:
        """Send a conversation and return the answer.

        Args:
            messages: the conversation, as `MessageBuilder` builds it.
            system: system blocks.
            inference_config: over the manager's defaults.
            additional_model_request_fields: model-specific fields.
            additional_model_response_field_paths: JSON pointers into the model's own response.
            guardrail_config: never left out, even if a model refuses it.
            tool_config: the tools.
            request_metadata: for the service's own logs.
            prompt_variables: of a managed prompt.
            response_validation_config: validation of responses, with a new request for each
                rejected one.
            options: output_config, performance_config, service_tier, model_specific_config,
                enable_extended_context, timeout (seconds), raises (over raise_on_failure).

        Raises:
            RequestValidationError: the request is invalid; nothing was sent.
            RetryExhaustedError: no target answered; `.response` has the attempts.
            AuthenticationError: every target refused the credentials.
            LLMError: anything else that ended the request.
        """
        raises = options.pop("raises", self._raises)
        prepared = self._prepare(
            {
                "messages": messages,
                "system": system,
                "inference_config": inference_config,
                "additional_model_request_fields": additional_model_request_fields,
                "additional_model_response_field_paths": additional_model_response_field_paths,
                "guardrail_config": guardrail_config,
                "tool_config": tool_config,
                "request_metadata": request_metadata,
                "prompt_variables": prompt_variables,
            },
            options,
            response_validation_config,
        )
        return self._dispatcher.run(prepared, raises=raises)

    async def aconverse(
        self,
        messages: Sequence[Mapping[str, Any]],
        system: Sequence[Mapping[str, Any]] | None = None,
        inference_config: Mapping[str, Any] | None = None,
        additional_model_request_fields: Mapping[str, Any] | None = None,
        additional_model_response_field_paths: Sequence[str] | None = None,
        guardrail_config: Mapping[str, Any] | None = None,
        tool_config: Mapping[str, Any] | None = None,
        request_metadata: Mapping[str, str] | None = None,
        prompt_variables: Mapping[str, Any] | None = None,
        response_validation_config: ResponseValidationConfig | None = None,
        **options: Any,
    ) -> BedrockResponse:
        """Like `converse`, for asyncio."""
        raises = options.pop("raises", self._raises)
        prepared = self._prepare(
            {
                "messages": messages,
                "system": system,
                "inference_config": inference_config,
                "additional_model_request_fields": additional_model_request_fields,
                "additional_model_response_field_paths": additional_model_response_field_paths,
                "guardrail_config": guardrail_config,
                "tool_config": tool_config,
                "request_metadata": request_metadata,
                "prompt_variables": prompt_variables,
            },
            options,
            response_validation_config,
        )
        return await self._dispatcher.arun(prepared, raises=raises)

    def converse_stream(
        self, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> StreamingResponse:
        """The answer as a stream; the options are those of `converse`, without validation.

        Every target may be tried until the first content. A stream that breaks after it continues
        at the next target whose model accepts a partial answer; without one, it raises
        `StreamInterruptedError`. No text is repeated.
        """
        prepared = self._prepare_stream(messages, options)
        return StreamingResponse(self._dispatcher.stream(prepared), self._targets)

    def aconverse_stream(
        self, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> AsyncStreamingResponse:
        """Like `converse_stream`, for ``async for``; itself not a coroutine."""
        prepared = self._prepare_stream(messages, options)
        return AsyncStreamingResponse(self._dispatcher.astream(prepared), self._targets)

    def converse_with_request(
        self,
        request: BedrockConverseRequest,
        response_validation_config: ResponseValidationConfig | None = None,
        **options: Any,
    ) -> BedrockResponse:
        """Like `converse`, with the fields of `request`."""
        return self.converse(
            **request.arguments(), response_validation_config=response_validation_config, **options
        )

    async def aconverse_with_request(
        self,
        request: BedrockConverseRequest,
        response_validation_config: ResponseValidationConfig | None = None,
        **options: Any,
    ) -> BedrockResponse:
        """Like `converse_with_request`, for asyncio."""
        return await self.aconverse(
            **request.arguments(), response_validation_config=response_validation_config, **options
        )

    def warm_up(self, connections: int = 1) -> dict[str, LLMError]:
        """Look for credentials, and open connections to each Region ahead of the first call.

        As `agentkit.LLMManager.warm_up`, which says what is opened over which transport.

        Args:
            connections: how many are to be idle for each Region, at most 100.

        Returns:
            What failed, by ``<model> @ <region>``; empty if every connection is open.

        Raises:
            ConfigurationError: `connections` is not a number from 1 on, or the manager is closed.
        """
        return self._targets.core.warm_up(connections=connections)

    async def awarm_up(self, connections: int = 1) -> dict[str, LLMError]:
        """Like `warm_up`, for calls in the running event loop."""
        return await self._targets.core.awarm_up(connections=connections)

    def get_available_models(self) -> list[str]:
        """The configured models, in order."""
        return list(self._models)

    def get_available_regions(self) -> list[str]:
        """The configured Regions, in order."""
        return list(self._regions)

    def get_model_access_info(self, model_name: str, region: str) -> dict[str, Any] | None:
        """The ways to a model from a Region; None if there is none."""
        info = self._catalog.get_model_access_info(model_name, region)
        return None if info is None else info.to_dict()

    def get_retry_stats(self) -> dict[str, Any]:
        """max_retries, retry_strategy, feature fallback, and how many error names are set."""
        return {
            "max_retries": self._retry.max_retries,
            "retry_strategy": self._retry.retry_strategy.value,
            "enable_feature_fallback": self._retry.enable_feature_fallback,
            "retryable_error_count": len(self._retry.retryable),
            "access_error_count": 0,
            "non_retryable_error_count": len(self._retry.non_retryable),
        }

    def get_metrics(self) -> dict[str, Any]:
        """The engine's own totals; see `agentkit.LLMManager.get_metrics`."""
        return self._targets.core.get_metrics()

    def validate_configuration(self) -> dict[str, Any]:
        """What works and what does not; sends no request to a model.

        Making the first client may look for credentials on this machine, as the SDK does.

        Keys: valid, errors, warnings, model_region_combinations, auth_status.
        """
        errors = [] if self._targets.names else ["no model can be reached from any of the Regions"]
        warnings = list(self._targets.warnings)
        if self._retry.max_attempts < len(self._targets.names):
            warnings.append(
                f"{self._retry.max_attempts} attempts for {len(self._targets.names)} targets: "
                "the last ones are never asked; raise max_attempts"
            )
        try:
            self._clients.runtime(self._regions[0])
            auth_status = "configured"
        except (AuthenticationError, ConfigurationError) as error:
            auth_status = "failed"
            errors.append(str(error))
        return {
            "valid": not errors,
            "errors": errors,
            "warnings": warnings,
            "model_region_combinations": len(self._targets.names),
            "auth_status": auth_status,
        }

    def refresh_model_data(self) -> None:
        """Fetch the catalogue from AWS. Raises `APIFetchError` if no Region answers."""
        self._catalog.refresh_catalog()
        self._targets.refresh()

    def close(self) -> None:
        """Release threads and connections. Closing twice is harmless."""
        self._targets.core.close()
        if self._owned:
            self._clients.close()

    async def aclose(self) -> None:
        """Like `close`, for asyncio."""
        await self._targets.core.aclose()
        if self._owned:
            await self._clients.aclose()

    def __repr__(self) -> str:
        return f"<LLMManager {', '.join(self._models)} in {', '.join(self._regions)}>"

    def _prepare_stream(self, messages: Any, options: dict[str, Any]) -> PreparedRequest:
        given = {name: options.pop(name, None) for name in _FIELDS}
        return self._prepare({"messages": messages, **given}, options)

    def _prepare(
        self,
        given: dict[str, Any],
        options: dict[str, Any],
        validation: ResponseValidationConfig | None = None,
    ) -> PreparedRequest:
        inference = {**self._inference, **(given["inference_config"] or {})}
        return prepare(
            {**given, "inference_config": inference or None},
            options,
            validation,
            specific=self._specific,
            cache_config=self._cache_config,
            fallback=self._retry.enable_feature_fallback,
        )


_FIELDS = (
    "system",
    "inference_config",
    "additional_model_request_fields",
    "additional_model_response_field_paths",
    "guardrail_config",
    "tool_config",
    "request_metadata",
    "prompt_variables",
)


def _listed(name: str, values: Any) -> list[str]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigurationError(f"{name} must be a list of names, got {values!r}")
    found = list(dict.fromkeys(values))
    if not found or not all(isinstance(each, str) and each.strip() for each in found):
        raise ConfigurationError(
            f"{name} is {list(values)!r}", hint=f"name at least one, e.g. {_EXAMPLES[name]}"
        )
    return found


_EXAMPLES = {"models": "['Claude 3 Haiku']", "regions": "['us-east-1']"}
