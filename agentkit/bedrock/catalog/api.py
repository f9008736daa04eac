"""The models of each Region, fetched from AWS within a time limit."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

from agentkit.bedrock.catalog.model_ids import base_id
from agentkit.bedrock.catalog.models import UnifiedModelInfo
from agentkit.errors import APIFetchError, LLMError
from agentkit.providers.bedrock.regions import GeographicArea, area_of
from agentkit.providers.bedrock.sessions import explain

_logger = logging.getLogger(__name__)
_SOCKET_TIMEOUT: Final = 10.0
"""Seconds; so that a late thread does not outlive its catalogue by much."""
_SOURCE: Final = "ListFoundationModels, ListInferenceProfiles"
_USABLE: Final = {"ON_DEMAND", "INFERENCE_PROFILE"}


@dataclass(slots=True)
class Fetched:
    """The answer of AWS: models by id, the Regions that answered, and why others did not."""

    models: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    direct: dict[str, set[str]] = field(default_factory=dict)
    profiles: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    regions: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)


def fetch(clients: Any, regions: Iterable[str], *, timeout: float, max_workers: int) -> Fetched:
    """The models of `regions`, with up to `max_workers` threads, in at most `timeout` seconds.

    A Region that fails or is late is listed in `failures` and does not affect the others.

    Raises:
        APIFetchError: no Region answered.
    """
    fetched = Fetched()
    pool = ThreadPoolExecutor(max_workers, "agentkit-bedrock-catalog")
    try:
        asked = {pool.submit(_ask, clients, region, timeout): region for region in regions}
        done, late = wait(asked, timeout=timeout)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    fetched.failures.update({asked[future]: "no answer in time" for future in late})
    for future, region in asked.items():
        if future not in done:
            continue
        if (error := future.exception()) is None:
            _add(fetched, region, *future.result())
        else:
            fetched.failures[region] = _reason(error)
    if fetched.failures:
        _logger.info("Regions without an answer: %s", fetched.failures)
    if not fetched.regions:
        why = "; ".join(sorted(set(fetched.failures.values()))) or "no Region was given"
        raise APIFetchError(
            f"no Region listed its models: {why}",
            failures=fetched.failures,
            hint="check credentials, network and the permissions bedrock:ListFoundationModels and "
            "bedrock:ListInferenceProfiles",
        )
    return fetched


def merge(
    known: Iterable[UnifiedModelInfo], fetched: Fetched, today: str
) -> tuple[UnifiedModelInfo, ...]:
    """The `known` models, updated with the answer of AWS on the day `today` (ISO).

    What is known about Regions that did not answer is kept. So is a model that no Region lists any
    more; it is marked as retired once every commercial Region it was in has answered.
    """
    models = {model.model_id: model for model in known}
    for id_, row in fetched.models.items():
        models[id_] = _updated(models.get(id_), id_, row, fetched, today)
    for id_, model in models.items():
        places = {one for one in model.regions if area_of(one) is not GeographicArea.GOV}
        if id_ not in fetched.models and places and places <= fetched.regions:
            models[id_] = dataclasses.replace(model, retired=True)
    return tuple(models[id_] for id_ in sorted(models))


def _ask(clients: Any, region: str, timeout: float) -> tuple[list[Any], list[Any]]:
    client = clients.get("bedrock", region, timeout=min(timeout, _SOCKET_TIMEOUT))
    models = client.list_foundation_models()["modelSummaries"]
    pages = client.get_paginator("list_inference_profiles").paginate(typeEquals="SYSTEM_DEFINED")
    return models, [one for page in pages for one in page["inferenceProfileSummaries"]]


def _add(fetched: Fetched, region: str, models: list[Any], profiles: list[Any]) -> None:
    fetched.regions.add(region)
    for row in models:
        kinds = set(row.get("inferenceTypesSupported", ()))
        if kinds & _USABLE:  # others are variants for provisioned throughput
            fetched.models.setdefault(row["modelId"], row)
            if "ON_DEMAND" in kinds:
                fetched.direct.setdefault(row["modelId"], set()).add(region)
    for row in profiles:
        if row.get("status", "ACTIVE") == "ACTIVE":
            id_ = row["inferenceProfileId"]
            of_model = fetched.profiles.setdefault(base_id(id_), {})
            of_model.setdefault(id_, set()).add(region)


def _updated(
    old: UnifiedModelInfo | None, id_: str, row: Mapping[str, Any], fetched: Fetched, today: str
) -> UnifiedModelInfo:
    """The row of AWS, with what was known about the Regions that did not answer."""
    silent = {} if old is None else {one: at - fetched.regions for one, at in old.profiles.items()}
    now = fetched.profiles.get(id_, {})
    profiles = {
        one: frozenset(silent.get(one, set())) | now.get(one, set()) for one in {*silent, *now}
    }
    lifecycle = row.get("modelLifecycle") or {}
    ends = lifecycle.get("endOfLifeTime")
    return UnifiedModelInfo(
        model_id=id_,
        model_name=old.model_name if old else row.get("modelName") or id_,
        provider=row.get("providerName") or (old.provider if old else ""),
        input_modalities=_lower(row, "inputModalities"),
        output_modalities=_lower(row, "outputModalities"),
        streaming_supported=bool(row.get("responseStreamingSupported")),
        direct=((old.direct - fetched.regions) if old else frozenset())
        | fetched.direct.get(id_, set()),
        profiles={one: at for one, at in profiles.items() if at},
        end_of_life=ends.date().isoformat() if ends else old.end_of_life if old else None,
        source=_SOURCE,
        date=today,
    )


def _lower(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(str(one).lower() for one in row.get(name, ()))


def _reason(error: BaseException) -> str:
    known = error if isinstance(error, LLMError) else explain(error)
    if isinstance(known, LLMError):
        return getattr(known, "message", str(known))
    code = getattr(error, "response", {}).get("Error", {}).get("Code")
    return str(code or type(error).__name__)
