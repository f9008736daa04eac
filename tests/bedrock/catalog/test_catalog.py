"""The catalogue answers from its cache, from AWS or from the package, and says from which."""

from __future__ import annotations

import datetime as dt
import json
import logging
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from agentkit.bedrock import (
    APIFetchError,
    AuthConfig,
    BedrockModelCatalog,
    CacheMode,
    CatalogSource,
    CatalogUnavailableError,
    LLMManager,
    UnifiedModelInfo,
    UnknownModelError,
)
from agentkit.bedrock.catalog.api import Fetched, merge
from agentkit.errors import ConfigurationError
from tests.bedrock.catalog.aws import ControlPlane, profile, summary
from tests.helpers import no_home
from tests.programs import run

EAST, WEST = "us-east-1", "us-west-2"
NEW = "maker.new-v1:0"
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Now:
    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> dt.datetime:
        return self.time


def catalog(aws: ControlPlane | None, folder: Path, **more: Any) -> BedrockModelCatalog:
    fields: dict[str, Any] = {"cache_directory": folder, "regions": [EAST, WEST], "timeout": 20}
    return BedrockModelCatalog(aws, **(fields | more))


def answering(times: int = 1) -> ControlPlane:
    aws = ControlPlane()
    for _ in range(times):
        aws.answer(EAST, [summary(NEW, name="New Model")], [profile(f"us.{NEW}")])
        aws.answer(
            WEST, [summary(NEW, "INFERENCE_PROFILE", name="New Model")], [profile(f"us.{NEW}")]
        )
    return aws


def test_nothing_is_read_asked_or_written_at_construction(tmp_path: Path) -> None:
    aws = answering()
    found = catalog(aws, tmp_path / "new", force_refresh=True)
    assert not found.is_catalog_loaded
    assert aws.asked == []
    assert not (tmp_path / "new").exists()


@pytest.mark.promise("S1-66", "S1-67")
def test_the_order_is_cache_then_aws(tmp_path: Path) -> None:
    aws = answering()
    first = catalog(aws, tmp_path, now=Now())
    assert first.get_catalog_metadata().source is CatalogSource.API
    assert sorted(aws.asked) == [EAST, WEST]
    second = catalog(aws, tmp_path, now=Now())
    metadata = second.get_catalog_metadata()
    assert metadata.source is CatalogSource.CACHE
    assert metadata.retrieval_timestamp == START
    assert metadata.api_regions_queried == [EAST, WEST]
    assert metadata.cache_file_path == tmp_path / "bedrock-catalog-v1.json"
    assert len(aws.asked) == 2
    assert second.list_models() == first.list_models()


@pytest.mark.promise("B33", "S1-59", "S1-60")
def test_what_aws_says_is_found_by_name_and_region(tmp_path: Path) -> None:
    found = catalog(answering(), tmp_path)
    access = found.get_model_info("New Model", EAST)
    assert access is not None
    assert (access.model_id, access.inference_profile_id) == (NEW, f"us.{NEW}")
    assert access.supports_streaming
    assert access.has_direct_access
    assert found.routes("New Model", WEST) == (("regional_cris", f"us.{NEW}"),)
    assert access.to_dict() == {
        "access_methods": ["regional_cris", "direct"],
        "model_id": NEW,
        "regional_cris_profile_id": f"us.{NEW}",
        "global_cris_profile_id": None,
        "region": EAST,
    }
    assert found.get_model_access_info("New Model", "eu-west-1") is None
    assert found.get_model_access_info("No Model", EAST) is None


@pytest.mark.promise("S1-63")
def test_the_cache_expires_and_is_asked_again(tmp_path: Path) -> None:
    now, aws = Now(), answering(2)
    catalog(aws, tmp_path, now=now).ensure_catalog_available()
    now.time += dt.timedelta(hours=24, seconds=-1)
    assert catalog(aws, tmp_path, now=now).get_catalog_metadata().source.value == "CACHE"
    now.time += dt.timedelta(seconds=1)
    assert catalog(aws, tmp_path, now=now).get_catalog_metadata().source.value == "API"


@pytest.mark.promise("S1-83")
def test_an_expired_cache_is_used_when_asked_for_or_when_aws_is_silent(tmp_path: Path) -> None:
    now, aws = Now(), answering()
    catalog(aws, tmp_path, now=now).ensure_catalog_available()
    now.time += dt.timedelta(days=400)
    old = catalog(aws, tmp_path, now=now, ignore_cache_age=True)
    assert old.get_catalog_metadata().source is CatalogSource.CACHE
    assert len(aws.asked) == 2
    for region in (EAST, WEST):
        aws.fail(region, "ServiceUnavailableException")
    assert catalog(aws, tmp_path, now=now).get_catalog_metadata().source is CatalogSource.CACHE


