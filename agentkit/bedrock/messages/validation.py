"""Validation of messages, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentkit.bedrock.messages.formats import RolesEnum
from agentkit.bedrock.messages.limits import MAX_BLOCKS, MAX_CACHE_POINTS, MAX_OF_KIND
from agentkit.errors import RequestValidationError


def check_messages(messages: Any, system: Any = None, tool_config: Any = None) -> None:
    """Refuse what the service would refuse, with all problems at once.

    Messages and their content must be non-empty lists, roles known, and the first message the
    user's; blocks mappings with one key, and not too many blocks, images, documents and videos in a
    message; a document needs text beside it; and system, tools and messages together have at most
    four cache points.

    Raises:
        RequestValidationError: `validation_errors` lists each problem with its location.
    """
    problems = list(_problems(messages))
    if not problems:
        points = sum(map(_cache_points, (system, (tool_config or {}).get("tools"))))
        points += sum(_cache_points(message["content"]) for message in messages)
        if points > MAX_CACHE_POINTS:
            problems.append(
                f"{points} cache points in system, tools and messages; at most {MAX_CACHE_POINTS}"
            )
    if problems:
        raise RequestValidationError(
            f"the request has {len(problems)} problem(s): {problems[0]}",
            validation_errors=problems,
            hint="see validation_errors for all of them; nothing was sent",
        )


def _problems(messages: Any) -> Iterator[str]:
    if not _is_list(messages):
        yield f"messages must be a list, not {type(messages).__name__}"
        return
    if not messages:
        yield "messages is empty"
        return
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            yield f"messages[{number}] must be a mapping, not {type(message).__name__}"
            continue
        yield from (f"messages[{number}]: {problem}" for problem in _of_message(message))
    first = messages[0]
    if isinstance(first, Mapping) and first.get("role") == RolesEnum.ASSISTANT.value:
        yield "messages[0]: a conversation starts with the user"


def _of_message(message: Mapping[str, Any]) -> Iterator[str]:
    role = message.get("role")
    content: Any = message.get("content")
    if role not in {one.value for one in RolesEnum}:
        yield f"role must be 'user' or 'assistant', not {role!r}"
    if not _is_list(content):
        yield f"content must be a list of blocks, not {type(content).__name__}"
        return
    if not content:
        yield "content is empty"
    if len(content) > MAX_BLOCKS:
        yield f"{len(content)} blocks; at most {MAX_BLOCKS}"
    kinds: list[str] = []
    for place, block in enumerate(content):
        if not isinstance(block, Mapping) or len(block) != 1:
            yield f"content[{place}] must be a mapping with one key, the kind of the block"
        else:
            kinds.append(next(iter(block)))
    for kind, most in MAX_OF_KIND.items():
        if kinds.count(kind) > most:
            yield f"{kinds.count(kind)} blocks of kind {kind}; at most {most}"
    if "document" in kinds and "text" not in kinds:
        yield "a message with a document needs text as well"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _cache_points(entries: Any) -> int:
    return sum(isinstance(entry, Mapping) and "cachePoint" in entry for entry in entries or ())
