"""The discovery of the Regions that offer Bedrock."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from agentkit.bedrock.catalog.json_file import JsonFile
from agentkit.cache.directory import user_directory
from agentkit.errors import LLMError
from agentkit.policy.validation import number
from agentkit.providers.bedrock.regions import (
    Area,
    AWSRegions,
    filter_regions,
    get_all_regions,
    is_region_code,
)

_logger = logging.getLogger(__name__)
_PARAMETER: Final = "/aws/service/global-infrastructure/services/bedrock/regions"


class BedrockRegionDiscovery:
    """Finds the Regions that offer Bedrock and stores them in a file, the region cache.

    The first of these sources that answers wins: the region cache, the public parameters of AWS
    (with `clients`), the list of botocore, the list of this package. Nothing is read or fetched at
    construction.

    Args:
        cache_dir: folder of the region cache (default: ``AGENTKIT_CACHE_DIR``, or else the user's
            cache directory).
        cache_ttl_hours: hours after which the region cache expires (default 24).
        clients: an `agentkit.bedrock.Clients`; without one, AWS is not asked.
        clock: seconds since the epoch; tests pass their own.
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_ttl_hours: float = 24,
        *,
        clients: Any = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ttl = number("cache_ttl_hours", cache_ttl_hours) * 3600
        self._directory = cache_dir
        self._clients = clients
        self._clock = clock

    @property
    def cache_file(self) -> Path:
        """The file of the region cache."""
        return user_directory(self._directory) / "bedrock-regions-v1.json"

    def get_bedrock_regions(
        self, force_refresh: bool = False, area: Area | Iterable[Area] | None = None
    ) -> list[str]:
        """The Regions that offer Bedrock, sorted; with `area`, only those there."""
        cached = None if force_refresh else self._cached()
        if cached is not None:
            return filter_regions(cached["regions"], area)
        source, regions = self._discover()
        if source == "aws" or self._clients is None:  # a substitute is not stored
            entry = {"regions": regions, "source": source, "time": self._clock()}
            JsonFile(self.cache_file).write(entry)
        return filter_regions(regions, area)

    def clear_cache(self) -> None:
        """Delete the region cache."""
        JsonFile(self.cache_file).delete()

    def get_cache_info(self) -> dict[str, Any]:
        """cache_file, exists, valid, source, age_hours and region_count of the region cache."""
        entry = self._read()
        age = None if entry is None else (self._clock() - entry["time"]) / 3600
        return {
            "cache_file": str(self.cache_file),
            "exists": self.cache_file.exists(),
            "valid": self._cached() is not None,
            "source": entry and entry["source"],
            "age_hours": age,
            "region_count": len(entry["regions"]) if entry else 0,
        }

    def _read(self) -> dict[str, Any] | None:
        entry = JsonFile(self.cache_file).read()
        sound = (
            isinstance(entry, dict)
            and isinstance(entry.get("time"), int | float)
            and isinstance(entry.get("regions"), list)
            and all(is_region_code(one) for one in entry["regions"])
        )
        return {"source": "unknown", **entry} if sound and isinstance(entry, dict) else None

    def _cached(self) -> dict[str, Any] | None:
        entry = self._read()
        if entry is None or not 0 <= self._clock() - entry["time"] < self._ttl:
            return None
        return entry

    def _discover(self) -> tuple[str, list[str]]:
        if self._clients is not None:
            try:
                if found := self._from_aws():
                    return "aws", found
            except Exception as error:  # noqa: BLE001 - whatever AWS answers, there is a list
                reason = error.message if isinstance(error, LLMError) else type(error).__name__
                _logger.warning("the Regions could not be fetched from AWS: %s", reason)
        return "botocore" if (
            found := regions_of_botocore()
        ) else "static", found or get_all_regions()

    def _from_aws(self) -> list[str]:
        region = self._clients.auth.region or AWSRegions.US_EAST_1
        ssm = self._clients.get("ssm", region, timeout=10)
        pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=_PARAMETER)
        names = [one["Value"] for page in pages for one in page["Parameters"]]
        return sorted(name for name in names if is_region_code(name))


def regions_of_botocore() -> list[str]:
    """The Regions that the installed botocore lists; only its data file is read."""
    try:
        import botocore
    except ImportError:
        return []
    try:
        path = Path(botocore.__file__).parent / "data" / "endpoints.json"
        partitions = json.loads(path.read_text(encoding="utf-8"))["partitions"]
    except (OSError, ValueError, KeyError):
        return []
    return sorted(
        name
        for partition in partitions
        if partition["partition"] in {"aws", "aws-us-gov"}
        for name in partition["services"].get("bedrock", {}).get("endpoints", {})
        if name in partition["regions"]
    )