@pytest.mark.promise("S1-65")
def test_a_forced_refresh_does_not_read_the_cache(tmp_path: Path) -> None:
    aws = answering(2)
    catalog(aws, tmp_path).ensure_catalog_available()
    forced = catalog(aws, tmp_path, force_refresh=True)
    assert forced.get_catalog_metadata().source is CatalogSource.API


@pytest.mark.promise("S1-68")
def test_without_credentials_the_bundle_answers_and_aws_is_not_asked(tmp_path: Path) -> None:
    found = BedrockModelCatalog(cache_directory=tmp_path)
    metadata = found.get_catalog_metadata()
    assert metadata.source.value == "BUNDLED"
    assert metadata.bundled_data_version
    assert metadata.api_regions_queried == []
    assert found.is_model_available("Claude 3 Haiku", EAST)
    assert not (tmp_path / "bedrock-catalog-v1.json").exists()


@pytest.mark.promise("S1-64")
@pytest.mark.parametrize("mode", list(CacheMode))
def test_when_aws_fails_the_bundle_answers_with_a_warning(
    mode: CacheMode, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    aws = ControlPlane()
    aws.fail(EAST, "AccessDeniedException")
    aws.fail(WEST, "ExpiredTokenException")
    with caplog.at_level(logging.WARNING):
        metadata = catalog(aws, tmp_path, cache_mode=mode).get_catalog_metadata()
    assert metadata.source is CatalogSource.BUNDLED
    assert "could not be refreshed" in caplog.text


@pytest.mark.promise("S1-64")
def test_when_the_bundle_is_not_allowed_that_is_an_error(tmp_path: Path) -> None:
    aws = ControlPlane()
    aws.fail(EAST, "AccessDeniedException")
    aws.fail(WEST, "AccessDeniedException")
    with pytest.raises(CatalogUnavailableError, match="AccessDenied") as caught:
        catalog(aws, tmp_path, fallback_to_bundled=False).list_models()
    assert isinstance(caught.value.__cause__, APIFetchError)
    assert caught.value.__cause__.failures == dict.fromkeys((EAST, WEST), "AccessDeniedException")
    with pytest.raises(CatalogUnavailableError, match="no credentials"):
        catalog(None, tmp_path, fallback_to_bundled=False).list_models()


@pytest.mark.promise("S1-58", "S1-62")
def test_file_mode_survives_memory_mode_is_shared_and_none_keeps_nothing(tmp_path: Path) -> None:
    aws = answering(3)
    for mode, asked in ((CacheMode.MEMORY, 2), (CacheMode.NONE, 4)):
        for _ in range(2):
            found = catalog(aws, tmp_path, cache_mode=mode, now=Now())
            found.ensure_catalog_available()
            assert found.cache_file_path is None
        assert len(aws.asked) == asked + (2 if mode is CacheMode.NONE else 0)
    assert list(tmp_path.iterdir()) == []
    shared = catalog(aws, tmp_path, cache_mode="memory", now=Now())
    assert shared.get_catalog_metadata().source is CatalogSource.CACHE
    shared.clear_cache()
    assert not shared.is_catalog_loaded


@pytest.mark.promise("S1-65")
def test_one_region_that_fails_or_is_late_harms_no_other(tmp_path: Path) -> None:
    aws, release = answering(), threading.Event()

    def hold(region: str) -> None:
        if region == WEST:
            release.wait(10)

    aws.before = hold
    try:
        found = catalog(aws, tmp_path, timeout=0.2)
        assert found.get_catalog_metadata().api_regions_queried == [EAST]
    finally:
        release.set()
    assert found.is_model_available("New Model", EAST)
    assert found.is_model_available("Claude 3.5 Haiku", WEST), "known facts of the late one stay"


@pytest.mark.promise("S1-65")
def test_regions_are_asked_at_once(tmp_path: Path) -> None:
    aws, together = answering(), threading.Barrier(2)

    def meet(_: str) -> None:
        together.wait(10)

    aws.before = meet
    assert len(catalog(aws, tmp_path).get_catalog_metadata().api_regions_queried) == 2


def test_what_aws_no_longer_lists_is_marked_and_kept(tmp_path: Path) -> None:
    found = catalog(answering(), tmp_path)
    gone, elsewhere = found.get_model_info("Claude Opus 4.1"), found.get_model_info("Nova Lite")
    assert gone is not None
    assert gone.retired is False, "us-east-2 did not answer, so it may still be there"
    assert elsewhere is not None
    assert not elsewhere.retired
    only_west = found.get_model_info("Ray v2")
    assert only_west is not None
    assert only_west.retired
    assert found.is_model_available("Ray v2", WEST)
    assert "Ray v2" not in [one.model_name for one in found.list_models(include_retired=False)]


def test_a_government_region_that_was_not_asked_does_not_keep_a_model_alive(tmp_path: Path) -> None:
    places = [EAST, WEST, "us-gov-west-1"]
    row = {"id": "maker.a:0", "name": "A", "provider": "M", "input": [], "output": []}
    rest = {"streaming": True, "profiles": {}, "source": "https://x", "date": "2026-01-01"}
    model = UnifiedModelInfo.from_dict({**row, **rest, "direct": places})
    (gone,) = merge([model], Fetched(regions={EAST, WEST}), "2026-01-02")
    assert gone.retired
    (alive,) = merge([model], Fetched(regions={EAST}), "2026-01-02")
    assert not alive.retired


def test_variants_for_provisioned_throughput_are_left_out(tmp_path: Path) -> None:
    aws = ControlPlane()
    aws.answer(EAST, [summary("maker.a:0:48k", "PROVISIONED"), summary("maker.a:0")])
    found = catalog(aws, tmp_path, regions=[EAST])
    assert found.resolve("maker.a:0") is not None
    assert found.resolve("maker.a:0:48k") is None


def test_a_models_end_of_life_is_row(tmp_path: Path) -> None:
    ends = {"status": "LEGACY", "endOfLifeTime": START}
    aws = ControlPlane()
    aws.answer(EAST, [summary("maker.a:0", modelLifecycle=ends)])
    info = catalog(aws, tmp_path, regions=[EAST]).get_model_info("maker.a:0")
    assert info is not None
    assert info.end_of_life == "2026-01-01"


@pytest.mark.promise("S0-37")
def test_a_refresh_replaces_the_data_and_a_failed_one_keeps_it(tmp_path: Path) -> None:
    aws = answering()
    found = catalog(aws, tmp_path, use_api=False)
    assert found.get_model_info("New Model") is None
    assert aws.asked == []
    assert found.refresh_catalog().source is CatalogSource.API
    assert found.get_model_info("New Model") is not None
    for region in (EAST, WEST):
        aws.fail(region, "ServiceUnavailableException")
    with pytest.raises(APIFetchError, match="ServiceUnavailable"):
        found.refresh_catalog()
    assert found.get_model_info("New Model") is not None


@pytest.mark.promise("S1-61")
def test_models_are_listed_by_region_and_provider_in_any_letter_case(tmp_path: Path) -> None:
    found = BedrockModelCatalog(cache_directory=tmp_path)
    anthropic = found.list_models(region=EAST, provider="anthropic")
    assert anthropic == found.list_models(region=EAST, provider="Anthropic")
    assert {model.provider for model in anthropic} == {"Anthropic"}
    assert len(found.list_models()) > len(found.list_models(streaming_only=True)) > 0
    assert found.list_models(region="me-south-1") == []


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1}', "\0\xff", "[" * 9999])
def test_a_corrupt_cache_file_is_ignored_and_replaced(content: str, tmp_path: Path) -> None:
    (tmp_path / "bedrock-catalog-v1.json").write_text(content)
    assert catalog(answering(), tmp_path).get_catalog_metadata().source is CatalogSource.API
    assert catalog(None, tmp_path).get_catalog_metadata().source is CatalogSource.CACHE


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"package": "0.0"},
        {"time": "soon"},
        {"time": 5},
        {"models": 5},
        {"models": [{"id": 5}]},
        {"regions": None},
        {"time": "2999-01-01T00:00:00+00:00"},
    ],
)
def test_a_cache_of_another_form_or_version_is_not_used(
    damage: dict[str, Any], tmp_path: Path
) -> None:
    catalog(answering(), tmp_path).ensure_catalog_available()
    path = tmp_path / "bedrock-catalog-v1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    assert catalog(None, tmp_path).get_catalog_metadata().source is CatalogSource.BUNDLED


