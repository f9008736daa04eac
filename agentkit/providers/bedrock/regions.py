"""The Regions of AWS that offer Bedrock, by geography."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

from agentkit.errors import ConfigurationError

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
    """The location of a Region; the value is the first part of its code (GOV: ``us-gov``)."""

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
Area = GeographicArea | str


def get_all_regions(area: Area | Iterable[Area] | None = None) -> list[str]:
    """Every Region known to offer Bedrock (botocore 1.44, November 2026), sorted."""
    return filter_regions(_ALL, area)


def get_commercial_regions(area: Area | Iterable[Area] | None = None) -> list[str]:
    """Every such Region but those of the US government, sorted."""
    return [one for one in get_all_regions(area) if area_of(one) is not GeographicArea.GOV]


def get_regions_by_area(area: Area | Iterable[Area]) -> list[str]:
    """The Regions of one or several geographic areas: ``get_regions_by_area("EU")``."""
    return get_all_regions(area)


def is_region_code(value: object) -> bool:
    """Whether `value` has the form of a Region's code."""
    return isinstance(value, str) and _CODE.fullmatch(value) is not None


def filter_regions(regions: Iterable[str], area: Area | Iterable[Area] | None = None) -> list[str]:
    """The Regions of `regions` in `area`, or in any of several areas, sorted; None keeps all.

    Raises:
        ConfigurationError: an unknown area.
    """
    if area is None:
        return sorted(regions)
    wanted = {_area(one) for one in ([area] if isinstance(area, str) else area)}
    return sorted(one for one in regions if area_of(one) in wanted)


def area_of(region: str) -> GeographicArea | None:
    """The geographic area of a Region's code; None if its first part is unknown."""
    if region.startswith("us-gov-"):
        return GeographicArea.GOV
    try:
        return GeographicArea(region.split("-", 1)[0])
    except ValueError:
        return None


def check_region(region: Any) -> str:
    """`region`, if it has the form of a Region's code.

    An unknown Region is accepted with a log line, as AWS adds new ones.

    Raises:
        ConfigurationError: it has another form.
    """
    if region in _ALL:
        return str(region)
    close = difflib.get_close_matches(str(region).lower(), _ALL, n=3)
    meant = f"; did you mean {', '.join(close)}?" if close else ""
    if not is_region_code(region):
        raise ConfigurationError(
            f"{region!r} is not an AWS Region{meant}", hint="write it like us-east-1"
        )
    _logger.debug("Region %s is not known to offer Bedrock%s", region, meant)
    return str(region)


def _area(area: Any) -> GeographicArea:
    text = str(area).lower().replace("_", "-")
    try:
        return GeographicArea({"gov": "us-gov", "apac": "ap", "asia": "ap"}.get(text, text))
    except ValueError:
        known = ", ".join(one.name for one in GeographicArea)
        raise ConfigurationError(f"unknown area {area!r}", hint=f"use one of: {known}") from None
