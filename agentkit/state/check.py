"""Checks a store: that it answers, runs every function, and agrees on the time."""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from agentkit.state import budget_questions, circuit_questions, questions, quota_questions
from agentkit.state.address import PATIENCE, connect
from agentkit.state.line import Line, Pending, Trips
from agentkit.state.questions import PREFIX, SharedKeys, inbox_of
from agentkit.state.quota_questions import QuotaKeys
from agentkit.state.resp import ReplyError
from agentkit.state.store import Store

if TYPE_CHECKING:
    import redis

_COMMAND: Final = re.compile(r"the '([a-z|]+)' command")

_REFUSED: Final = ("AuthenticationError", "AuthenticationWrongNumberOfArgsError")
_OTHER: Final = ("ERR", "ResponseError")
_PROBLEMS: Final = (
    (("AuthenticationError",), "Authentication required", "the server requires a password"),
    (_REFUSED, "", "the user or the password is wrong"),
    (
        ("MovedError", "ClusterDownError"),
        "",
        "the server belongs to a cluster: use the scheme valkey+cluster",
    ),
    (
        _OTHER,
        "cluster support disabled",
        "the server belongs to no cluster: use the scheme valkey",
    ),
    (
        ("MasterNotFoundError",),
        "",
        "no sentinel that answers knows the service that the URL names",
    ),
    (_OTHER, "unknown command 'sentinel'", "the URL names a server instead of its sentinels"),
    (_OTHER, "DB index", "the server has no database with the number that the URL names"),
    (
        ("OutOfMemoryError",),
        "",
        "the server is full: raise maxmemory, or set maxmemory-policy to allkeys-lru",
    ),
    (("ReadOnlyError",), "", "the server is a replica, which is read-only: use its primary"),
    (("MasterDownError", "MASTERDOWN"), "", "the server is a replica that has lost its primary"),
    (("BusyLoadingError",), "", "the server still loads its data"),
    (
        ("SSLCertVerificationError",),
        "",
        "the certificate of the server is not trusted: add ?ssl_ca_certs=, or use its host name",
    ),
    (
        ("SSLError",),
        "wrong version number",
        "the server does not speak TLS on this port: use the scheme valkey, or its port for TLS",
    ),
    (
        ("InvalidResponse", "ProtocolError"),
        "",
        "what answers is neither Valkey nor Redis: check the host and the port",
    ),
    (("FileNotFoundError",), "", "no server has opened the socket that the URL names"),
    (("gaierror",), "", "no host has the name that is in the URL"),
)
"""Kinds of errors, words of their text, and the problem."""

OLDEST: Final = {"valkey": 8, "redis": 7}
"""The oldest release of each server that has what the functions need."""


def check_store(url: str, *, source: str = "fleet") -> dict[str, Any]:
    """What works at `url`; the user's password is not part of it. `source` is where it was found.

    Keys: ``server`` (name and version; None if the user may not ask), ``milliseconds`` of one
    round trip, ``clock_difference`` (the server's time minus this process's, in seconds),
    ``processes`` (live ones), and ``problem`` (empty if the fleet works).

    Raises:
        ConfigurationError: `url` is not the URL of a store.
        MissingDependencyError: redis-py is not installed.
    """
    connect(url, source=source)  # so that a wrong URL or a missing package is noticed
    found: dict[str, Any] = {
        "server": None,
        "milliseconds": None,
        "clock_difference": None,
        "processes": None,
        "problem": "",
    }
    process = f"doctor-{secrets.token_hex(4)}"
    keys = SharedKeys.of("doctor", process)
    trial = (*circuit_questions.trial(process), *budget_questions.trial(process))
    client: redis.Redis | None = None
    store: Store | None = None
    try:
        store = Store(url, deliver=Pending.settle, lost=_lose, wake=_ignore, trips=Trips())
        client = store.client
        client.ping()  # connects
        begun = time.perf_counter()
        client.ping()
        found["milliseconds"] = round((time.perf_counter() - begun) * 1000, 2)
        _hear(client, inbox_of(process))
        for question in (
            questions.shared_claim(keys, process, process),
            questions.shared_claim(keys, "other", process),
            questions.shared_renew(keys, process),
            questions.shared_complete(keys, process, "answer", b"", ttl=1.0),
            *trial,
            questions.leave(process),
        ):
            store.ask(question)
        alive, milliseconds, _ = store.ask(questions.beat(process))
        found["clock_difference"] = round(milliseconds / 1000 - time.time(), 2) + 0.0  # not -0.0
        found["processes"] = alive - 1
        store.ask(questions.leave(process))
        used = _check_quota(store, process)
        node = store.nodes[0]
        store.scan(node, 0, f"{keys.answer}*", 10)
        tried = (key for each in trial for key in each.keys)
        for key in dict.fromkeys((keys.answer, *tried, *used)):
            store.delete(key)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the finding)
        found["problem"] = _problem_of(error)
    else:
        found["server"], found["problem"] = _server_of(client)
    finally:
        if store is not None:
            store.close(ConnectionError("the check is over"))
        if client is not None:
            client.close()
    return found


