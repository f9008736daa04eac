"""``agentkit doctor``: finds what is missing, names the remedy, shows no secret."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentkit.cache.disk import DiskStore
from agentkit.cli.app import app
from agentkit.cli.doctor import is_within
from tests.state.servers import Server, any_server

CANARY = "canary-5e9c2e7a-value-of-a-key"


def doctor(*options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor", *options])
    return done.exit_code, done.output


def findings() -> tuple[int, dict[str, Any]]:
    code, output = doctor("--json")
    return code, json.loads(output)


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Overrides what is installed: a version, or None for a missing distribution."""
    overrides: dict[str, str | None] = {}
    installed = metadata.version

    def version(name: str) -> str:
        found = overrides[name] if name in overrides else installed(name)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "version", version)
    return overrides


def test_a_complete_installation_passes() -> None:
    code, report = findings()
    assert (code, report["ok"], report["problems"]) == (0, True, [])
    assert report["self_test"] == "ok"
    assert {each["name"] for each in report["dependencies"]} >= {"pybreaker", "pydantic"}
    assert all(each["installed"] for each in report["dependencies"])


def test_the_text_has_every_section() -> None:
    code, text = doctor()
    assert code == 0
    for heading in ("Versions", "Extras", "Response cache", "Provider keys", "Notes"):
        assert heading in text
    assert "cannot be interrupted" in " ".join(text.split())


def test_a_missing_dependency_is_a_problem_with_its_remedy(
    versions: dict[str, str | None],
) -> None:
    versions["pybreaker"] = None
    code, report = findings()
    assert code == 1
    assert report["problems"] == ["pybreaker is missing: pip install agentkit-llms"]
    code, text = doctor()
    assert code == 1
    assert "problem: pybreaker is missing" in text


def test_a_dependency_outside_its_bounds_is_a_problem(versions: dict[str, str | None]) -> None:
    versions["pybreaker"] = "1.5.0"
    code, report = findings()
    assert code == 1
    assert "pybreaker 1.5.0 does not fit" in report["problems"][0]


def test_a_missing_extra_comes_with_the_command_that_installs_it(
    versions: dict[str, str | None],
) -> None:
    versions["openai"] = None
    code, report = findings()
    extras = {extra["name"]: extra for extra in report["extras"]}
    assert code == 0
    assert extras["openai"]["present"] is False
    assert extras["openai"]["install"] == 'pip install "agentkit-llms[openai]"'
    assert extras["cli"] | {"packages": None} == {
        "name": "cli",
        "present": True,
        "packages": None,
        "install": None,
    }
    assert not {"all", "dev", "bench"} & set(extras)


def test_no_value_of_a_key_is_ever_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    _, before = findings()
    assert "OPENAI_API_KEYS" in before["keys"]
    for name in (*before["keys"], "AGENTKIT_SECRET", "SOME_OTHER_API_KEY"):
        monkeypatch.setenv(name, CANARY)
    code, report = findings()
    assert code == 0
    assert set(report["keys"].values()) == {"set"}
    assert report["settings"]["AGENTKIT_SECRET"] == "set, but agentkit does not read it"
    for command in (["doctor"], ["doctor", "--json"], ["demo", "--fast", "--json"], ["stats"]):
        done = CliRunner().invoke(app, command)
        assert CANARY not in done.output
        assert CANARY not in done.stderr


@pytest.mark.parametrize("name", ["AGENTKIT_DEADLINE", "AGENTKIT_PROVIDERS__OPENAI__API_KEYS"])
def test_a_variable_that_overrides_the_configuration_is_known_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, CANARY)
    code, report = findings()
    assert code == 0
    assert report["settings"][name] == "set, overrides the configuration"
    assert CANARY not in CliRunner().invoke(app, ["doctor"]).output
    monkeypatch.setenv(name, " ")
    assert findings()[1]["settings"][name] == "empty, so ignored"


def test_an_empty_key_differs_from_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    _, report = findings()
    assert report["keys"]["OPENAI_API_KEY"] == "empty"
    assert report["keys"]["GROQ_API_KEY"] == "not set"


def test_a_manager_that_cannot_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no thread\nsecond line")

    monkeypatch.setattr("agentkit.manager.manager.LLMManager.generate", broken)
    code, report = findings()
    assert code == 1
    assert report["self_test"] == "RuntimeError: no thread; second line"


@pytest.mark.parametrize(
    ("mode", "code", "where"), [(0o700, 0, None), (0o755, 0, "notes"), (0o777, 1, "problems")]
)
def test_a_directory_open_to_others_is_reported(mode: int, code: int, where: str | None) -> None:
    """Readable: a manager closes it before it stores anything. Writable: it is not used."""
    directory = DiskStore().path
    directory.mkdir(parents=True)
    directory.chmod(mode)
    found, report = findings()
    assert found == code
    assert report["response_cache"]["permissions"] == f"0{mode:o}"
    assert report["response_cache"]["writable"] is True
    named = {
        part: any(str(directory) in line for line in report[part]) for part in ("notes", "problems")
    }
    assert named == {"notes": where == "notes", "problems": where == "problems"}


def test_a_file_in_place_of_the_directory_is_a_problem() -> None:
    Path(os.environ["AGENTKIT_CACHE_DIR"]).write_text("", encoding="utf-8")
    code, report = findings()
    assert code == 1
    assert "cannot be created or written" in report["problems"][0]


def test_a_setting_that_cannot_work_is_a_problem_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENTKIT_CACHE", "tape")
    code, report = findings()
    assert code == 1
    assert "'tape'" in report["problems"][-1]
    assert "hint: " in report["problems"][-1]


