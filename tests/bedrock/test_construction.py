"""What a manager is made of, and what it says of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentkit import bedrock
from agentkit.bedrock import (
    BedrockModelCatalog,
    CatalogUnavailableError,
    Clients,
    ConfigurationError,
    LLMManager,
    ModelAccessInfo,
    ParallelLLMManager,
    RequestValidationError,
    RetryConfig,
)
from tests.bedrock.runtime import HAIKU, SONNET, FakeClients, manager, message, throttled

EAST, WEST = "us-east-1", "us-west-2"
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.promise("B30", "S0-02")
@pytest.mark.processes
def test_models_and_regions_are_enough_and_nothing_is_contacted() -> None:
    program = (
        "import sys\n"
        "from agentkit.bedrock import LLMManager\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, _: seen.append(event))\n"
        "with LLMManager(models=['Claude 3 Haiku'], regions=['us-east-1']) as manager:\n"
        "    assert not {each for each in seen if each.startswith('socket.')}\n"
        "    assert 'boto3' not in sys.modules\n"
        "    assert manager.get_model_access_info('Claude 3 Haiku', 'us-east-1')\n"
        "assert not {each for each in seen if each.startswith('socket.')}\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.promise("S1-44")
def test_a_parallel_manager_takes_what_a_manager_takes() -> None:
    llm = ParallelLLMManager(
        models=[HAIKU], regions=[EAST], retry_config=RetryConfig(max_retries=1), timeout=9
    )
    with llm:
        assert llm.get_available_models() == [HAIKU]
        assert llm.get_parallel_config().max_concurrent_requests == 5
        assert llm.get_retry_stats()["max_retries"] == 1


@pytest.mark.promise("S0-33", "S0-34")
def test_the_lists_of_models_and_regions_are_copies() -> None:
    llm = manager(FakeClients(), models=[HAIKU, SONNET])
    for listed, expected in (
        (llm.get_available_models, [HAIKU, SONNET]),
        (llm.get_available_regions, [EAST, WEST]),
    ):
        listed().clear()
        assert listed() == expected


@pytest.mark.promise("S0-35")
def test_access_of_known_and_unknown_models_and_regions() -> None:
    llm = manager(FakeClients())
    found = llm.get_model_access_info(HAIKU, EAST)
    assert found is not None
    assert set(found) == {
        "access_methods",
        "model_id",
        "regional_cris_profile_id",
        "global_cris_profile_id",
        "region",
    }
    assert found["access_methods"] == ["regional_cris", "direct"]
    assert llm.get_model_access_info("Claude 9 Haiku", EAST) is None
    assert llm.get_model_access_info(HAIKU, "me-south-1") is None


@pytest.mark.promise("S0-37")
def test_a_failed_refresh_keeps_the_catalogue(tmp_path: Path) -> None:
    class Source(BedrockModelCatalog):
        works = False

        def refresh_catalog(self) -> Any:
            if not self.works:
                raise bedrock.APIFetchError("no Region answered")
            return self.get_catalog_metadata()

    source = Source(cache_directory=tmp_path, use_api=False)
    clients = FakeClients("one", "two")
    llm = manager(clients, catalog=source)
    with pytest.raises(bedrock.APIFetchError):
        llm.refresh_model_data()
    assert llm.converse([message()]).get_content() == "one"
    source.works = True
    llm.refresh_model_data()
    assert llm.converse([message()]).get_content() == "two"


@pytest.mark.promise("B28")
def test_the_catalogue_is_fetched_with_the_managers_own_clients(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def fetch(clients: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(clients)
        raise bedrock.APIFetchError("not now")

    monkeypatch.setattr("agentkit.bedrock.catalog.catalog.fetch", fetch)
    auth = bedrock.AuthConfig("credentials", access_key="k", secret_key="s")
    with Clients(auth) as clients:
        llm = LLMManager(
            ["Claude 3 Haiku"], [EAST], clients=clients, catalog_cache_directory=tmp_path
        )
        with llm, pytest.raises(bedrock.APIFetchError):
            llm.refresh_model_data()
    assert asked == [clients]


def test_a_strict_manager_does_not_use_the_bundled_catalogue(tmp_path: Path) -> None:
    with pytest.raises(CatalogUnavailableError):
        manager(FakeClients(), strict_cache_mode=True, catalog_cache_directory=tmp_path)


@pytest.mark.promise("S0-68")
def test_any_object_that_knows_access_can_be_the_catalogue() -> None:
    class Stub:
        refreshed = 0

        def get_model_access_info(self, model_name: str, region: str) -> ModelAccessInfo | None:
            if model_name != "My Model" or region != EAST:
                return None
            return ModelAccessInfo(region, model_name, "maker.mine-v1:0", True, None, None, True)

        def refresh_unified_data(self) -> None:
            self.refreshed += 1

    clients, stub = FakeClients("x"), Stub()
    llm = manager(clients, models=["My Model"], unified_model_manager=stub)
    assert llm.converse([message()]).region_used == EAST
    assert clients.asked[0][1]["modelId"] == "maker.mine-v1:0"
    assert llm.validate_configuration()["model_region_combinations"] == 1
    llm.refresh_model_data()
    assert stub.refreshed == 1
    with pytest.raises(ConfigurationError):
        manager(clients, models=["Another"], unified_model_manager=stub)


@pytest.mark.promise("S0-67")
def test_a_request_is_checked_before_a_client_is_opened() -> None:
    clients = FakeClients(throttled(), "x")
    order: list[str] = []
    original = clients.runtime

    def runtime(region: str) -> Any:
        order.append(f"client of {region}")
        return original(region)

    clients.runtime = runtime  # type: ignore[method-assign]
    llm = manager(clients)
    assert order == []
    with pytest.raises(RequestValidationError):
        llm.converse([])
    assert order == []
    response = llm.converse([message()])
    assert order == [f"client of {EAST}", f"client of {WEST}"]
    assert response.get_content() == "x"
