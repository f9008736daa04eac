"""What ships with the package answers offline, says where it is from, and can be made anew."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import pytest

from agentkit.bedrock import BedrockModelCatalog, BundledDataError, UnifiedModelManager
from agentkit.bedrock.catalog import cache as cache_module
from agentkit.bedrock.catalog.cache import bundled

EAST = "us-east-1"


@pytest.mark.processes
def test_offline_it_loads_no_sdk_and_opens_no_socket() -> None:
    program = (
        "import sys\n"
        "from agentkit.bedrock import BedrockModelCatalog\n"
        "sys.addaudithook(lambda event, _: event.startswith('socket.') and sys.exit(event))\n"
        "assert BedrockModelCatalog(cache_mode='memory').routes('Claude 3 Haiku', 'us-east-1')\n"
        "assert 'boto3' not in sys.modules and 'botocore' not in sys.modules\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_the_bundle_says_where_each_row_comes_from() -> None:
    snapshot = bundled()
    assert snapshot.time.tzinfo is not None
    assert len(snapshot.models) > 50
    for model in snapshot.models:
        assert model.source.startswith("https://")
        assert dt.date.fromisoformat(model.date) <= dt.date(2026, 11, 21)
        assert model.regions, model.model_id
        for id_ in model.profiles:
            assert id_.endswith(f".{model.model_id}")
    assert [one.model_id for one in snapshot.models] == sorted(
        one.model_id for one in snapshot.models
    )


def test_an_exported_catalogue_is_the_bundle_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = BedrockModelCatalog(cache_mode="none", use_api=False)
    found.export(tmp_path / "data.json")
    monkeypatch.setattr(cache_module, "files", lambda _: tmp_path)
    assert bundled().models == tuple(sorted(found.list_models(), key=lambda one: one.model_id))


def test_a_damaged_bundle_is_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.json").write_text("{}")
    monkeypatch.setattr(cache_module, "files", lambda _: tmp_path)
    with pytest.raises(BundledDataError, match="damaged"):
        BedrockModelCatalog(cache_mode="none").list_models()


@pytest.mark.promise("S1-71")
def test_the_former_manager_still_answers_and_says_it_is_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match="BedrockModelCatalog") as seen:
        former = UnifiedModelManager()
    assert seen[0].filename == __file__
    today = BedrockModelCatalog()
    name = "Claude 3 Haiku"
    assert former.get_model_info(name, EAST) == today.get_model_info(name, EAST)
    assert former.get_recommended_access(name, EAST) == today.get_model_access_info(name, EAST)
    assert former.is_model_available_in_region(name, EAST)
    former.ensure_data_available()