def _check_quota(store: Store, process: str) -> tuple[str, ...]:
    """Run each function about quota; the keys that it leaves."""
    keys = QuotaKeys.of("doctor", process, is_cluster=True)  # a mark of its own
    (server,) = store.ask(quota_questions.watch(keys, process, "", 0, []))
    name = server.decode()
    member = keys.member(process, name)
    limits = (1, 0, 0, 0)
    offer = quota_questions.Offer(member, had=False, users=0, free=1, load=0, limits=limits)
    watched = quota_questions.Watched(member, had=False, users=0)
    for question in (
        quota_questions.watch(keys, process, name, 0, [watched]),
        quota_questions.reserve(keys, process, name, [offer], [(0, 0, 0)] * 2),
        quota_questions.introduce(keys, member, process, name, entries=[], missing=[(0, 1, 0, 0)]),
        quota_questions.report(keys, process, member, name, rest=0.001),
        quota_questions.pause(keys, process, 0.001),
        quota_questions.settle(keys, member, 0, [(int(time.time()), -1, 0, 0)]),
        quota_questions.reserve(keys, process, name, [offer], []),
    ):
        store.ask(question)
    return keys.line, keys.head, keys.mark, keys.pause(process), *member


def _lose(line: Line, error: Exception) -> None:
    for each in line.shut(error):
        each.settle(None)


def _ignore() -> None:
    """Nothing else waits for the store."""


def _server_of(client: Any) -> tuple[str | None, str]:
    """Name and version of the server, and the problem with it."""
    try:
        facts = client.info("server")
    except Exception:  # noqa: BLE001  (a user may run the functions without this right)
        return None, ""
    name = "valkey" if "valkey_version" in facts else "redis"
    version = str(facts[f"{name}_version"])
    old = int(version.partition(".")[0]) < OLDEST[name]
    too_old = f"{name} {version} is too old: use {OLDEST[name]} or newer"
    return f"{name} {version}", too_old if old else ""


def _hear(client: redis.Redis, channel: str) -> None:
    """Subscribe to `channel`, as an inbox does."""
    from redis.client import PubSub

    heard = PubSub(client.connection_pool)
    try:
        heard.subscribe(channel)
        heard.get_message(timeout=PATIENCE)
    finally:
        heard.close()


def _problem_of(error: Exception) -> str:
    name, text = type(error).__name__, str(error)
    if isinstance(error, ReplyError):
        name = error.kind
    if name == "NoPermissionError" or "ACL failure" in text or "can't run this command" in text:
        return _missing_right(text)
    for names, words, problem in _PROBLEMS:
        if name in names and words.lower() in text.lower():
            return problem
    if isinstance(error, OSError) or name in ("ConnectionError", "TimeoutError"):
        return f"the store does not answer ({name}): check that it runs, its host and its port"
    return f"the store cannot be used ({name})"


def _missing_right(text: str) -> str:
    """The part of the ACL line that is missing, as far as the server says it."""
    command_name = _COMMAND.search(text)
    right = None if command_name is None else f"+{command_name[1]}"
    if "channel" in text:
        right = f"&{PREFIX}*"
    elif "key" in text and right is None:
        right = f"~{PREFIX}*"
    if right is None:
        return "the user lacks a right: give it those that the page on fleets lists"
    return f"the user lacks a right: run ACL SETUSER with its name and {right}"