READ_ONLY = """
import os, sys
from pathlib import Path
from agentkit.bedrock import BedrockModelCatalog, CacheMode, LLMManager
from agentkit.testing import WireServer

nowhere = Path(sys.argv[1])
for name in ("HOME", "XDG_CACHE_HOME", "AGENTKIT_CACHE_DIR", "TMPDIR"):
    os.environ[name] = str(nowhere / name)
mode = CacheMode(sys.argv[2])
with WireServer(reply="Paris.") as server:
    os.environ["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] = server.bedrock_url
    models, regions = ["Claude 3 Haiku"], ["us-east-1"]
    with LLMManager(models, regions, catalog_cache_mode=mode) as llm:
        answer = llm.converse([{"role": "user", "content": [{"text": "capital?"}]}])
    source = BedrockModelCatalog(None, cache_mode=mode).get_catalog_metadata().source.value
assert not nowhere.is_dir()
print(answer.get_content(), source)
"""
"""The program of a function that can write nothing: each folder is below a file."""


@pytest.mark.processes
@pytest.mark.promise("S1-69")
@pytest.mark.parametrize("mode", list(CacheMode), ids=lambda mode: mode.value)
def test_where_nothing_can_be_written_a_manager_answers(
    mode: CacheMode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "file").touch()
    assert run(READ_ONLY, tmp_path / "file", mode.value) == "Paris. BUNDLED"


