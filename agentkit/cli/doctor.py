"""``agentkit doctor``: checks the installation and shows what the environment sets.

Of a key variable, it only looks whether the value is empty.
"""

from __future__ import annotations

import os
import platform
import re
import stat
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agentkit._version import __version__
from agentkit.cli.output import AsJson, console, one_line, print_json, print_text

if TYPE_CHECKING:
    from rich.console import Console

_DISTRIBUTION: Final = "agentkit-llms"
_INTERNAL_EXTRAS: Final = {"all", "bench", "dev"}
"""Extras that combine others, or that only agentkit's own development needs."""

_AWS_VARIABLES: Final = ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK")
_PLAIN_VARIABLES: Final = (
    "AGENTKIT_CACHE",
    "AGENTKIT_CACHE_DIR",
    "AGENTKIT_CONFIG",
    "AGENTKIT_TRANSPORT",
)
"""Variables whose values are not secret."""
_SECRET_VARIABLES: Final = ("AGENTKIT_FLEET", "AGENTKIT_FLEET_SECRET")

_BLOCKING_CALLS: Final = (
    "a blocking callable without a timeout runs in its caller's thread and cannot be interrupted: "
    "its deadline is checked when it returns; register_model(..., timeout=seconds) changes that"
)
_NOT_INSTALLED: Final = f"{_DISTRIBUTION} is not installed, so its dependencies were not checked"

_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*\(?([^;)]*)\)?")
_EXTRA: Final = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_BOUND: Final = re.compile(r"(>=|<)\s*(\d+(?:\.\d+)*)")

_COLUMN: Final = 26
"""The width of the names."""
_STYLES: Final = {
    "present": "green",
    "set": "green",
    "yes": "green",
    "missing": "bold red",
    "not installed": "dim",
    "not set": "dim",
    "empty": "yellow",
}


