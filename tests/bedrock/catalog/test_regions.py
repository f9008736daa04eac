"""Regions are known offline, found by geography, discovered when asked, and remembered a while."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from agentkit.bedrock import (
    AuthConfig,
    AWSRegions,
    BedrockRegionDiscovery,
    GeographicArea,
    get_all_regions,
    get_commercial_regions,
    get_regions_by_area,
)
from agentkit.bedrock.catalog.discovery import regions_of_botocore
from agentkit.errors import ConfigurationError
from agentkit.providers.bedrock.regions import area_of, check_region, filter_regions


@pytest.mark.promise("S1-56")
def test_the_constants_are_the_regions_botocore_knows() -> None:
    session = boto3.Session()
    known = session.get_available_regions("bedrock")
    government = session.get_available_regions("bedrock", partition_name="aws-us-gov")
    assert get_commercial_regions() == sorted(known)
    assert get_all_regions() == sorted(known + government)
    assert AWSRegions.US_EAST_1 in get_all_regions()
    assert regions_of_botocore() == get_all_regions()


@pytest.mark.promise("S1-57")
@pytest.mark.parametrize(
    ("area", "regions"),
    [
        ("us", {"us-east-1", "us-east-2", "us-west-1", "us-west-2"}),
        ("GOV", {"us-gov-east-1", "us-gov-west-1"}),
        ("CA", {"ca-central-1", "ca-west-1"}),
        ("MX", {"mx-central-1"}),
        ("SA", {"sa-east-1"}),
        ("AF", {"af-south-1"}),
        ("IL", {"il-central-1"}),
        ("ME", {"me-central-1", "me-south-1"}),
        (GeographicArea.CN, set()),
        (["us-gov", GeographicArea.MX], {"us-gov-east-1", "us-gov-west-1", "mx-central-1"}),
    ],
)
def test_regions_are_found_by_geography(area: Any, regions: set[str]) -> None:
    assert set(get_regions_by_area(area)) == regions


def test_large_areas_hold_only_their_own() -> None:
    assert all(one.startswith("eu-") for one in get_regions_by_area("EU"))
    assert get_regions_by_area("apac") == get_regions_by_area("AP")
    everywhere = [one for area in GeographicArea for one in get_regions_by_area(area)]
    assert sorted(everywhere) == get_all_regions()
    assert filter_regions(["eu-west-1", "us-east-1"]) == ["eu-west-1", "us-east-1"]
    assert area_of("moon-base-1") is None
    with pytest.raises(ConfigurationError, match="unknown area"):
        get_regions_by_area("moon")


def test_a_misspelt_region_is_reported_and_a_new_one_is_accepted() -> None:
    with pytest.raises(ConfigurationError, match="did you mean us-east-1"):
        check_region("us_east-1")
    assert check_region("eu-west-9") == "eu-west-9"


class Ssm:
    """An `agentkit.bedrock.Clients` whose SSM client is answered by botocore's Stubber."""

    auth = AuthConfig()

    def __init__(self) -> None:
        self.client = boto3.Session("k", "s", region_name="us-east-1").client("ssm")
        self.stub = Stubber(self.client)
        self.stub.activate()
        self.asked = 0

    def get(self, service: str, region: str, *, timeout: float) -> Any:
        assert (service, region) == ("ssm", "us-east-1")
        self.asked += 1
        return self.client

    def answer(self, *regions: str) -> None:
        parameters = [{"Name": f"/r/{one}", "Value": one} for one in regions]
        self.stub.add_response("get_parameters_by_path", {"Parameters": parameters})


def discovery(tmp_path: Path, now: list[float], ssm: Ssm | None = None) -> BedrockRegionDiscovery:
    return BedrockRegionDiscovery(tmp_path, clients=ssm, clock=lambda: now[0])


def test_nothing_is_asked_or_written_at_construction(tmp_path: Path) -> None:
    found = discovery(tmp_path / "new", [0.0], ssm := Ssm())
    assert not (tmp_path / "new").exists()
    assert ssm.asked == 0
    assert found.get_cache_info()["valid"] is False


@pytest.mark.promise("B29", "S1-54", "S1-55")
def test_aws_is_asked_once_a_day(tmp_path: Path) -> None:
    now, ssm = [1e9], Ssm()
    ssm.answer("us-east-1", "eu-west-1")
    ssm.answer("us-east-1")
    found = discovery(tmp_path, now, ssm)
    assert found.get_bedrock_regions() == ["eu-west-1", "us-east-1"]
    now[0] += 24 * 3600 - 1
    assert discovery(tmp_path, now, ssm).get_bedrock_regions(area="EU") == ["eu-west-1"]
    assert ssm.asked == 1
    info = found.get_cache_info()
    assert (info["valid"], info["source"], info["region_count"]) == (True, "aws", 2)
    now[0] += 1
    assert found.get_bedrock_regions() == ["us-east-1"]
    assert ssm.asked == 2


def test_a_refresh_asks_again_and_a_cleared_cache_is_gone(tmp_path: Path) -> None:
    ssm = Ssm()
    ssm.answer("us-east-1")
    ssm.answer("us-west-2")
    found = discovery(tmp_path, [1e9], ssm)
    found.get_bedrock_regions()
    assert found.get_bedrock_regions(force_refresh=True) == ["us-west-2"]
    found.clear_cache()
    assert not found.cache_file.exists()


def test_when_aws_does_not_answer_the_known_list_stands_in_and_is_not_kept(tmp_path: Path) -> None:
    ssm = Ssm()
    ssm.stub.add_client_error("get_parameters_by_path", "AccessDeniedException")
    ssm.answer("us-west-2")
    found = discovery(tmp_path, [1e9], ssm)
    assert found.get_bedrock_regions() == get_all_regions()
    assert found.get_bedrock_regions() == ["us-west-2"]


def test_without_clients_the_known_list_is_used(tmp_path: Path) -> None:
    found = discovery(tmp_path, [1e9])
    assert found.get_bedrock_regions() == get_all_regions()
    assert found.get_cache_info()["source"] == "botocore"


@pytest.mark.promise("S1-55")
@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"regions": 5, "time": 1}', '{"regions": ["x"], "time": 1e9}', "\0"]
)
def test_a_corrupt_region_cache_is_ignored_and_replaced(content: str, tmp_path: Path) -> None:
    found = discovery(tmp_path, [1e9])
    found.cache_file.write_text(content)
    assert found.get_bedrock_regions() == get_all_regions()
    assert found.get_cache_info()["valid"] is True


def test_a_time_in_the_future_is_not_trusted(tmp_path: Path) -> None:
    now = [2e9]
    discovery(tmp_path, now).get_bedrock_regions()
    now[0] = 1e9
    assert discovery(tmp_path, now).get_cache_info()["valid"] is False


@pytest.mark.promise("S1-55")
def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = BedrockRegionDiscovery(tmp_path / "file" / "below")
    assert found.get_bedrock_regions() == get_all_regions()


@pytest.mark.promise("B29")
def test_the_default_place_is_the_users_cache_directory() -> None:
    assert BedrockRegionDiscovery().cache_file.parent == Path(os.environ["AGENTKIT_CACHE_DIR"])