def test_a_directory_that_is_not_used_may_be_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(os.environ["AGENTKIT_CACHE_DIR"]).write_text("", encoding="utf-8")
    monkeypatch.setenv("AGENTKIT_CACHE", "memory")
    code, report = findings()
    assert (code, report["response_cache"]["kept_in"]) == (0, "memory")


def test_doctor_creates_nothing() -> None:
    code, report = findings()
    assert code == 0
    assert report["response_cache"]["exists"] is False
    assert not Path(os.environ["AGENTKIT_CACHE_DIR"]).exists()


@pytest.mark.parametrize(
    ("version", "bounds", "fits"),
    [
        ("1.4.1", ">=1.4.1,<1.5", True),
        ("1.4.9", ">=1.4.1,<1.5", True),
        ("1.5", "<1.5,>=1.4.1", False),
        ("1.5.0", "<1.5,>=1.4.1", False),
        ("1.30", ">=1.30.0", True),
        ("1.9", ">=1.30", False),
        ("0.66b2", ">=0.51b0", True),
        ("2.0", "", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, bounds: str, fits: bool) -> None:
    assert is_within(version, bounds) is fits


@pytest.fixture
def server() -> Iterator[Server]:
    with any_server() as running:
        yield running


def test_a_fleet_that_works_is_described(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_FLEET", server.url)
    monkeypatch.setenv("AGENTKIT_FLEET_SECRET", CANARY)
    code, found = findings()
    assert (code, found["problems"]) == (0, [])
    assert found["fleet"]["server"].startswith(("valkey ", "redis "))
    assert found["fleet"]["processes"] == 0
    assert (
        found["settings"]["AGENTKIT_FLEET"] == found["settings"]["AGENTKIT_FLEET_SECRET"] == "set"
    )
    # The mark says whether the server has forgotten something; who comes first leaves it to others.
    assert server.run("KEYS", "*") in ([], [b"ak1:{fleet}mark"])
    assert "Fleet" in doctor()[1]


def test_a_user_without_the_rights_is_a_problem_with_its_remedy(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.run("ACL", "SETUSER", "poor", "on", f">{CANARY}", "~ak1:*", "+@connection")
    poor = server.url.replace("unix://", f"unix://poor:{CANARY}@")
    for url, problem in (
        (poor, "lacks a right"),
        (poor.replace("poor", "unknown"), "password is wrong"),
        ("unix:///nowhere/socket", "no server has opened the socket"),
        ("http://elsewhere", "not the URL of a store"),
    ):
        monkeypatch.setenv("AGENTKIT_FLEET", url)
        code, found = findings()
        assert code == 1
        assert problem in found["problems"][0]
        assert CANARY not in json.dumps(found)


@pytest.mark.parametrize(
    ("value", "in_use", "set_by"),
    [(None, "sdk", "default"), ("native", "native", "AGENTKIT_TRANSPORT")],
)
def test_the_transport_in_use_is_shown(
    value: str | None, in_use: str, set_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTKIT_TRANSPORT", raising=False)
    if value is not None:
        monkeypatch.setenv("AGENTKIT_TRANSPORT", value)
    code, report = findings()
    assert (code, report["transport"]) == (
        0,
        {
            "in_use": in_use,
            "set_by": set_by,
            "native_installed": True,
            "install": None,
            "models": {},
            "connections": {},
        },
    )
    assert f"in use                    {in_use}" in doctor()[1]


def test_the_transport_of_each_configured_model_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "llm.yaml"
    file.write_text(
        "providers:\n"
        "  openai: {api_keys: made-up-key, models: [m], transport: native}\n"
        "  bedrock: {models: [m@eu-central-1]}\n",
        "utf-8",
    )
    monkeypatch.setenv("AGENTKIT_CONFIG", str(file))
    report = findings()[1]
    models = {"openai:m": "native", "bedrock:m@eu-central-1": "sdk"}
    assert report["transport"]["models"] == models
    assert "openai:m                  native" in doctor()[1]
    file.write_text(f"{file.read_text('utf-8')}connections: {{connect_timeout: 2}}\n", "utf-8")
    options = findings()[1]["transport"]["connections"]
    assert options == {
        "openai:m": {
            "connect_timeout": 2.0,
            "keepalive_expiry": 60.0,
            "max_keepalive_connections": 100,
            "ca_bundle": None,
        }
    }
    assert "native  connect_timeout 2.0, keepalive_expiry 60.0" in doctor()[1]
    monkeypatch.setitem(sys.modules, "msgspec", None)
    code, report = findings()
    assert code == 1
    assert report["problems"] == [
        'openai:m uses native, but msgspec is missing: pip install "agentkit-llms[native]"'
    ]


def test_a_wrong_configuration_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "llm.yaml"
    file.write_text(f"transport: pigeon\nproviders: {{openai: {{keys: {CANARY}}}}}\n", "utf-8")
    monkeypatch.setenv("AGENTKIT_CONFIG", str(file))
    code, report = findings()
    assert (code, report["transport"]["models"]) == (1, {})
    assert report["problems"][0].startswith("configuration: ")
    assert f"{file}:1: transport: pigeon" in report["problems"][0]
    assert CANARY not in CliRunner().invoke(app, ["doctor"]).output


def test_an_unknown_transport_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_TRANSPORT", "pigeon")
    code, report = findings()
    assert (code, report["transport"]["in_use"]) == (1, None)
    assert "pigeon" in report["problems"][0]


def test_a_transport_that_is_not_installed_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_TRANSPORT", "native")
    monkeypatch.setitem(sys.modules, "msgspec", None)
    code, report = findings()
    assert code == 1
    assert report["problems"] == [
        'AGENTKIT_TRANSPORT is native, but msgspec is missing: pip install "agentkit-llms[native]"'
    ]