def command(as_json: AsJson = False) -> None:
    """Check versions, extras and the environment.

    Shows whether a key is set, never the key itself. Exit code 1: something required is broken.
    """
    findings = examine()
    if as_json:
        print_json(findings)
    else:
        _report(console(), findings)
    if not findings["ok"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """All findings as JSON values; ``ok`` is false if there are ``problems``."""
    required, extras = _requirements()
    dependencies = [_dependency(name, bounds) for name, bounds in required]
    cache, cache_problem, cache_note = _response_cache()
    transport, transport_problems = _transport()
    self_test = _self_test()
    test_problem = "" if self_test == "ok" else f"a manager did not answer: {self_test}"
    fleet, fleet_problem = _fleet()
    problems = [
        *(each.pop("problem") for each in dependencies),
        cache_problem,
        *transport_problems,
        test_problem,
        fleet_problem,
    ]
    notes = [_BLOCKING_CALLS, "" if required else _NOT_INSTALLED, cache_note]
    return {
        "ok": not any(problems),
        "problems": [problem for problem in problems if problem],
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "agentkit": __version__,
        "dependencies": dependencies,
        "extras": [_extra(name, needs) for name, needs in extras.items()],
        "response_cache": cache,
        "fleet": fleet,
        "transport": transport,
        "keys": {name: _key_state(name) for name in _key_variables()},
        "settings": {
            name: _setting(name) for name in sorted(os.environ) if name.startswith("AGENTKIT_")
        },
        "self_test": self_test,
        "notes": [note for note in notes if note],
    }


def _requirements() -> tuple[list[tuple[str, str]], dict[str, list[tuple[str, str]]]]:
    """The required distributions and those of each extra, each with its version bounds."""
    try:
        lines = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        lines = []
    required: list[tuple[str, str]] = []
    extras: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        found = _REQUIREMENT.match(line)
        if found is None:
            continue
        requirement = (found[1], found[2].strip())
        extra = _EXTRA.search(line)
        if extra is None:
            required.append(requirement)
        elif extra[1] not in _INTERNAL_EXTRAS:
            extras.setdefault(extra[1], []).append(requirement)
    return sorted(required), dict(sorted(extras.items()))


def _dependency(name: str, bounds: str) -> dict[str, Any]:
    installed = _installed_version(name)
    problem = ""
    if installed is None:
        problem = f"{name} is missing: pip install {_DISTRIBUTION}"
    elif not is_within(installed, bounds):
        problem = f'{name} {installed} does not fit: pip install "{name}{bounds}"'
    return {"name": name, "installed": installed, "needs": bounds, "problem": problem}


def _extra(name: str, requirements: list[tuple[str, str]]) -> dict[str, Any]:
    versions = {each: _installed_version(each) for each, _ in requirements}
    present = all(
        version is not None and is_within(version, bounds)
        for version, (_, bounds) in zip(versions.values(), requirements, strict=True)
    )
    return {
        "name": name,
        "present": present,
        "packages": versions,
        "install": None if present else f'pip install "{_DISTRIBUTION}[{name}]"',
    }


def _installed_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def is_within(version: str, bounds: str) -> bool:
    """Whether the release number of `version` satisfies each ``>=`` and ``<`` in `bounds`."""
    release = _release(version)
    return all(
        (release >= _release(limit)) if operator == ">=" else (release < _release(limit))
        for operator, limit in _BOUND.findall(bounds)
    )


def _release(version: str) -> tuple[int, ...]:
    """The release number without trailing zeros: 1.30 and 1.30.0 are equal."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _key_variables() -> list[str]:
    from agentkit.providers.registry import PROVIDERS

    variables = [name for info in PROVIDERS.values() for name in info.all_key_variables]
    return list(dict.fromkeys([*variables, *_AWS_VARIABLES]))


def _key_state(variable: str) -> str:
    value = os.environ.get(variable)
    if value is None:
        return "not set"
    return "set" if value.strip() else "empty"


def _setting(variable: str) -> str:
    from agentkit.config.overrides import is_override

    value = os.environ[variable]
    if variable in _PLAIN_VARIABLES:
        return value
    if variable in _SECRET_VARIABLES:
        return "set" if value.strip() else "empty, so ignored"
    if not is_override(variable):
        return "set, but agentkit does not read it"
    return "set, overrides the configuration" if value.strip() else "empty, so ignored"


def _response_cache() -> tuple[dict[str, Any], str, str]:
    """Where responses are cached; a problem with it, and a note on it, or empty strings."""
    from agentkit.cache.disk import DiskStore

    directory = DiskStore().path
    kept_in = os.environ.get("AGENTKIT_CACHE", "").strip().lower() or "disk"
    status = directory.stat() if directory.exists() else None
    facts = {
        "kept_in": kept_in,
        "directory": str(directory),
        "exists": status is not None,
        "permissions": None if status is None else f"{stat.S_IMODE(status.st_mode):04o}",
        "writable": _is_writable(directory),
    }
    if kept_in != "disk":
        return facts, "", ""
    if not facts["writable"]:
        return facts, _unusable(directory, "cannot be created or written"), ""
    if status is None or not hasattr(os, "geteuid"):
        return facts, "", ""
    if status.st_uid != os.geteuid():
        return facts, _unusable(directory, "belongs to another user"), ""
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return facts, _unusable(directory, "can be written by other users"), ""
    readable = f"{directory} can be read by other users until a manager opens it: chmod 700 it"
    return facts, "", readable if status.st_mode & 0o077 else ""


def _fleet() -> tuple[dict[str, Any] | None, str]:
    """The store that ``AGENTKIT_FLEET`` names, if it names one, and the problem with it."""
    from agentkit.errors import ConfigurationError
    from agentkit.manager.fleet import fleet_url
    from agentkit.state.check import check_store

    url, source = fleet_url(None)
    if url is None:
        return None, ""
    try:
        facts = check_store(url, source=source)
    except ConfigurationError as error:
        return None, f"fleet: {one_line(error)}"
    problem = facts.pop("problem")
    return facts, f"fleet: {problem}" if problem else ""


def _transport() -> tuple[dict[str, Any], list[str]]:
    """The transport of models that do not name one, that of each model, and the problems."""
    from agentkit.errors import ConfigurationError
    from agentkit.providers.registry import NATIVE_PACKAGES
    from agentkit.providers.requirements import is_installed, transport_name

    missing = [name for name in NATIVE_PACKAGES if not is_installed(name)]
    problems = []
    try:
        name: str | None = transport_name(None)
    except ConfigurationError as error:
        name = None
        problems.append(f"AGENTKIT_TRANSPORT: {one_line(error)}")
    models, connections, problem = _transports_of_models(name)
    if problem:
        problems.append(problem)
    install = f'pip install "{_DISTRIBUTION}[native]"'
    users = ["AGENTKIT_TRANSPORT"] if name == "native" else []
    users += [model for model, chosen in models.items() if chosen == "native" and not users]
    if users and missing:
        verb = "is" if name == "native" else "uses"
        packages = ", ".join(missing)
        problems.append(f"{users[0]} {verb} native, but {packages} is missing: {install}")
    facts = {
        "in_use": name,
        "set_by": "AGENTKIT_TRANSPORT" if os.environ.get("AGENTKIT_TRANSPORT") else "default",
        "native_installed": not missing,
        "install": install if missing else None,
        "models": models,
        "connections": connections,
    }
    return facts, problems


def _transports_of_models(
    default: str | None,
) -> tuple[dict[str, str | None], dict[str, dict[str, Any]], str]:
    """The transport of each model of the configuration, the options of its connections if it has
    any, and what is wrong with the configuration, or nothing.

    There are no models if there is no configuration, or if it is wrong.
    """
    from agentkit.config.load import is_configured, load_settings
    from agentkit.errors import ConfigurationError, MissingDependencyError

    try:
        providers = load_settings().providers.values() if is_configured() else ()
    except MissingDependencyError:
        return {}, {}, ""
    except ConfigurationError as error:
        return {}, {}, f"configuration: {one_line(error)}"
    chosen: dict[str, str | None] = {}
    connections: dict[str, dict[str, Any]] = {}
    for provider in providers:
        for key in provider.keys:
            name = f"{provider.name}:{key.model}"
            chosen[name] = provider.transport or default
            if provider.connections is not None:
                connections[name] = provider.connections.model_dump()
    return chosen, connections, ""


def _unusable(directory: Path, reason: str) -> str:
    return (
        f"response cache: {directory} {reason}, so answers are only cached in memory; "
        "set AGENTKIT_CACHE_DIR to a directory of your own, or AGENTKIT_CACHE=memory"
    )


def _is_writable(directory: Path) -> bool:
    """Whether `directory` can be written, or created if it does not exist."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)


def _self_test() -> str:
    """``ok`` if a manager answers a request, else the error."""
    try:
        from agentkit.manager.manager import LLMManager

        with LLMManager(name="doctor", cache=None, fleet="off") as manager:
            manager.register_model("echo", _echo)
            answer = manager.generate("ping")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return f"{type(error).__name__}: {one_line(error)}"
    return "ok" if answer == "ping" else f"the answer to 'ping' was {answer!r}"


def _echo(prompt: str, _options: dict[str, Any]) -> str:
    return prompt


def _report(out: Console, findings: Mapping[str, Any]) -> None:
    _heading(out, "Versions")
    _line(out, "python", findings["python"], findings["platform"])
    _line(out, "agentkit", findings["agentkit"])
    for each in findings["dependencies"]:
        _line(out, each["name"], each["installed"] or "missing", f"needs {each['needs']}")
    _heading(out, "Extras")
    for extra in findings["extras"]:
        state = "present" if extra["present"] else "not installed"
        packages = ", ".join(f"{name} {version}" for name, version in extra["packages"].items())
        _line(out, extra["name"], state, extra["install"] or packages)
    _facts(out, "Response cache", findings["response_cache"])
    if findings["fleet"] is not None:
        _facts(out, "Fleet", findings["fleet"])
    transport = dict(findings["transport"])
    models, connections = transport.pop("models"), transport.pop("connections")
    _facts(out, "Transport", transport)
    for name, chosen in models.items():
        options = connections.get(name) or {}
        remark = ", ".join(f"{option} {_format(value)}" for option, value in options.items())
        _line(out, name, _format(chosen), remark)
    _heading(out, "Provider keys (values are never shown)")
    for name, state in findings["keys"].items():
        _line(out, name, state)
    _heading(out, "AGENTKIT_* variables")
    for name, value in findings["settings"].items() or [("none", "")]:
        _line(out, name, value)
    _heading(out, "Notes")
    for note in findings["notes"]:
        out.print(Padding(Text(note), (0, 0, 0, 2)))
    out.print()
    if findings["ok"]:
        out.print(Text("Everything works: a manager has just answered a test request.", "green"))
    for problem in findings["problems"]:
        print_text(out, Text(f"problem: {problem}", "bold red"))


def _facts(out: Console, title: str, facts: Mapping[str, Any]) -> None:
    _heading(out, title)
    for name, value in facts.items():
        _line(out, name.replace("_", " "), _format(value))


def _heading(out: Console, title: str) -> None:
    out.print()
    out.print(Text(title, "bold"))


def _line(out: Console, name: str, value: str, remark: str = "") -> None:
    text = Text(value, _STYLES.get(value, ""))
    if remark:
        text.append(f"  {remark}", "dim")
    if not out.is_terminal:  # one finding on each line, for grep
        print_text(out, Text(f"  {name:{_COLUMN}}") + text)
        return
    row = Table.grid()
    row.add_column(width=_COLUMN + 2)
    row.add_column(overflow="fold")
    row.add_row(Text(f"  {name}"), text)
    out.print(row)


def _format(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)