@pytest.mark.promise("S1-69")
def test_a_user_without_a_home_has_a_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user id is in no list of users."""
    monkeypatch.delenv("AGENTKIT_CACHE_DIR", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", no_home)
    found = BedrockModelCatalog(answering(), regions=[EAST, WEST], timeout=20)
    assert found.get_catalog_metadata().source is CatalogSource.API


@pytest.mark.promise("S1-69")
def test_a_folder_that_cannot_be_written_changes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = catalog(answering(), tmp_path / "file" / "below")
    assert found.get_catalog_metadata().source is CatalogSource.API


def test_concurrent_refreshes_ask_once_and_read_a_complete_file(tmp_path: Path) -> None:
    aws = answering()
    start, sources = threading.Barrier(2), []

    def load() -> None:
        start.wait()
        sources.append(catalog(aws, tmp_path).get_catalog_metadata().source.value)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sources) == ["API", "CACHE"]
    assert sorted(aws.asked) == [EAST, WEST]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"bedrock-catalog-v1.json", "bedrock-catalog-v1.lock"}


@pytest.mark.promise("S1-66")
def test_sources_compare_in_any_letter_case() -> None:
    assert CatalogSource("bundled") is CatalogSource.BUNDLED
    assert CatalogSource.BUNDLED.value == "BUNDLED"
    with pytest.raises(ValueError, match="elsewhere"):
        CatalogSource("elsewhere")


@pytest.mark.parametrize(
    "fields",
    [
        {"cache_mode": "tape"},
        {"cache_max_age_hours": -1},
        {"timeout": 0},
        {"max_workers": 0},
    ],
)
def test_settings_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        BedrockModelCatalog(**fields)


def test_credentials_in_the_environment_are_reason_enough_to_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    asked: list[AuthConfig] = []

    def refuse(clients: Any, *_: Any, **__: Any) -> Any:
        asked.append(clients.auth)
        raise APIFetchError("no network")

    monkeypatch.setattr("agentkit.bedrock.catalog.catalog.fetch", refuse)
    found = BedrockModelCatalog(cache_directory=tmp_path)
    assert found.get_catalog_metadata().source is CatalogSource.BUNDLED
    assert asked == [AuthConfig()]


@pytest.mark.promise("S1-70")
def test_a_manager_hands_its_options_on_to_the_catalogue(tmp_path: Path) -> None:
    catalog(answering(), tmp_path).ensure_catalog_available()
    options: dict[str, Any] = {"catalog_cache_directory": tmp_path}
    with LLMManager(["New Model"], [EAST], catalog_cache_mode=CacheMode.FILE, **options) as llm:
        assert llm.get_available_models() == ["New Model"]
    with pytest.raises(UnknownModelError):
        LLMManager(["New Model"], [EAST], catalog_cache_mode=CacheMode.NONE, **options)


@pytest.mark.promise("S1-72")
def test_a_warm_catalogue_is_one_small_file(tmp_path: Path) -> None:
    aws = ControlPlane()
    names = [f"maker.model-{number}-v1:0" for number in range(300)]
    for region in (EAST, WEST):
        aws.answer(region, [summary(name) for name in names], [])
    catalog(aws, tmp_path).ensure_catalog_available()
    tracemalloc.start()
    try:
        warm = catalog(None, tmp_path)
        assert warm.get_catalog_metadata().source is CatalogSource.CACHE
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(warm.list_models()) >= 300
    assert size < 10_000_000
    assert warm.cache_file_path is not None
    assert warm.cache_file_path.stat().st_size < 1_000_000
