"""Checks a store: that it answers, runs every function, and agrees on the time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any, Final

from agentkit.state import breakers, questions, quota_questions
from agentkit.state.address import connect
from agentkit.state.questions import SharedKeys
from agentkit.state.quota_questions import QuotaKeys
from agentkit.state.scripts import command

OLDEST: Final = {"valkey": 8, "redis": 7}
"""The oldest release of each server that has what the functions need."""


def check_store(url: str) -> dict[str, Any]:
    """What works at `url`; the user's password is not part of it.

    Keys: ``server`` (name and version; None if the user may not ask), ``milliseconds`` of one
    round trip, ``clock_difference`` (the server's time minus this process's, in seconds),
    ``processes`` (live ones), and ``problem`` (empty if the fleet works).

    Raises:
        ConfigurationError: `url` is not the URL of a store.
        MissingDependencyError: redis-py is not installed.
    """
    client = connect(url)
    execute: Callable[..., Any] = client.execute_command
    found: dict[str, Any] = {
        "server": None,
        "milliseconds": None,
        "clock_difference": None,
        "processes": None,
        "problem": "",
    }
    process = f"doctor-{secrets.token_hex(4)}"
    keys = SharedKeys.of("doctor", process)
    trial = breakers.trial(process)
    try:
        client.ping()
        begun = time.perf_counter()
        client.ping()
        found["milliseconds"] = round((time.perf_counter() - begun) * 1000, 2)
        for question in (
            questions.shared_claim(keys, process, process),
            questions.shared_renew(keys, process),
            questions.shared_complete(keys, process, "answer", b"", ttl=1.0),
            *trial,
            questions.leave(process),
        ):
            execute(*command(question, by_digest=False))
        alive, milliseconds = execute(*command(questions.beat(process), by_digest=False))
        found["clock_difference"] = round(milliseconds / 1000 - time.time(), 2)
        found["processes"] = alive - 1
        execute(*command(questions.leave(process)))
        used = _check_quota(execute, process)
        client.scan(0, match=f"{keys.answer}*", count=10)
        client.unlink(keys.answer, *trial[0].keys, *used)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the finding)
        found["problem"] = _problem_of(error)
    else:
        found["server"], found["problem"] = _server_of(client)
    finally:
        client.close()
    return found


def _check_quota(execute: Callable[..., Any], process: str) -> tuple[str, ...]:
    """Run each function about quota; the keys that it leaves."""
    keys = QuotaKeys.of("doctor", process)
    watched = quota_questions.watch([keys.member(process, "")], process, "", 1, [False])
    (server,) = execute(*command(watched, by_digest=False))
    member = keys.member(process, server.decode())
    offer = quota_questions.Offer(member, had=False, free=1, load=0, limits=(1, 0, 0, 0))
    for question in (
        quota_questions.watch([member], process, server.decode(), 1, [False]),
        quota_questions.reserve(keys, process, 1, [offer], [(0, 0, 0)] * 2),
        quota_questions.introduce(member, process, [], [(0, 1, 0, 0)]),
        quota_questions.report(member, keys.topic(process), alive=1),
        quota_questions.settle(keys, member, [(int(time.time()), -1, 0, 0)]),
        quota_questions.reserve(keys, process, 1, [offer], []),
    ):
        execute(*command(question, by_digest=False))
    return keys.line, keys.head, *member


def _server_of(client: Any) -> tuple[str | None, str]:
    """Name and version of the server, and the problem with it."""
    try:
        facts = client.info("server")
    except Exception:  # noqa: BLE001  (a user may run the functions without this right)
        return None, ""
    name = "valkey" if "valkey_version" in facts else "redis"
    version = str(facts[f"{name}_version"])
    old = int(version.partition(".")[0]) < OLDEST[name]
    return f"{name} {version}", f"{name} {version} is too old: use {OLDEST[name]}" if old else ""


def _problem_of(error: Exception) -> str:
    name = type(error).__name__
    if name == "NoPermissionError":
        return "the user lacks a right: give it those that the page on fleets lists"
    if name in ("AuthenticationError", "AuthenticationWrongNumberOfArgsError"):
        return "the user or the password is wrong"
    if isinstance(error, OSError) or name in ("ConnectionError", "TimeoutError"):
        return f"the store does not answer ({name})"
    return f"the store cannot be used ({name})"
