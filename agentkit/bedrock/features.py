"""Leaving a feature out of a request, when that was allowed and a model refused it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Arguments = dict[str, Any]

_BLOCKS: Final = {"images": "image", "documents": "document", "video": "video"}


def without(arguments: Arguments, feature: str) -> Arguments | None:
    """A copy of Converse's arguments without `feature`; None when they do not use it.

    Features: tools, caching, documents, images, video, additional_fields. Nothing of the
    original is changed.
    """
    if feature == "tools":
        return _without_tools(arguments)
    if feature == "additional_fields":
        return _without_keys(arguments, "additionalModelRequestFields")
    if feature == "caching":
        return _without_blocks(arguments, "cachePoint", everywhere=True)
    return _without_blocks(arguments, _BLOCKS[feature])


def _without_keys(arguments: Arguments, *names: str) -> Arguments | None:
    if not any(name in arguments for name in names):
        return None
    return {name: value for name, value in arguments.items() if name not in names}


def _without_tools(arguments: Arguments) -> Arguments | None:
    used = any(
        "toolUse" in block or "toolResult" in block
        for message in arguments["messages"]
        for block in message["content"]
    )
    return None if used else _without_keys(arguments, "toolConfig")


def _without_blocks(
    arguments: Arguments, kind: str, *, everywhere: bool = False
) -> Arguments | None:
    found = False

    def kept(blocks: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        nonlocal found
        rest = [block for block in blocks if kind not in block]
        found = found or len(rest) != len(blocks)
        return rest

    changed = dict(arguments)
    messages = [{**each, "content": kept(each["content"])} for each in arguments["messages"]]
    if any(not each["content"] for each in messages):
        return None
    changed["messages"] = messages
    if everywhere:
        _everywhere(changed, kept)
    return changed if found else None


def _everywhere(
    changed: Arguments, kept: Callable[[list[Mapping[str, Any]]], list[Mapping[str, Any]]]
) -> None:
    if "system" in changed:
        changed["system"] = kept(changed["system"])
    if "toolConfig" in changed:
        tools = changed["toolConfig"]
        changed["toolConfig"] = {**tools, "tools": kept(tools["tools"])}
