"""The functions over shared state as Lua scripts, which Valkey and Redis run without a break.

`agentkit.state.local` has the same functions in Python. A script is addressed by its SHA-1, and
sent with its text once after the server has lost it. Time is the server's.
"""

from __future__ import annotations

import functools
from hashlib import sha1
from importlib.resources import files
from typing import Final, NamedTuple

from agentkit.state.resp import pack_arguments
from agentkit.types.fleet import Question

SERVER_TIME: Final = """\
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""
"""The function `now_ms` of every script. Tests replace it by one whose time they set."""

FUNCTIONS: Final = (
    "beat",
    "breaker_admit",
    "breaker_renew",
    "breaker_report",
    "breaker_reset",
    "breaker_settle",
    "budget_leave",
    "budget_spend",
    "leave",
    "quota_introduce",
    "quota_pause",
    "quota_reserve",
    "quota_settle",
    "quota_report",
    "quota_watch",
    "shared_claim",
    "shared_complete",
    "shared_renew",
)


class Script(NamedTuple):
    """A script with the digest by which a server knows it."""

    text: str
    digest: str


def read_function(name: str) -> str:
    """The text of a function with what it shares with others, without the clock.

    What all functions share is in ``_common.lua``, the family of ``quota_settle`` in
    ``_quota.lua``.
    """
    folder = files("agentkit.state").joinpath("lua")
    family = folder.joinpath(f"_{name.partition('_')[0]}.lua")
    found = (folder.joinpath("_common.lua"), family, folder.joinpath(f"{name}.lua"))
    return "".join(each.read_text("utf-8") for each in found if each.is_file())


@functools.cache
def script_of(name: str) -> Script:
    """The script of the function `name`."""
    text = SERVER_TIME + read_function(name)
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def pack_question(question: Question, *, by_digest: bool = True) -> bytes:
    """The bytes of the command that asks `question`."""
    keys, args = question.keys, question.args
    head = _head(question.function, by_digest, len(keys), len(args))
    return head + pack_arguments((*keys, *args))


@functools.lru_cache(maxsize=256)
def _head(function: str, by_digest: bool, keys: int, args: int) -> bytes:
    """The bytes of a command before its keys, which are the same for each of these questions."""
    script = script_of(function)
    first = ("EVALSHA", script.digest, keys) if by_digest else ("EVAL", script.text, keys)
    return b"*%d\r\n%b" % (len(first) + keys + args, pack_arguments(first))
