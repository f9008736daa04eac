"""Importing agentkit costs what agentkit is: no SDK, no file, no socket, no thread."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

HEAVY = {
    "anthropic", "boto3", "botocore", "diskcache", "google.genai", "groq", "httpx", "httpx2",
    "instructor", "openai", "opentelemetry.sdk", "pybreaker", "ray", "redis", "rich", "typer",
    "yaml",
}  # fmt: skip

PROBE = """
import json, sys
opened = []
def watch(event, args):
    if event.startswith("socket.") or event == "sqlite3.connect":
        opened.append(event)
    elif event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        opened.append(f"{args[0]} ({args[1]})")
sys.dont_write_bytecode = True
sys.addaudithook(watch)
exec(sys.argv[1])
import threading
print(json.dumps([sorted(sys.modules), opened, threading.active_count()]))
"""


def after(statement: str) -> tuple[set[str], list[str], int]:
    """Modules, what was opened and the number of threads after `statement` in a new interpreter."""
    command = [sys.executable, "-W", "error", "-c", PROBE, statement]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    modules, opened, threads = json.loads(run.stdout)
    return set(modules), opened, threads


@pytest.mark.parametrize("statement", ["import agentkit", "from agentkit import LLMManager"])
def test_an_import_loads_no_sdk_and_opens_nothing(statement: str) -> None:
    modules, opened, threads = after(statement)
    assert modules & HEAVY == set()
    assert opened == []
    assert threads == 1


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "groq", "bedrock"])
def test_an_adapter_does_without_the_packages_of_the_native_transport(provider: str) -> None:
    make = f"provider_for({provider + ':m'!r}, api_key='k')" if provider != "bedrock" else "1"
    modules, _, _ = after(
        f"import agentkit.providers.{provider}\n"
        f"from agentkit.providers.registry import provider_for\n{make}"
    )
    assert modules & {"httptools", "msgspec"} == set()


def test_redis_beside_us_is_not_imported_until_pybreakers_storage_is_wanted(
    tmp_path: Path,
) -> None:
    """pybreaker imports redis wherever it is installed, which takes longer than all of agentkit."""
    package = tmp_path / "redis"
    package.mkdir()
    (package / "__init__.py").write_text("class Redis: pass")
    (package / "client.py").write_text("class Pipeline: pass")
    (package / "exceptions.py").write_text("class RedisError(Exception): pass")
    found = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    built = "from agentkit import CircuitBreaker; CircuitBreaker().call(len, ''); "
    modules, _, _ = after(found + built)
    assert "pybreaker" in modules
    assert "redis" not in modules
    wanted = (
        "import pybreaker, redis.exceptions; from pybreaker import CircuitRedisStorage; "
        "assert pybreaker.HAS_REDIS_SUPPORT; "
        "assert pybreaker.RedisError is redis.exceptions.RedisError; "
        "assert not hasattr(pybreaker, 'anything_else')"
    )
    modules, _, _ = after(found + built + wanted)
    assert "redis.client" in modules


def test_pybreaker_works_without_redis_as_ever() -> None:
    missing = "import sys; sys.modules['redis'] = None; "
    loaded = "from agentkit import CircuitBreaker; CircuitBreaker().call(len, ''); import pybreaker"
    after(f"{missing}{loaded}; assert not pybreaker.HAS_REDIS_SUPPORT")


def test_the_probe_sees_what_it_looks_for() -> None:
    modules, opened, _ = after("import pybreaker, socket; socket.socket()")
    assert "pybreaker" in modules
    assert opened == ["socket.__new__"]
