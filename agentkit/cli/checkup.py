"""``agentkit doctor``: is everything here that agentkit needs, and what does it find set?

The value of a key variable is never read further than to see that it is not empty.
"""

from __future__ import annotations

import os
import platform
import re
import stat
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from agentkit._version import __version__
from agentkit.cli.output import one_line

_DISTRIBUTION: Final = "agentkit-llms"
_NOT_FOR_USERS: Final = {"all", "bench", "dev"}
"""Extras that only repeat others, or serve agentkit's own development."""

_KEYS: Final = (
    "OPENAI_API_KEY", "OPENAI_API_KEYS", "ANTHROPIC_API_KEY", "ANTHROPIC_API_KEYS",
    "GOOGLE_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY", "AWS_PROFILE", "AWS_ACCESS_KEY_ID",
    "AWS_BEARER_TOKEN_BEDROCK",
)  # fmt: skip
_SETTINGS: Final = ("AGENTKIT_CACHE", "AGENTKIT_CACHE_DIR", "AGENTKIT_CONFIG")
"""Variables whose values are no secrets."""

_UNCUTTABLE: Final = (
    "a blocking callable without a timeout runs in its caller's thread and cannot be cut: its "
    "deadline is checked when it returns; register_model(..., timeout=seconds) changes that"
)
_UNCHECKED: Final = (
    f"{_DISTRIBUTION} runs without having been installed: its dependencies were not looked at"
)

_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*\(?([^;)]*)\)?")
_EXTRA: Final = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_BOUND: Final = re.compile(r"(>=|<)\s*(\d+(?:\.\d+)*)")


def examine() -> dict[str, Any]:
    """Everything `doctor` found out; ``ok`` is false as soon as ``problems`` holds one."""
    required, extras = _requirements()
    dependencies = [_dependency(name, bounds) for name, bounds in required]
    store, trouble, remark = _response_cache()
    answers = _self_test()
    failed = "" if answers == "ok" else f"a manager could not answer a question: {answers}"
    unfit = [each.pop("problem") for each in dependencies]
    problems = [problem for problem in (*unfit, trouble, failed) if problem]
    unchecked = "" if required else _UNCHECKED
    return {
        "ok": not problems,
        "problems": problems,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "agentkit": __version__,
        "dependencies": dependencies,
        "extras": [_extra(name, needs) for name, needs in extras.items()],
        "response_cache": store,
        "keys": {name: _presence(name) for name in _KEYS},
        "settings": {name: _setting(name) for name in sorted(os.environ) if _is_ours(name)},
        "self_test": answers,
        "notes": [note for note in (_UNCUTTABLE, unchecked, remark) if note],
    }


def _requirements() -> tuple[list[tuple[str, str]], dict[str, list[tuple[str, str]]]]:
    """What is always needed and what each extra needs: pairs of a distribution and its bounds."""
    try:
        lines = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        lines = []
    required: list[tuple[str, str]] = []
    extras: dict[str, list[tuple[str, str]]] = {}
    for text in lines:
        found = _REQUIREMENT.match(text)
        if found is None:
            continue
        need = (found[1], found[2].strip())
        extra = _EXTRA.search(text)
        if extra is None:
            required.append(need)
        elif extra[1] not in _NOT_FOR_USERS:
            extras.setdefault(extra[1], []).append(need)
    return sorted(required), dict(sorted(extras.items()))


def _dependency(name: str, bounds: str) -> dict[str, Any]:
    installed = _version_of(name)
    problem = ""
    if installed is None:
        problem = f"{name} is missing: pip install {_DISTRIBUTION}"
    elif not _within(installed, bounds):
        problem = f'{name} {installed} does not fit: pip install "{name}{bounds}"'
    return {"name": name, "installed": installed, "needs": bounds, "problem": problem}


def _extra(name: str, needs: list[tuple[str, str]]) -> dict[str, Any]:
    versions = {each: _version_of(each) for each, _ in needs}
    present = all(
        version is not None and _within(version, bounds)
        for version, (_, bounds) in zip(versions.values(), needs, strict=True)
    )
    return {
        "name": name,
        "present": present,
        "packages": versions,
        "install": None if present else f'pip install "{_DISTRIBUTION}[{name}]"',
    }


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _within(version: str, bounds: str) -> bool:
    """Whether the numbers of `version` respect each ``>=`` and ``<`` in `bounds`."""
    ours = _numbers(version)
    return all(
        (ours >= _numbers(limit)) if operator == ">=" else (ours < _numbers(limit))
        for operator, limit in _BOUND.findall(bounds)
    )


def _numbers(version: str) -> tuple[int, ...]:
    """The release number without trailing zeros: 1.30 and 1.30.0 are equal."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in release[0].split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _presence(variable: str) -> str:
    value = os.environ.get(variable)
    if value is None:
        return "not set"
    return "set" if value.strip() else "empty"


def _is_ours(variable: str) -> bool:
    return variable.startswith("AGENTKIT_")


def _setting(variable: str) -> str:
    from agentkit.config.overrides import is_override

    if variable in _SETTINGS:
        return os.environ[variable]
    if not is_override(variable):
        return "set, but agentkit does not read it"
    has_value = os.environ[variable].strip()
    return "set, in place of the configuration's value" if has_value else "empty, so not in force"


def _response_cache() -> tuple[dict[str, Any], str, str]:
    """Where answers are kept, a problem with it, and a remark on it; both may be empty."""
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
        return facts, _unusable(directory, "cannot be made or written"), ""
    if status is None or os.name != "posix":
        return facts, "", ""
    if status.st_uid != os.geteuid():
        return facts, _unusable(directory, "belongs to another user"), ""
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return facts, _unusable(directory, "can be written by other users"), ""
    loose = f"{directory} can be read by other users until a manager opens it: chmod 700 it"
    return facts, "", loose if status.st_mode & 0o077 else ""


def _unusable(directory: Path, why: str) -> str:
    return (
        f"response cache: {directory} {why}, so answers stay in memory; "
        "set AGENTKIT_CACHE_DIR to a directory of your own, or AGENTKIT_CACHE=memory"
    )


def _is_writable(directory: Path) -> bool:
    """Whether `directory` can be written, or made where it does not exist yet."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    return directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)


def _self_test() -> str:
    """``ok`` once a manager has answered a question, else what went wrong."""
    try:
        from agentkit.manager.manager import LLMManager

        with LLMManager(name="doctor", cache=None) as manager:
            manager.register_model("echo", _echo)
            answer = manager.generate("ping")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return f"{type(error).__name__}: {one_line(error)}"
    return "ok" if answer == "ping" else f"the answer to 'ping' was {answer!r}"


def _echo(prompt: str, _options: dict[str, Any]) -> str:
    return prompt
