"""The Regions of AWS that offer Bedrock, by geography, known offline and discoverable."""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from agentkit.bedrock.store import JsonFile, user_directory
from agentkit.errors import ConfigurationError, LLMError
from agentkit.policy.validation import number

_logger = logging.getLogger(__name__)


class AWSRegions:
    """The codes of the Regions that offer Bedrock, as constants."""

    US_EAST_1 = "us-east-1"
    US_EAST_2 = "us-east-2"
    US_WEST_1 = "us-west-1"
    US_WEST_2 = "us-west-2"
    US_GOV_EAST_1 = "us-gov-east-1"
    US_GOV_WEST_1 = "us-gov-west-1"
    CA_CENTRAL_1 = "ca-central-1"
    CA_WEST_1 = "ca-west-1"
    MX_CENTRAL_1 = "mx-central-1"
    SA_EAST_1 = "sa-east-1"
    EU_CENTRAL_1 = "eu-central-1"
    EU_CENTRAL_2 = "eu-central-2"
    EU_NORTH_1 = "eu-north-1"
    EU_SOUTH_1 = "eu-south-1"
    EU_SOUTH_2 = "eu-south-2"
    EU_WEST_1 = "eu-west-1"
    EU_WEST_2 = "eu-west-2"
    EU_WEST_3 = "eu-west-3"
    AP_EAST_2 = "ap-east-2"
    AP_NORTHEAST_1 = "ap-northeast-1"
    AP_NORTHEAST_2 = "ap-northeast-2"
    AP_NORTHEAST_3 = "ap-northeast-3"
    AP_SOUTH_1 = "ap-south-1"
    AP_SOUTH_2 = "ap-south-2"
    AP_SOUTHEAST_1 = "ap-southeast-1"
    AP_SOUTHEAST_2 = "ap-southeast-2"
    AP_SOUTHEAST_3 = "ap-southeast-3"
    AP_SOUTHEAST_4 = "ap-southeast-4"
    AP_SOUTHEAST_5 = "ap-southeast-5"
    AP_SOUTHEAST_6 = "ap-southeast-6"
    AP_SOUTHEAST_7 = "ap-southeast-7"
    AF_SOUTH_1 = "af-south-1"
    IL_CENTRAL_1 = "il-central-1"
    ME_CENTRAL_1 = "me-central-1"
    ME_SOUTH_1 = "me-south-1"


class GeographicArea(StrEnum):
    """Where a Region lies; the value is the first part of its code (GOV: ``us-gov``)."""

    US = "us"
    GOV = "us-gov"
    CA = "ca"
    MX = "mx"
    SA = "sa"
    EU = "eu"
    AP = "ap"
    AF = "af"
    IL = "il"
    ME = "me"
    CN = "cn"


_CODE: Final = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")
_ALL: Final = tuple(
    value for name, value in vars(AWSRegions).items() if name.isupper() and isinstance(value, str)
)
_PARAMETER: Final = "/aws/service/global-infrastructure/services/bedrock/regions"
Area = GeographicArea | str


def get_all_regions(area: Area | Iterable[Area] | None = None) -> list[str]:
    """Every Region known to offer Bedrock (botocore 1.44, November 2026), sorted."""
    return filter_regions(_ALL, area)


def get_commercial_regions(area: Area | Iterable[Area] | None = None) -> list[str]:
    """The same without the government's Regions."""
    return [one for one in get_all_regions(area) if area_of(one) is not GeographicArea.GOV]


def get_regions_by_area(area: Area | Iterable[Area]) -> list[str]:
    """The Regions of one geographic area, or of several: ``get_regions_by_area("EU")``."""
    return get_all_regions(area)


def filter_regions(regions: Iterable[str], area: Area | Iterable[Area] | None = None) -> list[str]:
    """Those of `regions` that lie in `area` (or in any of several), sorted; None keeps all.

    Raises:
        ConfigurationError: an unknown area.
    """
    if area is None:
        return sorted(regions)
    wanted = {_area(one) for one in ([area] if isinstance(area, str) else area)}
    return sorted(one for one in regions if area_of(one) in wanted)


def area_of(region: str) -> GeographicArea | None:
    """The geographic area of a Region's code, or None when its first part is unknown."""
    if region.startswith("us-gov-"):
        return GeographicArea.GOV
    try:
        return GeographicArea(region.split("-", 1)[0])
    except ValueError:
        return None


def check_region(region: Any) -> str:
    """`region`, if it has the form of a Region's code; one unknown here is accepted, as new ones
    appear, with a log line.

    Raises:
        ConfigurationError: it has another form.
    """
    if region in _ALL:
        return str(region)
    close = difflib.get_close_matches(str(region).lower(), _ALL, n=3)
    meant = f"; did you mean {', '.join(close)}?" if close else ""
    if not isinstance(region, str) or not _CODE.fullmatch(region):
        raise ConfigurationError(
            f"{region!r} is no AWS Region{meant}", hint="a Region is written like us-east-1"
        )
    _logger.debug("Region %s is not known to offer Bedrock%s", region, meant)
    return region


def _area(area: Any) -> GeographicArea:
    text = str(area).lower().replace("_", "-")
    try:
        return GeographicArea({"gov": "us-gov", "apac": "ap", "asia": "ap"}.get(text, text))
    except ValueError:
        known = ", ".join(one.name for one in GeographicArea)
        raise ConfigurationError(f"unknown area {area!r}", hint=f"use one of: {known}") from None


class BedrockRegionDiscovery:
    """Finds the Regions that offer Bedrock and remembers them in the region cache, a file.

    Asked in turn: the region cache, AWS itself (its public parameters, with `clients`), the list
    that botocore ships, the list in this module. The first that answers wins; nothing is asked at
    construction.

    Args:
        cache_dir: folder of the region cache (default: the user's cache directory).
        cache_ttl_hours: hours after which it is asked again (default 24).
        clients: an `agentkit.bedrock.Clients`; without one AWS is not asked.
        clock: seconds since the epoch; a test passes its own.
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
        folder = Path(self._directory) if self._directory else user_directory()
        return folder / "bedrock-regions-v1.json"

    def get_bedrock_regions(
        self, force_refresh: bool = False, area: Area | Iterable[Area] | None = None
    ) -> list[str]:
        """The Regions that offer Bedrock, sorted, those of `area` only when it is given."""
        cached = None if force_refresh else self._cached()
        if cached is not None:
            return filter_regions(cached["regions"], area)
        source, regions = self._discover()
        if source == "aws" or self._clients is None:  # a list that only stands in is not kept
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
            and all(isinstance(one, str) and _CODE.fullmatch(one) for one in entry["regions"])
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
            except Exception as error:  # noqa: BLE001 - whatever AWS says, a list is at hand
                reason = error.message if isinstance(error, LLMError) else type(error).__name__
                _logger.warning("the Regions could not be asked from AWS: %s", reason)
        return "botocore" if (found := _from_botocore()) else "static", found or get_all_regions()

    def _from_aws(self) -> list[str]:
        region = self._clients.auth.region or AWSRegions.US_EAST_1
        ssm = self._clients.get("ssm", region, timeout=10)
        pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=_PARAMETER)
        names = [one["Value"] for page in pages for one in page["Parameters"]]
        return sorted(name for name in names if _CODE.fullmatch(name))


def _from_botocore() -> list[str]:
    """What the installed botocore lists; its data file alone is read."""
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
