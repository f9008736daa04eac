"""What runs elsewhere says what this repository says: workflows, templates, hooks, lower bounds."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tests.architecture.tree import ROOT

PROJECT: Any = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def lower_bounds() -> dict[str, Version]:
    """The lowest supported release of each package that a user may have."""
    extras = PROJECT["optional-dependencies"]
    listed = [*PROJECT["dependencies"], *(each for name in extras for each in extras[name])]
    bounds = {}
    for each in map(Requirement, listed):
        for specifier in each.specifier:
            if specifier.operator == ">=":
                bounds[each.name.lower()] = Version(specifier.version)
    return bounds


def middle() -> dict[str, Version]:
    """The releases of `.ci/middle.txt`."""
    lines = (ROOT / ".ci/middle.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {name: Version(version) for name, version in pairs}


def test_the_middle_releases_are_above_the_oldest() -> None:
    oldest = lower_bounds()
    assert [name for name, version in middle().items() if version <= oldest[name]] == []


def test_the_page_shows_the_releases_that_are_tested() -> None:
    page = (ROOT / "docs/reference/compatibility.md").read_text()
    rows = re.findall(
        r"^\| `([\w-]+)` \| ([\d.b]+) \| ([\d.]+|—) \| [\d.b]+ \|$", page, re.MULTILINE
    )
    shown = {name: Version(oldest) for name, oldest, _ in rows}
    optional = {each for name in ("bench", "dev", "test") for each in extra_names(name)}
    expected = lower_bounds()
    for name in optional | {"instructor", "ray"}:
        expected.pop(name, None)
    assert shown == expected
    assert {name: Version(each) for name, _, each in rows if each != "—"} == middle()


def extra_names(extra: str) -> set[str]:
    return {Requirement(each).name.lower() for each in PROJECT["optional-dependencies"][extra]}


def test_the_gates_run_on_every_python_that_is_promised() -> None:
    classifiers = [each.rpartition(" :: ")[2] for each in PROJECT["classifiers"]]
    promised = [each for each in classifiers if re.fullmatch(r"3\.\d+", each)]
    gates = read(".github/workflows/ci.yml")["jobs"]["gates"]
    assert gates["strategy"]["matrix"]["python"] == promised
    assert gates["steps"][-1]["run"] == ".ci/run"
    assert PROJECT["requires-python"] == f">={promised[0]}"


def test_a_release_comes_from_the_repository_of_the_urls_and_without_a_password() -> None:
    jobs = read(".github/workflows/release.yml")["jobs"]
    repository = jobs["build"]["if"].partition("'")[2].rstrip("'")
    owner, name = repository.split("/")
    own = f"https://github.com/{repository}", f"https://{owner}.github.io/{name}/"
    assert [url for url in PROJECT["urls"].values() if not url.startswith(own)] == []
    assert jobs["publish"]["permissions"]["id-token"] == "write"
    assert "password" not in str(jobs)


def test_the_hooks_are_targets_of_make() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    hooks = [
        hook["entry"] for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]
    ]
    assert hooks
    assert [entry for entry in hooks if entry.removeprefix("make ") not in targets] == []


@pytest.mark.parametrize("wanted", ["print(error.ledger)", "agentkit doctor --json"])
def test_a_bug_report_asks_for_what_a_maintainer_needs(wanted: str) -> None:
    fields = read(".github/ISSUE_TEMPLATE/bug.yml")["body"]
    asked = [each for each in fields if wanted in str(each["attributes"])]
    assert [each["validations"]["required"] for each in asked] == [True]
